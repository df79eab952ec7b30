"""Two schedulers on one PostgreSQL, real processes: the leader dies or stands still under load, its peers go and come."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from libs.devstack.postgres import PostgresServer
from libs.testing import waiting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client
from tests.e2e.load import (
    JOBS,
    STEPS,
    WITHIN_S,
    assert_each_ended_once_and_was_drawn_once,
    begin,
    leader,
    rows_drawn,
    rows_of_a_step,
    submit_all,
)


@pytest.fixture
async def postgres() -> AsyncIterator[PostgresServer]:
    """Ask for it before a stack: what is asked for last is stopped first."""
    async with PostgresServer() as server:
        yield server


def start(start_stack: StartStack, postgres: PostgresServer) -> RunningStack:
    return start_stack(DARKROOM_SCHEDULERS="2", DARKROOM_DATABASE_URL=postgres.url, DARKROOM_LEASE_TTL_S="2")


@pytest.mark.timeout(300)
async def test_the_leader_is_killed_and_the_database_stops_at_once(
    postgres: PostgresServer, start_stack: StartStack
) -> None:
    stack = start(start_stack, postgres)
    async with http_client(stack) as client, asyncio.timeout(WITHIN_S):
        rows_a_step = await rows_of_a_step(stack, client)
        before = await rows_drawn(stack, client)
        ids = await begin(client)
        victim = leader(stack)
        stack.kill(victim)
        ids += await submit_all(client, first_seed=JOBS)  # the other one takes them
        await assert_each_ended_once_and_was_drawn_once(stack, client, ids)
        assert leader(stack) != victim
        assert await rows_drawn(stack, client) - before == 2 * JOBS * STEPS * rows_a_step, "a step was drawn again"
        await stack.wait_ready(victim)
        more = await begin(client, first_seed=2 * JOBS)
        await postgres.stop_immediate()
        await postgres.start()
        await assert_each_ended_once_and_was_drawn_once(stack, client, more)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_leader_stands_still_and_goes_on_too_late(postgres: PostgresServer, start_stack: StartStack) -> None:
    stack = start(start_stack, postgres)
    async with http_client(stack) as client, asyncio.timeout(WITHIN_S):
        rows_a_step = await rows_of_a_step(stack, client)
        before = await rows_drawn(stack, client)
        ids = await begin(client)
        victim = leader(stack)
        pid = stack.pid(victim)
        os.kill(pid, signal.SIGSTOP)
        try:
            await waiting.until(lambda: is_led_by_another(stack, victim), WITHIN_S)
        finally:
            os.kill(pid, signal.SIGCONT)
        ids += await submit_all(client, first_seed=JOBS)
        await assert_each_ended_once_and_was_drawn_once(stack, client, ids)
        assert await rows_drawn(stack, client) - before == len(ids) * STEPS * rows_a_step, "a step was drawn again"
        assert "Deposed" in stack.log(victim)


async def is_led_by_another(stack: RunningStack, victim: str) -> bool:
    return leader(stack) != victim
