"""Where pictures are kept: write-once objects, named by the hash of their content; for a while checkpoints and uploads.

The seam is `BlobStore` (store.py); two adapters keep its promises: `ObjectBlobs` (objects.py: a folder or S3) and
`MemoryBlobs` (memory.py). `opening.py` picks one from a setting; `uploads.py` says where uploads lie and how long they
are good. The store is gone: every call fails with Unavailable within its deadline, and nothing is half written.
"""
