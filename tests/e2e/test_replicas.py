"""Two schedulers on one PostgreSQL, real processes: the leader dies or stands still under load, its peers go and come."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from libs.devstack.postgres import PostgresServer
from libs.testing import waiting
from libs.testing.job_events import FINAL, durable_events
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client

PROMPT = "a red circle left of a blue square"
JOBS, STEPS = 4, 24
WITHIN_S = 120.0
ALONE = 999  # the seed of a job that is drawn before all others
SCHEDULERS, WORKER = ("scheduler", "scheduler-1"), "modelserver-0"


@pytest.fixture
async def postgres() -> AsyncIterator[PostgresServer]:
    async with PostgresServer() as server:
        yield server


def start(start_stack: StartStack, postgres: PostgresServer) -> RunningStack:
    return start_stack(DARKROOM_SCHEDULERS="2", DARKROOM_DATABASE_URL=postgres.url, DARKROOM_LEASE_TTL_S="2")


@pytest.mark.timeout(300)
async def test_the_leader_is_killed_and_the_database_stops_at_once(
    start_stack: StartStack, postgres: PostgresServer
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
async def test_the_leader_stands_still_and_goes_on_too_late(start_stack: StartStack, postgres: PostgresServer) -> None:
    stack = start(start_stack, postgres)
    async with http_client(stack) as client, asyncio.timeout(WITHIN_S):
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
        assert "Deposed" in stack.log(victim)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_etcd_is_away_and_jobs_go_on(start_stack: StartStack, postgres: PostgresServer) -> None:
    stack = start(start_stack, postgres)
    async with http_client(stack) as client, asyncio.timeout(WITHIN_S):
        ids = await begin(client)
        pid = stack.pid("etcd")
        os.kill(pid, signal.SIGSTOP)  # a killed one would be started again at once
        try:
            await waiting.until(lambda: says(stack, "the lease of the lead is lost"), WITHIN_S)
            ids += await submit_all(client, first_seed=JOBS)
            await assert_each_ended_once_and_was_drawn_once(stack, client, ids)
        finally:
            os.kill(pid, signal.SIGCONT)
        # Either of the two may be elected now; a new leader attaches to what runs.
        await assert_each_ended_once_and_was_drawn_once(stack, client, await begin(client, first_seed=2 * JOBS))


async def begin(client: httpx.AsyncClient, first_seed: int = 0) -> list[str]:
    """Submit jobs and wait until one of them is being drawn."""
    ids = await submit_all(client, first_seed)

    async def one_runs() -> bool:
        answers = await asyncio.gather(*(client.get(f"/v1/jobs/{job_id}") for job_id in ids))
        return any(answer.json().get("state") == "RUNNING" for answer in answers)

    await waiting.until(one_runs, WITHIN_S)
    return ids


async def rows_of_a_step(stack: RunningStack, client: httpx.AsyncClient) -> float:
    """Draw a job and return how many rows its device drew for each of its steps."""
    before, job_id = await rows_drawn(stack, client), await submit(client, seed=ALONE)
    await assert_each_ended_once_and_was_drawn_once(stack, client, [job_id])
    rows = await rows_drawn(stack, client) - before
    assert rows
    assert rows % STEPS == 0, rows
    return rows / STEPS


async def rows_drawn(stack: RunningStack, client: httpx.AsyncClient) -> float:
    """Return how many rows the device has drawn in all, as the model server counts them forward by forward."""
    series = (await client.get(f"http://{stack.addresses['metrics'][WORKER]}/metrics")).text
    found = re.search(r"^darkroom_batch_rows_sum\S* (\S+)$", series, re.M)
    return float(found[1]) if found else 0.0


async def submit_all(client: httpx.AsyncClient, first_seed: int) -> list[str]:
    return list(await asyncio.gather(*(submit(client, first_seed + number) for number in range(JOBS))))


async def submit(client: httpx.AsyncClient, seed: int) -> str:
    """Submit a job until it is acknowledged; its key makes it one job however often it is sent."""
    body = {"prompt": PROMPT, "steps": STEPS, "seed": seed}
    while True:
        answer = await client.post("/v1/jobs", json=body, headers={"idempotency-key": f"seed-{seed}"})
        if answer.status_code in (200, 202):
            return str(answer.json()["id"])
        assert answer.status_code in (502, 503, 504), answer.text
        await waiting.pause()


async def assert_each_ended_once_and_was_drawn_once(
    stack: RunningStack, client: httpx.AsyncClient, ids: list[str]
) -> None:
    """Check every history, and in the worker's log that no attempt but the one that ended it was drawn."""
    histories = await asyncio.gather(*(durable_events(client, job_id) for job_id in ids))
    for job_id, events in zip(ids, histories, strict=True):
        assert [event.name for event in events if event.name in FINAL] == ["completed"], job_id
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        outcomes = [attempt["outcome"] for attempt in job["attempts"]]
        assert outcomes.count("succeeded") == 1
        assert "lost" not in outcomes, job["attempts"]


def lines(stack: RunningStack, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.log(name).splitlines() if line.startswith("{")]


def leader(stack: RunningStack) -> str:
    """Return the scheduler that took the lead last."""
    took = {
        int(line["epoch"]): name
        for name in SCHEDULERS
        for line in lines(stack, name)
        if line.get("message") == "took the lead"
    }
    return took[max(took)]


async def is_led_by_another(stack: RunningStack, victim: str) -> bool:
    return leader(stack) != victim


async def says(stack: RunningStack, words: str) -> bool:
    return words in stack.log(leader(stack))
