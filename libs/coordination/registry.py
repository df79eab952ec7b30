"""The seam between what is announced and how: two adapters keep these promises, one suite checks them.

Promises:
1. A key put into a presence is seen by every watch of its prefix while the presence runs, and in the end with the
   value put last; values in between may never be seen.
2. A presence that stops takes its keys along: at once when it is cancelled, within its lease when it is killed.
3. A watch yields the whole state of its prefix each time, first what is there when it starts. Revisions do not go
   back, except when the store itself was replaced.
4. A watch never ends and never fails because the store is gone: it repeats its last state once with `stale_since`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All keys under a prefix. `stale_since` (Unix seconds) is set while the store cannot be reached."""

    values: Mapping[str, bytes]
    revision: int
    stale_since: float | None = None


class Presence(Protocol):
    """Keys that live as long as whoever runs this."""

    def put(self, key: str, value: bytes) -> None:
        """Keep a key at this value from now on; returns at once, `run` does the writing."""
        ...

    def remove(self, key: str) -> None:
        """Keep a key no longer."""
        ...

    async def run(self) -> None:
        """Hold the keys until cancelled, then withdraw them."""
        ...


class Registry(Protocol):
    """Where processes say that they are alive."""

    def announce(self, lease_ttl_s: int) -> Presence:
        """Make a presence whose keys go at most about `lease_ttl_s` seconds after its process died."""
        ...

    def watch(self, prefix: str) -> AsyncGenerator[Snapshot, None]:
        """Follow a prefix for ever; close it with `contextlib.aclosing`."""
        ...
