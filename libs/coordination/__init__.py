"""Who is alive, and who should try to lead: etcd, and the same promises in memory.

Authority for nothing that restarting processes cannot rebuild. This is the only package that talks to etcd.

    Registry (registry.py)      the seam: announce keys that live as long as their process, watch a prefix
    ├── EtcdRegistry            Session (lease.py) + watch_prefix (watch.py) over EtcdClient (client.py)
    └── MemoryRegistry          one process, no etcd
    Election (election.py)      at most one leader a key, as far as etcd can promise it

States of a session: no lease -> held -> lost -> (new lease) held -> ... -> closed (revoked).
A lease counts as lost on a *local* deadline that passes before the server can expire it, so a process that
cannot reach etcd stops believing in its lease before anybody else may act on its absence.

etcd gone: a session grants anew for ever with jitter and writes its keys again; a watch repeats its last snapshot
once, marked with `stale_since`, and goes on from its last event when etcd is back, or lists anew when it cannot.
"""
