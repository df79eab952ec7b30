"""A Redis for stacks and tests: its program, its command line, and how to ask whether it serves."""

from __future__ import annotations

import asyncio
from pathlib import Path

from libs.devstack import binaries
from libs.devstack.process import Probe
from libs.rpc import deadlines

EMBEDDED = "embedded"
_SCHEMES = ("redis://", "rediss://", "unix://")


def is_choice(value: str) -> str | None:
    """Check a setting: nothing, `embedded`, or the address of a Redis that others run."""
    fine = not value or value == EMBEDDED or value.startswith(_SCHEMES)
    return None if fine else f"must be empty, {EMBEDDED}, or an address like redis://host:6379/0"


def command(address: str, folder: Path, fsync: str = "everysec") -> tuple[str, ...]:
    """Return the command line of a server on `host:port` that keeps its data in `folder`.

    Every change is written to a file, and that file to the disk as `fsync` says: `everysec`, `always` or `no`.
    """
    host, _, port = address.rpartition(":")
    flags = {"port": port, "bind": host, "dir": str(folder), "appendonly": "yes", "appendfsync": fsync, "save": ""}
    return (binaries.find_redis(), *(part for name, value in flags.items() for part in (f"--{name}", value)))


def answers(address: str) -> Probe:
    """Return a probe: does PING get its answer, which a server that still loads its file does not give?"""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(deadlines.HEALTH_S):
                return await _ping(address) == b"+PONG\r\n"
        except (OSError, TimeoutError):
            return False

    return probe


async def _ping(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(b"PING\r\n")
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()
