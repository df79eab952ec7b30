"""etcd stands still for half a minute under load: jobs are taken, given out and drawn as before, and after it too."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator

import httpx
import pytest

from libs.devstack.postgres import PostgresServer
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client
from tests.e2e.load import (
    JOBS,
    STEPS,
    WITHIN_S,
    assert_each_ended_once_and_was_drawn_once,
    begin,
    rows_drawn,
    rows_of_a_step,
)

AWAY_S = 30.0


@pytest.fixture
async def postgres() -> AsyncIterator[PostgresServer]:
    """Ask for it before a stack: what is asked for last is stopped first."""
    async with PostgresServer() as server:
        yield server


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_it_is_started_again_under_one_scheduler(start_stack: StartStack) -> None:
    await all_goes_on(start_stack(DARKROOM_LEASE_TTL_S="2"), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_it_goes_on_under_two_schedulers(postgres: PostgresServer, start_stack: StartStack) -> None:
    two = {"DARKROOM_SCHEDULERS": "2", "DARKROOM_DATABASE_URL": postgres.url}
    await all_goes_on(start_stack(**two, DARKROOM_LEASE_TTL_S="2"), signal.SIGCONT)


async def all_goes_on(stack: RunningStack, back_by: signal.Signals) -> None:
    async with http_client(stack) as client, asyncio.timeout(2 * WITHIN_S):
        rows_a_step = await rows_of_a_step(stack, client)
        before = await rows_drawn(stack, client)
        ids = await drawn_without_etcd(stack, client, back_by)
        ids += await begin(client, first_seed=len(ids))
        await assert_each_ended_once_and_was_drawn_once(stack, client, ids)
        rows = await rows_drawn(stack, client) - before
        assert rows == len(ids) * STEPS * rows_a_step, "a step was drawn again"


async def drawn_without_etcd(stack: RunningStack, client: httpx.AsyncClient, back_by: signal.Signals) -> list[str]:
    """Have jobs drawn one batch after the other while etcd is away; it comes back while the last of them are drawn."""
    ids: list[str] = []
    pid = stack.pid("etcd")
    os.kill(pid, signal.SIGSTOP)  # one that is killed is started again at once
    try:
        until = time.monotonic() + AWAY_S
        while time.monotonic() < until:
            batch = await begin(client, first_seed=len(ids))
            await assert_each_ended_once_and_was_drawn_once(stack, client, batch)
            ids += batch
        assert len(ids) > JOBS
        ids += await begin(client, first_seed=len(ids))
    finally:
        os.kill(pid, back_by)
    return ids
