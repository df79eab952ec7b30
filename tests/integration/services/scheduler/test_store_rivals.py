"""Several schedulers on one database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.sql.engines import open_engines
from services.scheduler.storage.sql_store import SqlStore
from tests.contract.job_store.samples import (
    CONFIRM,
    NOW,
    TENANT,
    a_job,
    a_requeue,
    a_start,
    a_success,
    kinds,
    queued,
    running,
)

PATIENT_S = 30.0
Rivals = tuple[SqlStore, SqlStore]


@pytest.fixture
async def rivals(database_url: str) -> AsyncIterator[Rivals]:
    """Two stores that share only the database, which epoch 1 leads."""
    one, two = (SqlStore(open_engines(database_url, timeout_s=PATIENT_S)) for _ in range(2))
    await one.take_lead("scheduler-0", NOW)
    yield one, two
    await one.close()
    await two.close()


async def test_rivals_that_accept_groups_with_the_same_keys_make_one_job_a_key(rivals: Rivals) -> None:
    jobs = [a_job(number, request_id=f"r{number % 10}") for number in range(1, 101)]
    answers = await asyncio.gather(*(rivals[i % 7 % 2].accept(job, [CONFIRM]) for i, job in enumerate(jobs)))
    assert len({answer.job.id for answer in answers}) == 10
    assert [answer.existing for answer in answers].count(False) == 10
    assert len(await rivals[0].open_jobs()) == 10
    assert len(await rivals[0].pending_messages(100, NOW)) == 10


async def test_rivals_that_accept_one_key_at_once_agree(rivals: Rivals) -> None:
    for number in range(1, 21):
        jobs = [a_job(2 * number + i, request_id=f"r{number}") for i in range(2)]
        first, second = await asyncio.gather(*(store.accept(job, []) for store, job in zip(rivals, jobs, strict=True)))
        assert first.job == second.job
        assert first.existing is not second.existing


async def test_of_rivals_that_start_and_end_one_attempt_one_wins(rivals: Rivals) -> None:
    job = await queued(rivals[0])
    starts = await asyncio.gather(*(store.start(a_start(job)) for store in rivals * 5))
    assert len([start for start in starts if start]) == 1
    ends = await asyncio.gather(*(store.end(a_success(job)) for store in rivals * 5))
    assert len([end for end in ends if end]) == 1
    assert await kinds(rivals[0], job) == ["queued", "started", "image", "image", "completed"]


async def test_a_cancel_is_not_lost_while_a_rival_queues_the_job_again(rivals: Rivals) -> None:
    one, two = rivals
    for number in range(1, 21):
        job = await running(one, number)
        _, cancelled = await asyncio.gather(one.requeue(a_requeue(job)), two.request_cancel(job.id, TENANT))
        kept = await one.get(job.id)
        assert kept is not None
        assert cancelled is not None
        assert kept.cancel_requested is cancelled.cancel_requested
