"""How long a call may take, in seconds. Call sites name one of these and never write a number."""

from __future__ import annotations

# A decision is milliseconds and a limiter that is gone refuses at once: this is for one that stands still. With one
# second, a hundred creating calls at once on a machine whose cores all draw had some of them refused.
LIMITER_S = 3.0
READ_S = 5.0  # reading from memory or SQL
COMMIT_S = 10.0  # an answer that waits for a commit
CONTROL_S = 5.0  # telling a model server something
DESCRIBE_S = 60.0  # a model server hashing its folders at its first start
ADMIN_S = 10.0  # an operator's call
EXPORT_S = 600.0  # an operator reading a year of usage
STREAM_S = 24 * 3600.0  # streams live as long as their subject; keepalive finds dead peers
EXECUTE_S = 6 * 3600.0  # the longest attempt; the run limit of a model is far below
READY_S = 60.0  # a process coming up
HEALTH_S = 2.0  # asking a peer whether it serves
ETCD_S = 2.0  # one unary call to etcd
BLOB_S = 60.0  # moving one picture
UPLOAD_S = 120.0  # a picture on its way in over a slow line
