"""What the memory makes of news that come late."""

from __future__ import annotations

from libs.testing.clock import ManualClock
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.instruments import Instruments
from services.scheduler.job import Job, JobState
from services.scheduler.open_jobs import OpenJobs
from services.scheduler.storage.memory_store import MemoryStore
from tests.unit.services.scheduler import fakes


def test_the_end_of_a_job_that_was_brought_back_before_it_was_heard_of_changes_nothing() -> None:
    clock = ManualClock()
    jobs, told = OpenJobs(WatchHub(MemoryStore(), clock), Instruments(), clock), list[Job]()
    jobs.on_ended = told.append
    dead = fakes.job(clock.now(), attempt=3, state=JobState.FAILED, dead_at=clock.now())
    jobs.queued(dead.evolve(state=JobState.QUEUED, dead_at=None, revivals=1))
    jobs.ended(dead)
    assert jobs.get(dead.id) is not None
    assert dead.id in jobs.ordering
    assert not told, "its checkpoints are swept with its last end"
