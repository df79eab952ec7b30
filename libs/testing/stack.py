"""A whole stack for end-to-end tests, started as people start it: a child process, watched through its console."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from libs.devstack import launcher
from libs.devstack.environment import inherited
from libs.devstack.folder import DataFolder
from libs.devstack.up import READY_LINE

_START_LIMIT_S = 240.0
_STOP_LIMIT_S = 90.0
_RESTART_LIMIT_S = 60.0


class StackBroken(AssertionError):
    """The stack did not do what was waited for; the message holds the end of its console."""


class RunningStack:
    """One stack in a data folder of its own, with a free port for its door, on the CPU unless told otherwise.

    A thread reads the console, so it belongs to no event loop and may be shared by tests. Start it on the main
    thread: it is told to stop when the thread that started it is gone.
    """

    def __init__(self, data: Path, variables: Mapping[str, str] | None = None) -> None:
        self.folder = DataFolder(data.absolute())
        self._variables = dict(variables or {})
        self._process: subprocess.Popen[str] | None = None
        self._console = _Console()
        self._killed_at: dict[str, int] = {}

    def start(self) -> None:
        """Start it and wait until it serves; raises StackBroken when it does not."""
        self.launch()
        try:
            self._console.wait_for(rf"^{READY_LINE} ", 0, _START_LIMIT_S)
        except StackBroken:
            self.stop()
            raise

    def launch(self) -> None:
        """Start it without waiting."""
        self._killed_at.clear()
        self._process = subprocess.Popen(
            launcher.command((sys.executable, "-m", "libs.devstack"), signal.SIGTERM),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._console = _Console()
        threading.Thread(target=self._console.read, args=(self._process.stdout,), daemon=True).start()

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it, by Ctrl-C's signal unless told otherwise; return its exit status."""
        process = self._process
        if process is None:
            return 0
        self._process = None
        if process.poll() is None:
            process.send_signal(number)
        try:
            return process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise StackBroken(f"it did not stop in {_STOP_LIMIT_S:.0f} s:\n{self.console()}") from None

    @property
    def base_url(self) -> str:
        """`http://host:port` of the door, or `https://…`."""
        return f"{self.addresses['scheme']}://{self.addresses['http']}"

    @property
    def addresses(self) -> dict[str, Any]:
        """What `run/addresses.json` says."""
        document: dict[str, Any] = json.loads(self.folder.addresses.read_text())
        return document

    @property
    def key(self) -> str:
        """The development key."""
        return self.folder.first_key.read_text().strip()

    @property
    def supervisor_pid(self) -> int:
        """Process id of the stack itself."""
        assert self._process is not None, "the stack is not running"
        return self._process.pid

    def names(self) -> list[str]:
        """Return the names of the processes that run now."""
        return sorted(path.stem for path in self.folder.run.glob("*.pid"))

    def pid(self, name: str) -> int:
        """Return the process id of `name`, as it stands in its pid file."""
        return int((self.folder.run / f"{name}.pid").read_text())

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process. `wait_ready` then waits for the one that takes its place."""
        self._killed_at[name] = self._console.length()
        os.kill(self.pid(name), number)

    async def wait_ready(self, name: str) -> None:
        """Wait until `name` is ready; after `kill`, until it is ready again."""
        since = self._killed_at.get(name, 0)
        await asyncio.to_thread(self._console.wait_for, rf" {re.escape(name)} is ready", since, _RESTART_LIMIT_S)

    def wait_said(self, pattern: str, within_s: float = _RESTART_LIMIT_S) -> str:
        """Wait for a line of the console that matches a regular expression, and return it. Blocks its thread."""
        return self._console.wait_for(pattern, 0, within_s)

    def console(self, lines: int = 40) -> str:
        """Return the end of what the stack has printed."""
        return self._console.tail(lines)

    def log(self, name: str) -> str:
        """Return the whole log of a process."""
        return (self.folder.logs / f"{name}.log").read_text(errors="replace")

    def _environment(self) -> dict[str, str]:
        parent = {name: value for name, value in inherited(os.environ).items() if not name.startswith("OTEL_")}
        own = {"DARKROOM_DATA": str(self.folder.root), "DARKROOM_HTTP_PORT": "0", "DARKROOM_DEVICES": "cpu"}
        own |= {"DARKROOM_BURSTS": "off", "DARKROOM_WRONG_KEYS_PER_MIN": "1e6"}  # all tests call from one address
        return {**parent, **own, **self._variables}


class _Console:
    """What one run of a stack prints, read by a thread."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._over = False
        self._more = threading.Condition()

    def read(self, output: IO[str]) -> None:
        """Take every line until the end."""
        with output:
            for line in output:
                with self._more:
                    self._lines.append(line.rstrip("\n"))
                    self._more.notify_all()
        with self._more:
            self._over = True
            self._more.notify_all()

    def length(self) -> int:
        """Return how many lines there are now."""
        with self._more:
            return len(self._lines)

    def tail(self, lines: int = 40) -> str:
        """Return the last lines."""
        with self._more:
            return "\n".join(self._lines[-lines:])

    def wait_for(self, pattern: str, since: int, within_s: float) -> str:
        """Return the first line from number `since` on that matches; raises StackBroken when none will."""

        def found() -> str | None:
            return next((line for line in self._lines[since:] if re.search(pattern, line)), None)

        with self._more:
            self._more.wait_for(lambda: self._over or found() is not None, within_s)
            line, over = found(), self._over
        if line is None:
            why = "the stack ended" if over else f"not in {within_s:.0f} s"
            raise StackBroken(f"waited for {pattern!r}: {why}\n{self.tail()}")
        return line
