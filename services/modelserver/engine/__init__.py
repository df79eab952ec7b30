"""What turns requests into pixels: the `Engine` seam (protocol.py) and who keeps it.

stepwise.py draws many requests side by side with real models; fake.py does without weights. Torch and diffusers are
imported here and nowhere else. Authority for: what is in the device's memory, and which rows share a forward.

From the top: stepwise (the loop) → line (who begins), runs (what is under way), batcher (one forward), side_work
(encode, decode), residency (models) → pipeline_run (one call as a coroutine), packing, checkpoint, batch_table.
"""
