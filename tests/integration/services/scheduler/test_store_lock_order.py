"""Two schedulers on PostgreSQL whose groups touch the same jobs and pictures: one waits for the other, never both."""

from __future__ import annotations

import asyncio

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.sql.engines import open_engines
from libs.sql.transactions import Transactions
from libs.testing.waiting import until
from services.scheduler.job import Job
from services.scheduler.results.reuse import Terms
from services.scheduler.storage import changes, sql_group
from services.scheduler.storage.sql_accept import Offer
from services.scheduler.storage.sql_changes import Wanted
from services.scheduler.storage.sql_group import Answer, Item
from services.scheduler.storage.sql_schema import jobs
from services.scheduler.storage.sql_store import SqlStore
from tests.contract.job_store.samples import NOW, a_job, a_start, a_success, an_image

PATIENT_S = 30.0
BLUE, RED = an_image(0, "b" * 64), an_image(0, "e" * 64)
KEYS = {BLUE: "k" * 64, RED: "l" * 64}
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


async def drawing(store: SqlStore, number: int, key: str = "") -> Job:
    await store.accept(a_job(number, cache_key=key), ())
    started = await store.start(a_start(a_job(number)))
    assert started is not None
    return started


def group(running: Job, drawn: object, asked: Job) -> list[Item]:
    """The end of a job that drew one picture, and a new job that another picture answers."""
    ending = a_success(running, images=(drawn,))
    offer = Offer(asked, (), 1, Terms(NOW + 100, NOW + 86_400))
    return [offer, Wanted(running.id, 1, lambda job: changes.ended(job, ending))]


async def test_a_group_holds_its_jobs_before_its_pictures_and_those_in_order(postgres_url: str) -> None:
    store = SqlStore(open_engines(postgres_url, timeout_s=PATIENT_S))
    await store.take_lead("scheduler-0", NOW)
    for number, (image, key) in enumerate(KEYS.items(), start=1):
        await store.end(a_success(await drawing(store, number, key), images=(image,)))
    first, second = await drawing(store, 3), await drawing(store, 4)
    groups = [
        group(first, BLUE, a_job(5, cache_key=KEYS[RED])),
        group(second, RED, a_job(6, cache_key=KEYS[BLUE])),
    ]
    transactions = Transactions(open_engines(postgres_url, timeout_s=PATIENT_S))

    async def write(items: list[Item]) -> list[Answer]:
        return await transactions.write(lambda connection: sql_group.write(connection, items))

    async def while_the_jobs_are_kept(connection: AsyncConnection) -> list[asyncio.Task[list[Answer]]]:
        await connection.execute(select(jobs.c.id).where(jobs.c.id.in_([first.id, second.id])).with_for_update())
        writing = [asyncio.create_task(write(items)) for items in groups]

        async def both_wait() -> bool:
            return bool(await store._transactions.read(lambda other: other.scalar(WAITING)) == 2)

        await until(both_wait, PATIENT_S)
        return writing

    writing = await transactions.write(while_the_jobs_are_kept)
    for hit, ended in await asyncio.gather(*writing):
        assert hit is not None
        assert hit.job.cache == "HIT"
        assert ended is not None
    await transactions.close()
    await store.close()
