"""What turns a request into pixels: the `Engine` seam (protocol.py) and who keeps it.

whole.py runs any diffusers pipeline as it is; fake.py draws without weights. Torch and diffusers are imported here
and nowhere else. Authority for: what is in the device's memory.
"""
