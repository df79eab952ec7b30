"""What is done to a job outside its attempts: a dead letter comes back or is forgotten, another model takes over. Pure.

A job that comes back, or goes to another model, begins anew: attempts before that do not count towards the dead
letter, and nothing they left is gone on from.
"""

from __future__ import annotations

from services.scheduler.job import Change, Job, JobState, after
from services.scheduler.storage.changes import NewEvent, Step
from services.scheduler.storage.wishes import Alteration, Dismissal, Downgrade, Revival


def altered(job: Job, alteration: Alteration) -> Step | None:
    """Return what an alteration leaves behind; None when the job is not in the state it is for."""
    match alteration:
        case Revival():
            return _revived(job, alteration.now)
        case Dismissal():
            return Step(job.evolve(dead_at=None), ()) if job.dead_at is not None else None
        case Downgrade():
            return _downgraded(job, alteration)


def revived(job: Job) -> Job:
    """Return a dead letter as it waits again, but for the times; without a deadline, since that may be long past."""
    return job.evolve(
        state=after(job.state, Change.REVIVE),
        counted_attempts=0,
        fresh_after=job.attempt,
        revivals=job.revivals + 1,
        deadline_at=None,
        not_before=0.0,
        cancel_requested=False,
        finished_at=None,
        expires_at=None,
        actual_units=0.0,
        charged_units=0.0,
        charge_reason="",
        failure=None,
        images=(),
        stages=(),
        dead_at=None,
    )


def _revived(job: Job, now: float) -> Step | None:
    if job.dead_at is None or job.state is not JobState.FAILED:
        return None
    return Step(revived(job).evolve(queued_at=now), (NewEvent("queued", now, {}),), fresh=True)


def _downgraded(job: Job, downgrade: Downgrade) -> Step | None:
    if job.state is not JobState.QUEUED or job.cancel_requested or job.model_version == downgrade.model_version:
        return None
    return Step(replaced(job, downgrade.model_version), (NewEvent("queued", downgrade.now, {}),), fresh=True)


def replaced(job: Job, model_version: str) -> Job:
    """Return a waiting job with another model; it keeps its place in time."""
    return job.evolve(
        model_version=model_version,
        downgraded_from=job.downgraded_from or job.model_version,
        cache_key="",  # it was that of the other model's pictures
        counted_attempts=0,
        fresh_after=job.attempt,
        not_before=0.0,
    )
