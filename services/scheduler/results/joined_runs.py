"""Who waits for which run, in memory: an index over the joiners in the store. Pure.

A run keeps the name it has on its worker, that of the job it was begun for, also when a joiner took it over.
"""

from __future__ import annotations

from libs.ids import JobId
from services.scheduler.job import Job


class JoinedRuns:
    """Joiners by the job that draws for them, in the order they came, and the heirs of runs."""

    def __init__(self) -> None:
        self._joiners: dict[JobId, dict[JobId, None]] = {}
        self._runner: dict[JobId, JobId] = {}  # of each joiner
        self._heirs: dict[JobId, JobId] = {}  # who took over what was begun for a job
        self._over: dict[JobId, None] = {}  # jobs whose joiners must be looked at

    def join(self, joiner: Job, *, runs: bool) -> None:
        """A job waits for the run of another; `runs` says whether that one is open."""
        self.leave(joiner.id)
        self._joiners.setdefault(joiner.drawn_by, {})[joiner.id] = None
        self._runner[joiner.id] = joiner.drawn_by
        if not runs:
            self._over[joiner.drawn_by] = None

    def leave(self, joiner: JobId) -> None:
        """A job waits for no run any more, nor has it one that was begun for another."""
        self._heirs = {begun: heir for begun, heir in self._heirs.items() if heir != joiner}
        runner = self._runner.pop(joiner, None)
        if runner is None:
            return
        self._joiners[runner].pop(joiner, None)
        if not self._joiners[runner]:
            del self._joiners[runner]

    def over(self, job_id: JobId) -> bool:
        """A job is not open any more; returns whether anybody waited for it."""
        if job_id not in self._joiners:
            return False
        self._over[job_id] = None
        return True

    def take_over(self, job_id: JobId, heir: Job) -> None:
        """What `job_id` runs is the heir's from now on, and who waited for it waits for the heir."""
        self.leave(heir.id)
        self.goes_on(heir)
        for joiner in self._joiners.pop(job_id, {}):
            self._joiners.setdefault(heir.id, {})[joiner] = None
            self._runner[joiner] = heir.id

    def goes_on(self, job: Job) -> None:
        """A job runs, perhaps on with what was begun for another."""
        begun, _ = job.run
        if begun != job.id:
            self._heirs[begun] = job.id

    def runner(self, begun: JobId) -> JobId:
        """Return whose run it is that was begun for a job."""
        return self._heirs.get(begun, begun)

    def waits_for(self, joiner: JobId) -> JobId | None:
        """Return the job whose run a joiner waits for."""
        return self._runner.get(joiner)

    def joiners(self, job_id: JobId) -> tuple[JobId, ...]:
        """Return who waits for a job's run, the first first."""
        return tuple(self._joiners.get(job_id, ()))

    def audience(self, begun: JobId) -> tuple[JobId, ...]:
        """Return all besides `begun` that the run which was begun for it draws for."""
        runner = self.runner(begun)
        own = () if runner == begun else (runner,)
        return (*own, *self.joiners(runner))

    def next_over(self) -> JobId | None:
        """Return a job that has ended and has joiners, once."""
        job_id = next(iter(self._over), None)
        if job_id is not None:
            del self._over[job_id]
        return job_id
