"""A Redis for stacks and tests: its program, its command line, and how to ask whether it serves.

It listens on loopback, where everybody on the machine can reach it, so it asks for a password. That stands in a file
which only its owner can read: a command line can be read by all.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from libs.devstack import binaries
from libs.devstack.process import Probe
from libs.rpc import deadlines
from libs.secret_files import write_private

EMBEDDED = "embedded"
_SCHEMES = ("redis://", "rediss://", "unix://")
_SETTINGS = "redis.conf"


def is_choice(value: str) -> str | None:
    """Check a setting: nothing, `embedded`, or the address of a Redis that others run."""
    fine = not value or value == EMBEDDED or value.startswith(_SCHEMES)
    return None if fine else f"must be empty, {EMBEDDED}, or an address like redis://host:6379/0"


def url(address: str, password: str) -> str:
    """Return how clients name the server on `host:port`; a password of `secrets.token_urlsafe` needs no quoting."""
    return f"redis://:{password}@{address}/0"


def configure(folder: Path, password: str) -> None:
    """Write what the server must not be told on its command line; before `command` runs."""
    write_private(folder / _SETTINGS, f"requirepass {password}\n")


def command(address: str, folder: Path, fsync: str = "everysec") -> tuple[str, ...]:
    """Return the command line of a server on `host:port` that keeps its data in `folder`, where `configure` wrote.

    Every change is written to a file, and that file to the disk as `fsync` says: `everysec`, `always` or `no`.
    """
    host, _, port = address.rpartition(":")
    flags = {"port": port, "bind": host, "dir": str(folder), "appendonly": "yes", "appendfsync": fsync, "save": ""}
    flat = (part for name, value in flags.items() for part in (f"--{name}", value))
    return (binaries.find_redis(), str(folder / _SETTINGS), *flat)


def answers(address: str, password: str) -> Probe:
    """Return a probe: does PING get its answer, which a server that still loads its file does not give?"""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(deadlines.HEALTH_S):
                return await _ping(address, password) == b"+PONG\r\n"
        except (OSError, TimeoutError):
            return False

    return probe


async def _ping(address: str, password: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(f"AUTH {password}\r\nPING\r\n".encode())
        await writer.drain()
        await reader.readline()  # a wrong password is told by the next answer, too
        return await reader.readline()
    finally:
        writer.close()
