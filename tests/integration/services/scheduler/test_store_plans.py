"""How SQLite finds its rows in what every job and every claim of webhooks does: by an index, however many there are."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from libs.generation.webhook import FINAL_EVENTS, Webhook
from libs.webhooks.shares import Claim
from services.scheduler.job import Change
from services.scheduler.migrations.upgrade import upgrade
from services.scheduler.storage.sql_store import SqlStore, open_store
from tests.contract.job_store.samples import NOW, a_job, a_spec, an_ending


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    await upgrade(f"sqlite+aiosqlite:///{tmp_path}/scheduler.db")
    return tmp_path / "scheduler.db"


@asynccontextmanager
async def opened(file: Path) -> AsyncIterator[SqlStore]:
    store = open_store(f"sqlite+aiosqlite:///{file}")
    yield store
    await store.close()


class Said:
    """What was said to the database inside the block."""

    def __init__(self) -> None:
        self.statements: list[tuple[str, Sequence[Any]]] = []

    def __enter__(self) -> Said:
        event.listen(Engine, "before_cursor_execute", self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        event.remove(Engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        if not many:
            self.statements.append((statement, parameters))

    def scans(self, file: Path, table: str) -> list[str]:
        """Return the statements that read a whole table."""
        looked = [(text, values) for text, values in self.statements if table in text and "INSERT" not in text]
        assert looked
        database = sqlite3.connect(file)
        plans = [(text, database.execute(f"EXPLAIN QUERY PLAN {text}", values).fetchall()) for text, values in looked]
        database.close()
        return [f"{text}: {plan}" for text, plan in plans if any(f"SCAN {table}" in str(step) for step in plan)]


async def test_jobs_with_idempotency_keys_that_arrive_together_are_looked_for_by_index(file: Path) -> None:
    async with opened(file) as store:
        with Said() as said:
            await asyncio.gather(*(store.accept(a_job(n, request_id=f"key-{n}"), ()) for n in range(1, 9)))
    assert any("request_id" in text and len(values) > 4 for text, values in said.statements if "SELECT" in text)
    assert said.scans(file, "jobs") == []


async def test_a_claim_of_several_deliveries_finds_them_by_index(file: Path) -> None:
    told = a_spec(webhook=Webhook("https://hook.example/", FINAL_EVENTS))
    async with opened(file) as store:
        for number in range(1, 5):
            job = (await store.accept(a_job(number, spec=told), ())).job
            assert await store.end(an_ending(job, 0, Change.CANCEL, epoch=0)) is not None
        with Said() as said:
            assert len(await store.claim_deliveries(Claim(9, 60.0, NOW + 100))) == 4
    assert said.scans(file, "webhook_deliveries") == []
