"""The process that draws: one device, one thread that owns it.

Authority for: what runs on its device now, and which of its model folders are usable. For nothing durable: a job's
state is the scheduler's; an attempt dies with this process and the scheduler sees it by the lease in etcd.

Main path: servicer.py → attempts.py (one record an attempt, attach or start) → worker.py (takes in, stops, hands back)
→ intake.py (inputs, checkpoint) → device_thread.py (admit, tick) → engine/ (draws) → attempt_run.py (what the engine
says) → delivery.py (encode the pictures, put them into the blob store, tell) → the streams that follow.

An attempt is fetching → waiting → drawing (or parked) → storing → over; over is done or failed, and is remembered for
ten minutes, so that a scheduler that lost the stream can attach again and read it. As many attempts are here as pay to
be drawn together, as measured, and one more.

Peers gone: etcd – goes on drawing, announces itself again later. Scheduler – the attempt runs to its end and its
outcome waits. Blob store – results are held and stored later, meanwhile nothing new is taken; checkpoints are left
out. The device does not answer – the watchdog ends every attempt as lost and the process, and says why. A broken model
folder is listed with the reason and the others serve.
"""
