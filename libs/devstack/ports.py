"""Free loopback ports for servers that must keep theirs over a restart."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

# Below the ephemeral range (from 32768 on Linux): no outgoing connection can take the port while its server restarts.
_FIRST, _LAST = 20_000, 32_000
_MOST_TRIES = 1_000


def free_port(taken: Collection[int] = ()) -> int:
    """Return a port on 127.0.0.1, 20000 to 32000 and not in `taken`, that nobody listens on now.

    Raises OSError when none is found.
    """
    for _ in range(_MOST_TRIES):
        port = random.randint(_FIRST, _LAST)
        if port not in taken and _is_free(port):
            return port
    raise OSError(f"no free port from {_FIRST} to {_LAST} found in {_MOST_TRIES} tries")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
