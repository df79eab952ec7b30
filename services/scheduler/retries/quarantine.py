"""Workers that fail whatever they are given are kept apart, so that they do not eat the queue. Pure.

A worker that failed FAILURES distinct jobs since its last success is kept apart for REST_S; then it gets one job at a
time. A success sets it free, another failure keeps it twice as long. A restarted worker is new.

Bad jobs must not do that to good workers: a job that failed on a second worker, and succeeded on none, counts against
neither; if it succeeds somewhere in the end, it counts against all on which it failed. And never more than half of
the workers are kept apart: when most of them fail, the fault is elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from libs.ids import JobId, WorkerId
from services.scheduler.placement.seats import Incarnation

FAILURES = 3  # distinct jobs in a row
REST_S, MOST_REST_S = 300.0, 3600.0


@dataclass(frozen=True, slots=True)
class Kept:
    """A worker is kept apart until a moment in Unix seconds, this time for `rest_s`; after that it is on trial."""

    until: float
    rest_s: float


class Quarantine:
    """What workers failed lately, and which are kept apart."""

    def __init__(self, failures: int = FAILURES) -> None:
        self._failures = failures
        self._streaks: dict[Incarnation, dict[JobId, None]] = {}  # jobs failed since the last success
        self._failed_on: dict[JobId, list[Incarnation]] = {}  # of jobs that are open, once a failure
        self._kept: dict[Incarnation, Kept] = {}

    @property
    def kept(self) -> Mapping[Incarnation, Kept]:
        """The workers that are kept apart or on trial."""
        return self._kept

    def succeeded(self, worker: Incarnation, job_id: JobId, now: float, alive: Collection[Incarnation]) -> None:
        """A worker drew a job: it is good, the job is good, and those that failed it may not be."""
        self._streaks.pop(worker, None)
        self._kept.pop(worker, None)
        for other in self._failed_on.pop(job_id, ()):
            if other != worker:
                self._judge(other, now, alive)

    def failed(self, worker: Incarnation, job_id: JobId, now: float, alive: Collection[Incarnation]) -> bool:
        """A worker failed a job. Returns whether the worker is at fault: then the attempt does not count."""
        before = self._failed_on.setdefault(job_id, [])
        before.append(worker)
        self._streaks.setdefault(worker, {})[job_id] = None
        if self._is_suspect(job_id):
            for other in set(before):
                self._acquit(other, now)
            return worker in self._kept
        on_trial = self._kept.get(worker)
        if on_trial is not None and on_trial.until <= now:
            rest_s = min(2 * on_trial.rest_s, MOST_REST_S)
            self._kept[worker] = Kept(now + rest_s, rest_s)
        self._judge(worker, now, alive)
        return worker in self._kept

    def refunds(self, job_id: JobId) -> int:
        """Return how many attempts at a job failed on workers that are kept apart now."""
        return sum(worker in self._kept for worker in self._failed_on.get(job_id, ()))

    def over(self, job_id: JobId) -> None:
        """A job is open no more. One that failed everywhere says nothing about workers."""
        if self._is_suspect(job_id):
            for streak in self._streaks.values():
                streak.pop(job_id, None)
        self._failed_on.pop(job_id, None)

    def forget_others(self, alive: Collection[Incarnation]) -> None:
        """Forget workers that are gone or started anew."""
        self._streaks = {worker: streak for worker, streak in self._streaks.items() if worker in alive}
        self._kept = {worker: kept for worker, kept in self._kept.items() if worker in alive}

    def to_document(self) -> dict[str, Any]:
        """Return what is kept in the store: who is kept apart."""
        kept = [[*worker, kept.until, kept.rest_s] for worker, kept in sorted(self._kept.items())]
        return {"kept": kept}

    def restore(self, document: Mapping[str, Any]) -> None:
        """Take up what was kept in the store."""
        for worker, incarnation, until, rest_s in document["kept"]:
            self._kept[WorkerId(worker), incarnation] = Kept(until, rest_s)

    def _judge(self, worker: Incarnation, now: float, alive: Collection[Incarnation]) -> None:
        if worker in self._kept or self._weight(worker) < self._failures:
            return
        apart = sum(other in alive for other in self._kept)
        if 2 * (apart + 1) <= len(alive):
            self._kept[worker] = Kept(now + REST_S, REST_S)

    def _acquit(self, worker: Incarnation, now: float) -> None:
        """Set a worker free that was kept apart for what turns out to be the fault of jobs."""
        kept = self._kept.get(worker)
        first_rest = kept is not None and kept.rest_s == REST_S and kept.until > now
        if first_rest and self._weight(worker) < self._failures:
            del self._kept[worker]

    def _weight(self, worker: Incarnation) -> int:
        return sum(not self._is_suspect(job_id) for job_id in self._streaks.get(worker, ()))

    def _is_suspect(self, job_id: JobId) -> bool:
        return len({worker for worker, _ in self._failed_on.get(job_id, ())}) > 1
