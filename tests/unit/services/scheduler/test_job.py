"""The table of a job's life: what it allows, and that it allows nothing else."""

from __future__ import annotations

import itertools

import pytest

from services.scheduler.job import OPEN_STATES, TRANSITIONS, Change, IllegalChange, JobState, after
from tests.contract.job_store.samples import a_job

Q, R = JobState.QUEUED, JobState.RUNNING
LIFE = {
    (Q, Change.START): R,
    (Q, Change.CANCEL): JobState.CANCELLED,
    (Q, Change.EXPIRE): JobState.EXPIRED,
    (Q, Change.REUSE): JobState.SUCCEEDED,
    (Q, Change.FAIL): JobState.FAILED,
    (R, Change.SUCCEED): JobState.SUCCEEDED,
    (R, Change.FAIL): JobState.FAILED,
    (R, Change.CANCEL): JobState.CANCELLED,
    (R, Change.LOSE): Q,
    (JobState.FAILED, Change.REVIVE): Q,
}


@pytest.mark.parametrize(("state", "change"), list(itertools.product(JobState, Change)))
def test_every_pair_is_in_the_life_of_a_job_or_refused(state: JobState, change: Change) -> None:
    if (state, change) in LIFE:
        assert after(state, change) is LIFE[state, change]
    else:
        with pytest.raises(IllegalChange, match=f"{change.value}.*{state.value}"):
            after(state, change)


@pytest.mark.parametrize("state", JobState)
def test_a_job_is_open_while_something_can_happen_without_an_operator(state: JobState) -> None:
    changeable = any(source is state for source, change in TRANSITIONS if change is not Change.REVIVE)
    assert (state in OPEN_STATES) is changeable
    assert a_job(state=state).open is changeable


def test_a_change_of_a_copy_leaves_the_job_alone() -> None:
    job = a_job()
    assert job.evolve(state=JobState.RUNNING).state is JobState.RUNNING
    assert job.state is JobState.QUEUED
