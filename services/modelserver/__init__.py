"""The process that draws: one device, one thread that owns it.

Authority for: what runs on its device now, and which of its model folders are usable. For nothing durable: a job's
state is the scheduler's; an attempt dies with this process and the scheduler sees it by the lease in etcd.

Main path: servicer.py → attempts.py (one record an attempt, attach or start) → worker.py (the device thread) →
engine/ (load, draw) → delivery.py (encode the pictures, put them into the blob store, tell) → the streams that follow.

An attempt is waiting → drawing → storing → over; over is done or failed, and is remembered for ten minutes, so that a
scheduler that lost the stream can attach again and read it. At most one attempt draws and one waits.

Peers gone: etcd – goes on drawing, announces itself again later. Scheduler – the attempt runs to its end and its
outcome waits. Blob store – the attempt fails as a passing fault. A broken model folder is listed with the reason and
the others serve.
"""
