"""Which workers are alive and what they can take: the record, who writes it, who reads it.

A modelserver runs an `Announcer` (announce.py); schedulers run a `Directory` (directory.py); both speak of the
`WorkerRecord` (record.py) with its `ModelRows` (model_rows.py). Authority for nothing: the worker itself decides what it accepts.

etcd gone: announcers go on trying, directories keep the last known fleet and say since when it is stale.
"""
