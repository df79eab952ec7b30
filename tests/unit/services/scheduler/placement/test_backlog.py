from __future__ import annotations

from libs.ids import JobId
from services.scheduler.placement.backlog import Backlog


def test_it_counts_each_waiting_job_once() -> None:
    backlog = Backlog()
    for job, units in (("a", 5.0), ("b", 7.0), ("a", 100.0)):
        backlog.add(JobId(job), "m@1", units)
    assert (backlog.jobs("m@1"), backlog.units("m@1"), set(backlog.models())) == (2, 12.0, {"m@1"})
    backlog.remove(JobId("a"))
    backlog.remove(JobId("a"))
    assert (backlog.jobs("m@1"), backlog.units("m@1")) == (1, 7.0)
    backlog.remove(JobId("b"))
    assert (backlog.jobs("m@1"), backlog.units("m@1"), set(backlog.models())) == (0, 0.0, set())
