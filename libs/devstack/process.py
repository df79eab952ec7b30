"""What the supervisor runs: a command line with its environment, its log, and how to know that it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from libs.devstack import launcher

Probe = Callable[[], Awaitable[bool]]

_LOG_LIMIT_BYTES = 32 * 1024 * 1024
_TAIL_BYTES = 64 * 1024
BAD_SETTINGS = 2


@dataclass(frozen=True, slots=True)
class Process:
    """One program to keep running.

    `env` is its whole environment. `is_ready` is asked again and again; it answers within a second or two.
    An exit status in `hopeless` is never answered with a restart.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    is_ready: Probe
    log_path: Path
    stop_grace_s: float = 10.0
    start_timeout_s: float = 60.0
    niceness: int = 0
    hopeless: frozenset[int] = frozenset({BAD_SETTINGS})


class ProcessFailed(Exception):
    """A process that restarting will not help; the message ends with the last lines of its log."""


async def spawn(process: Process) -> asyncio.subprocess.Process:
    """Start it in a session of its own, its output appended to its log; it is killed when this process ends."""
    descriptor = os.open(process.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return await asyncio.create_subprocess_exec(
            *launcher.command(process.argv, signal.SIGKILL, process.niceness),
            env=dict(process.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the whole process group that `pid` leads, if any of it is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def how_it_ended(status: int) -> str:
    """Return `exited with status 3` or `was ended by SIGKILL`."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def rotate_log(path: Path) -> int:
    """Set a log aside that grew too large, as `NAME.log.1`; return where the next output will begin, in bytes."""
    size = path.stat().st_size if path.exists() else 0
    if size > _LOG_LIMIT_BYTES:
        path.replace(path.with_name(path.name + ".1"))
        return 0
    return size


def log_tail(path: Path, start: int, lines: int = 20) -> str:
    """Return the last lines that were written to a log after byte `start`, indented."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(start, end - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        text = f"(cannot read the log: {error.strerror})"
    return "\n".join("    " + line for line in text.splitlines()[-lines:]) or "    (it wrote nothing)"
