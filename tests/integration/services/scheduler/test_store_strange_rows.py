"""Deliveries that another release wrote and this one cannot read: they are in nobody's way."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from libs.generation.webhook import FINAL_EVENTS, Webhook
from libs.webhooks.shares import Claim
from libs.webhooks.tries import LAST_WINDOW_S, TRIED_FOR_S
from services.scheduler.job import Change
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.storage.sql_store import SqlStore, open_store
from tests.contract.job_store.samples import NOW, a_job, a_spec, an_ending


async def claimed(store: SqlStore, now: float) -> list[str]:
    return [delivery.job_id for delivery in await store.claim_deliveries(Claim(9, 60.0, now))]


@pytest.mark.parametrize("strange", ["state = 'DREAMING'", """detail = '{"colour": 1}'"""])
async def test_a_row_that_cannot_be_read_is_put_off_and_given_up_in_the_end(tmp_path: Path, strange: str) -> None:
    url, told = f"sqlite+aiosqlite:///{tmp_path}/s.db", a_spec(webhook=Webhook("https://hook.example/", FINAL_EVENTS))
    await upgrade(url)
    store = open_store(url)
    jobs = [(await store.accept(a_job(number, spec=told), ())).job for number in (1, 2)]
    for job in jobs:
        assert await store.end(an_ending(job, 0, Change.CANCEL, epoch=0)) is not None
    with sqlite3.connect(tmp_path / "s.db") as database:
        database.execute(f"UPDATE webhook_deliveries SET {strange} WHERE job_id = ?", (jobs[0].id,))
    database.close()
    now = NOW + 100
    assert await claimed(store, now) == [jobs[1].id]
    assert await claimed(store, now + LAST_WINDOW_S - 1) == [jobs[1].id]
    assert await store.deliveries_waiting(9) == 2
    assert await claimed(store, now + TRIED_FOR_S) == [jobs[1].id]
    assert await store.deliveries_waiting(9) == 1
    await store.close()
