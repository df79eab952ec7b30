"""Moments that processes note while they are measured, as lines of a file: kind, job, seconds, worker.

Seconds are of the machine's monotonic clock, which all processes share.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.clock import SystemClock

CLOCK = SystemClock()
FLUSH_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Note:
    """Something happened to a job at a moment."""

    kind: str
    job: str
    at_s: float
    worker: str = ""


class Notebook:
    """Collects notes; they are in the file a moment later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []

    def add(self, kind: str, job: str, worker: str = "") -> None:
        """Note something that happens now."""
        self._lines.append(f"{kind} {job} {time.monotonic():.6f} {worker}\n")

    def flush(self) -> None:
        """Write what was noted since the last time."""
        lines, self._lines = self._lines, []
        with self._path.open("a") as file:
            file.writelines(lines)

    async def run(self) -> None:
        """Flush again and again until cancelled."""
        while True:
            await CLOCK.sleep(FLUSH_EVERY_S)
            self.flush()


class Reader:
    """Reads the notes of several files as they grow."""

    def __init__(self, paths: list[Path]) -> None:
        self._read = dict.fromkeys(paths, 0)

    def news(self) -> Iterator[Note]:
        """Yield what was added since the last time."""
        for path, start in self._read.items():
            if not path.exists():
                continue
            with path.open() as file:
                file.seek(start)
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            self._read[path] = start + len(whole)
            for line in whole.splitlines():
                kind, job, at_s, worker = line.split(" ")
                yield Note(kind, job, float(at_s), worker)
