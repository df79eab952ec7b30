"""How often the store asks its database: for many jobs that come together no oftener than for a few."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from libs.generation.webhook import FINAL_EVENTS, Webhook
from libs.sql.engines import open_engines
from libs.webhooks.shares import Claim
from libs.webhooks.tries import Told
from services.scheduler.job import Change
from services.scheduler.storage.sql_store import SqlStore
from services.scheduler.storage.wishes import Revival
from services.scheduler.webhooks.store import Report
from tests.contract.job_store.samples import NOW, a_job, a_spec, a_start, an_ending

FEW, MANY = range(1, 4), range(4, 44)
# Nobody asks for "queued": it stands for what is told of jobs that are answered as they are accepted.
TOLD = a_spec(webhook=Webhook("https://hook.example/", (*FINAL_EVENTS, "queued")))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[SqlStore]:
    opened = SqlStore(open_engines(database_url, timeout_s=30.0))
    await opened.take_lead("scheduler-0", NOW)
    yield opened
    await opened.close()


@contextmanager
def statements() -> Iterator[list[str]]:
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield said
    event.remove(Engine, "before_cursor_execute", note)


async def rounds(store: SqlStore, numbers: Iterable[int]) -> list[int]:
    """Accept jobs with webhooks, let all end as dead letters and bring all back; return how often each step asked."""
    jobs = [a_job(number, spec=TOLD) for number in numbers]
    asked: list[int] = []
    for step in (
        [store.accept(job, ()) for job in jobs],
        [store.start(a_start(job)) for job in jobs],
        [store.end(an_ending(job, 1, Change.FAIL, dead=True)) for job in jobs],
        [store.alter(Revival(job.id, 1, NOW + 99, outbox=())) for job in jobs],
    ):
        with statements() as said:
            assert all(await asyncio.gather(*step))
        asked.append(len(said))
    return asked


async def test_many_jobs_with_webhooks_ask_no_oftener_than_a_few(store: SqlStore) -> None:
    assert await rounds(store, MANY) == await rounds(store, FEW)


async def test_of_jobs_that_end_together_only_those_are_not_told_whose_receiver_is_gone(store: SqlStore) -> None:
    jobs = [a_job(number, spec=TOLD) for number in FEW]
    await asyncio.gather(*(store.accept(job, ()) for job in jobs))
    claim = Claim(9, 60.0, NOW + 30)
    first = await store.claim_deliveries(claim)
    assert len(first) == len(jobs)
    gone, *others = first
    await store.report_delivery(Report(gone.job_id, gone.seq, gone.tries, Told.GONE, NOW + 31, 0.5))
    await asyncio.gather(*(store.start(a_start(job)) for job in jobs))
    await asyncio.gather(*(store.end(an_ending(job, 1, Change.FAIL)) for job in jobs))
    told = await store.claim_deliveries(claim)
    assert {each.job_id for each in told} == {each.job_id for each in others}
    assert {each.kind for each in told} == {"failed"}
