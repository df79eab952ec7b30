"""The jobs that are not ended, in memory: an index over the store, rebuilt from it at the start.

Whoever commits a change of a job tells it here, once, after the commit; from here it reaches the order, the
readers and the metrics.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Protocol

from libs.alarm import Alarm
from libs.clock import Clock
from libs.fleet.record import WorkerRecord
from libs.ids import JobId, WorkerId
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.instruments import Instruments
from services.scheduler.job import Job, JobState
from services.scheduler.long_lived import LongLived
from services.scheduler.open_job import Book
from services.scheduler.order.deadlines import Deadlines
from services.scheduler.order.ordering import Ordering, Waiting
from services.scheduler.placement.backlog import Backlog
from services.scheduler.placement.popularity import Popularity
from services.scheduler.results.joined_runs import JoinedRuns
from services.scheduler.results.reuse import waits_for_a_run


class Follower(Protocol):
    """Who is told of every change, after the memory has it."""

    def queued(self, job: Job) -> None:
        """A job waits (again)."""
        ...

    def started(self, job: Job, began_at: float) -> None:
        """An attempt runs on `job.worker`; told again when somebody else takes over the run."""
        ...

    def ended(self, job: Job) -> None:
        """A job is in its final state; told before `gone`."""
        ...

    def gone(self, job_id: JobId) -> None:
        """A job is not open any more."""
        ...


class OpenJobs:
    """QUEUED and RUNNING jobs by id, and their order."""

    def __init__(self, hub: WatchHub, instruments: Instruments, clock: Clock) -> None:
        self._hub, self._instruments, self._clock = hub, instruments, clock
        self._entries = Book()
        self._deadlines = Deadlines()
        self.ordering = Ordering()
        self.beginning = set[JobId]()  # their attempts are being committed: the dispatcher says what becomes of them
        self.backlog = Backlog()
        self.popularity = Popularity()
        self.joined = JoinedRuns()
        self._hub.audience = self.joined.audience
        self.work = Alarm(clock)  # rings the dispatcher
        self.deadline = Alarm(clock)  # rings the expirer
        self.followers: list[Follower] = [LongLived(self.ordering)]
        self.run_over = Alarm(clock)  # rings the follower
        self.on_outbox: Callable[[], None] = _nobody  # rings the outbox
        self.on_ended: Callable[[Job], None] = _nobody_else  # tells who clears up behind it

    def get(self, job_id: JobId) -> Job | None:
        """Return an open job."""
        entry = self._entries.get(job_id)
        return entry.job if entry else None

    def accepted(self, job: Job) -> None:
        """A new job was committed; with pictures that lay there it has ended already."""
        self._instruments.answered(job)
        (self.queued if job.open else self.ended)(job)

    def queued(self, job: Job) -> None:
        """A job waits: it is new, or an attempt was lost. News that is older than what is known changes nothing."""
        known = self.get(job.id)
        if known is None:
            self.popularity.note(job.model_version, job.created_at)
        elif _age(job) < _age(known):
            return
        entry = self._entries.keep(job)
        entry.worker, entry.followed, entry.recalled = None, False, False
        self._hub.attempt_over(job.id)
        self.ordering.gone(job.id)
        if waits_for_a_run(job):
            self._join(job)
        else:
            self.joined.leave(job.id)
            self.ordering.add(_waiting(job), self._clock.now())
            self.backlog.remove(job.id)  # another model may have taken over
            self.backlog.add(job.id, job.model_version, job.estimated_units)
            _tell(self.followers, lambda follower: follower.queued(job))
        if job.deadline_at is not None:
            self._deadlines.add(job.deadline_at, job.id, self._entries)
            self.deadline.ring()
        self._hub.mark(job.id)
        self.work.ring()
        self.on_outbox()

    def chosen(self, job_id: JobId) -> None:
        """A job was given to a worker, and its attempt is being committed: it does not wait any more."""
        self.ordering.started(job_id, self._clock.now())
        self.backlog.remove(job_id)

    def started(self, job: Job, worker: WorkerRecord, began_at: float) -> None:
        """An attempt runs on a worker since `began_at`."""
        entry = self._entries.keep(job)
        entry.worker, entry.followed = worker, True
        self.ordering.started(job.id, began_at)
        self.backlog.remove(job.id)
        self._instruments.attempt_started(job, began_at)
        self._hub.mark(job.id)
        _tell(self.followers, lambda follower: follower.started(job, began_at))

    def taken_up(self, job: Job) -> None:
        """An attempt runs since an earlier leader and is followed from now on."""
        entry = self._entries.keep(job)
        entry.followed = True
        if job.cancel_requested:
            entry.stop_signal().set()
        self.ordering.taken_up(_waiting(job))
        self.joined.goes_on(job)
        self._hub.mark(job.id)
        _tell(self.followers, lambda follower: follower.started(job, job.started_at or job.queued_at))

    def handed_over(self, gone: Job, heir: Job) -> bool:
        """A joiner took over a run whose owner went. False when that run is not followed here any more."""
        before, entry = self._entries.get(gone.id), self._entries.keep(heir)
        goes_on = before is not None and before.followed
        if before is not None and goes_on:
            entry.take_over(before)
            self.joined.take_over(gone.id, heir)
            _tell(self.followers, lambda follower: follower.started(heir, heir.started_at or heir.queued_at))
        if before is not None:
            self.ended(gone)
        self._hub.mark(heir.id)
        return goes_on

    def ended(self, job: Job) -> None:
        """A job is in its final state; told once, by whoever brought it there."""
        self._instruments.job_ended(job)
        self.on_outbox()
        if not self._entries.came_back(job):
            _tell(self.followers, lambda follower: follower.ended(job))
            self.gone(job.id)
            self.on_ended(job)

    def gone(self, job_id: JobId) -> None:
        """A job is not open any more, or is not known to the store."""
        self.ordering.gone(job_id, runs=self.runs(job_id))
        self._entries.forget(job_id)
        self.backlog.remove(job_id)
        self._hub.attempt_over(job_id)
        self._hub.mark(job_id)
        _tell(self.followers, lambda follower: follower.gone(job_id))
        self.joined.leave(job_id)
        if self.joined.over(job_id):
            self.run_over.ring()

    def stop_signal(self, job_id: JobId) -> asyncio.Event:
        """Return the signal that a job's owner wants it stopped; already ended jobs have one nobody hears."""
        entry = self._entries.get(job_id)
        return entry.stop_signal() if entry else asyncio.Event()

    def avoid(self, job_id: JobId, worker: WorkerId) -> None:
        """Prefer other workers for a job from now on."""
        entry = self._entries.get(job_id)
        if entry is not None:
            entry.avoid |= {worker}

    def drew(self, job_id: JobId) -> None:
        """An attempt began to draw: the job does not expire any more."""
        entry = self._entries.get(job_id)
        if entry is not None:
            entry.drew = True

    def recall(self, job_id: JobId) -> Job | None:
        """Note that a running job is taken back from its worker, and return it; None when it does not run."""
        entry = self._entries.get(job_id)
        if entry is None or not entry.followed:
            return None
        entry.recalled = True
        return entry.job

    def recalled(self, job_id: JobId) -> bool:
        """Return whether a running job was taken back."""
        entry = self._entries.get(job_id)
        return entry is not None and entry.recalled

    def leave_alone(self, job_id: JobId) -> None:
        """Give the job a worker of its own from now on."""
        entry = self._entries.get(job_id)
        if entry is not None:
            entry.alone = True

    def alone(self, job_id: JobId) -> bool:
        """Return whether a job wants a worker of its own."""
        entry = self._entries.get(job_id)
        return entry is not None and entry.alone

    def avoided(self, job_id: JobId) -> frozenset[WorkerId]:
        """Return the workers that come last for a job."""
        entry = self._entries.get(job_id)
        return entry.avoid if entry else frozenset()

    def runs(self, job_id: JobId) -> bool:
        """Return whether an attempt of the job is followed here."""
        entry = self._entries.get(job_id)
        return entry is not None and entry.followed

    def all(self) -> list[Job]:
        """Return every open job."""
        return self._entries.all()

    def running(self) -> list[Job]:
        """Return the jobs with an attempt on a worker."""
        return self._entries.running()

    def _join(self, job: Job) -> None:
        runs = job.drawn_by in self._entries
        self.joined.join(job, runs=runs)
        if not runs:
            self.run_over.ring()

    async def wait_ended(self, job_id: JobId) -> None:
        """Wait until a job is open no more."""
        entry = self._entries.get(job_id)
        if entry is not None:
            await entry.ended_signal().wait()

    def next_deadline(self) -> float | None:
        """Return the next moment at which a job may expire."""
        return self._deadlines.next()

    def overdue(self) -> list[Job]:
        """Return waiting jobs that no attempt began in time, and forget their deadlines."""
        late = []
        for job_id in self._deadlines.take_due(self._clock.now()):
            entry = self._entries.get(job_id)
            run = self._entries.get(self.joined.waits_for(job_id) or job_id) or entry
            untried = run is not None and not run.drew and not run.job.counted_attempts
            if entry is not None and untried and entry.job.state is JobState.QUEUED:
                late.append(entry.job)
        return late


def _tell(followers: list[Follower], news: Callable[[Follower], None]) -> None:
    for follower in followers:
        news(follower)


def _age(job: Job) -> tuple[int, bool]:
    return job.attempt, job.state is JobState.QUEUED  # attempt n runs before the job waits again with n behind it


def _waiting(job: Job) -> Waiting:
    return Waiting(
        job_id=job.id,
        tenant_id=job.tenant_id,
        tier=job.tier,
        model_version=job.model_version,
        queued_at=job.queued_at,
        units=job.estimated_units,
        priority=job.spec.priority,
        not_before=job.not_before,
        weight=job.tenant_weight,
        images=job.spec.images,
        running_images=job.running_images,
        shape=sys.intern(job.shape.line),
    )


def _nobody() -> None:
    return None


def _nobody_else(_job: Job) -> None:
    return None
