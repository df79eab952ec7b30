"""The scheduler's process as it is, noting when jobs are committed, begun and over: `python -m … NOTES [PROFILE]`.

    A  a job is accepted: its commit is known        S  its attempt is committed, on a worker
    F  a worker's row is free again                  E  a job is over, committed

With PROFILE, it looks again and again where it is, and writes down where it was seen.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from libs.fleet.record import WorkerRecord
from libs.ids import JobId
from libs.rpc import process
from services.scheduler import app
from services.scheduler.job import Job
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.placement.fleet import Fleet
from services.scheduler.settings import Settings
from tests.bench.mesh_parts.notes import Notebook

_LOOK_EVERY_S = 0.004


def take_notes(book: Notebook) -> None:
    """Note what the memory is told from now on."""
    accepted, started, ended, take_back = OpenJobs.accepted, OpenJobs.started, OpenJobs.ended, Fleet.take_back

    def note_accepted(self: OpenJobs, job: Job) -> None:
        book.add("A", job.id)
        accepted(self, job)

    def note_started(self: OpenJobs, job: Job, worker: WorkerRecord, *rest: Any, **more: Any) -> None:
        book.add("S", job.id, worker.worker_id)
        started(self, job, worker, *rest, **more)

    def note_ended(self: OpenJobs, job: Job) -> None:
        book.add("E", job.id)
        ended(self, job)

    def note_free(self: Fleet, record: WorkerRecord, job_id: JobId) -> None:
        book.add("F", job_id, record.worker_id)
        take_back(self, record, job_id)

    for of, name, note in (
        (OpenJobs, "accepted", note_accepted),
        (OpenJobs, "started", note_started),
        (OpenJobs, "ended", note_ended),
        (Fleet, "take_back", note_free),
    ):
        setattr(of, name, note)


class Sampler:
    """Looks where the main thread is, each time the process has used some more CPU."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: Counter[str] = Counter()
        self._within: Counter[str] = Counter()
        self._looks = 0

    def start(self) -> None:
        """Look from now on."""
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, _LOOK_EVERY_S, _LOOK_EVERY_S)

    def _look(self, _number: int, frame: Any) -> None:
        seen = set()
        self._looks += 1
        if frame is not None:
            self._own[_name(frame)] += 1
        while frame is not None:
            seen.add(_name(frame))
            frame = frame.f_back
        self._within.update(seen)
        if self._looks % 500 == 0:
            self._write()

    def _write(self) -> None:
        for counts, name in ((self._own, "own"), (self._within, "within")):
            rows = [f"{100 * count / self._looks:6.2f} % {where}\n" for where, count in counts.most_common(200)]
            self._path.with_suffix(f".{name}").write_text("".join(rows))


def _name(frame: Any) -> str:
    code = frame.f_code
    return f"{'/'.join(Path(code.co_filename).parts[-3:])}:{code.co_qualname}"


async def main(settings: Settings) -> None:
    """Serve, noting."""
    book = Notebook(Path(sys.argv[1]))
    take_notes(book)
    if len(sys.argv) > 2:
        Sampler(Path(sys.argv[2])).start()
    noting = asyncio.create_task(book.run())
    try:
        await app.main(settings)
    finally:
        noting.cancel()
        book.flush()


if __name__ == "__main__":
    process.run("scheduler", Settings, main)
