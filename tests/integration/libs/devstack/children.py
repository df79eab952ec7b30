"""Small programs to supervise, and what tests need to see what becomes of them."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from libs.devstack.process import Process

PATIENT = "import signal, sys; open(sys.argv[1], 'w').close(); signal.pause()"
"""Becomes ready, then waits for a signal."""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + PATIENT
"""Does not stop when it is asked to."""
PARENT = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True);" + PATIENT
"""Starts a process of its own and tells its pid in the log."""
REFUSING = "import sys; print('DARKROOM_SPEED is unknown', flush=True); sys.exit(2)"
"""Ends as services do whose settings are bad."""


def python_child(folder: Path, name: str, code: str, grace_s: float = 5.0) -> Process:
    """Return a process that runs `code`; it is ready when it has made the file NAME.ready in `folder`."""
    mark = folder / f"{name}.ready"

    async def is_ready() -> bool:
        return mark.exists()

    return Process(
        name=name,
        argv=(sys.executable, "-c", code, str(mark)),
        env=os.environ,
        is_ready=is_ready,
        log_path=folder / f"{name}.log",
        stop_grace_s=grace_s,
        start_timeout_s=20.0,
    )


def pid_of(folder: Path, name: str) -> int:
    """Return the pid in the pid file."""
    return int((folder / f"{name}.pid").read_text())


def pid_files(folder: Path) -> list[Path]:
    """Return the pid files there are."""
    return list(folder.glob("*.pid"))


def is_running(pid: int) -> bool:
    """Return whether the process exists and is no zombie (the init of a container may never collect those)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def ended(pid: int, within_s: float = 10.0) -> None:
    """Wait until a process that is not our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(within_s):
            await gone.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


class Console:
    """Collects what the supervisor says; `until` waits for a line."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = asyncio.Event()

    def say(self, line: str) -> None:
        """Take a line."""
        self.lines.append(line)
        self._more.set()

    async def until(self, text: str, within_s: float = 20.0) -> str:
        """Return the first line that holds `text`, when it has been said."""
        async with asyncio.timeout(within_s):
            while True:
                found = next((line for line in self.lines if text in line), None)
                if found is not None:
                    return found
                self._more.clear()
                await self._more.wait()
