"""Parts are killed while jobs wait; nothing is lost, nothing is done twice, nothing is paid for twice."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import httpx
import pytest

from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client
from tests.e2e.events import FINAL, Event, durable_events

PROMPT = "a red circle left of a blue square"
JOBS, STEPS = 20, 8
POLL_S = 0.2
ALL_DONE_WITHIN_S = 180.0
TTL_S = 2
# Twice the reservation's life and a little for the loop that looks for expired ones.
RELEASED_WITHIN_S = 2.0 * TTL_S + 4.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["modelserver-0", "scheduler", "gateway", "ratelimiter", "etcd", "envoy"])
async def test_all_jobs_finish_once_when_a_part_is_killed(
    stack: RunningStack, client: httpx.AsyncClient, victim: str
) -> None:
    async with asyncio.timeout(ALL_DONE_WITHIN_S):
        ids = await asyncio.gather(*(submit(client, seed) for seed in range(JOBS)))
        stack.kill(victim)
        await stack.wait_ready(victim)
        histories = await asyncio.gather(*(durable_events(client, job_id) for job_id in ids))
        for job_id, events in zip(ids, histories, strict=True):
            await assert_finished_once(client, job_id, events)
    assert len(set(ids)) == JOBS


@pytest.mark.timeout(400)
async def test_a_reservation_without_a_job_is_given_back(start_stack: StartStack) -> None:
    """The gateway ends itself between Reserve and Submit: the units come back, and no job is there."""
    stack = start_stack(DARKROOM_FAILPOINT="after_reserve", DARKROOM_RESERVATION_TTL_S=str(TTL_S))
    async with http_client(stack) as client:
        del client.headers["authorization"]  # the anonymous tier refills slowly enough to tell refill from release
        body = {"prompt": PROMPT, "images": 4, "steps": 100}
        units = (await client.post("/v1/jobs:estimate", json=body)).json()["units"]
        before, refill_per_s = await available_units(client)
        assert refill_per_s * RELEASED_WITHIN_S < 0.7 * units, "the job is too cheap to tell refill from release"

        await submit_into_the_void(client, body)
        held, _ = await available_units(client)
        assert held < before - 0.8 * units
        await units_are_back(client, before - 0.2 * units, RELEASED_WITHIN_S)
        await stack.wait_ready("gateway")
        listed = await client.get("/v1/jobs")
        assert listed.status_code == 200, listed.text
        assert not listed.json().get("jobs")
    pids = [stack.pid(name) for name in stack.names()]
    assert stack.stop() == 0, stack.console()
    assert pids
    assert not stack.names()


async def submit(client: httpx.AsyncClient, seed: int) -> str:
    """Queue a small job; return its id."""
    answer = await client.post("/v1/jobs", json={"prompt": PROMPT, "steps": STEPS, "seed": seed})
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def submit_into_the_void(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    """Queue a job at a gateway that ends itself over it."""
    try:
        answer = await client.post("/v1/jobs", json=body)
    except httpx.TransportError:
        return
    assert answer.status_code == 503, answer.text


async def assert_finished_once(client: httpx.AsyncClient, job_id: str, events: list[Event]) -> None:
    """Check the job as it is now and its whole history: one final event, one picture, one set of bytes."""
    names = [event.name for event in events]
    assert names[0] == "queued"
    assert [name for name in names if name in FINAL] == ["completed"]
    assert names.count("image") == 1, names
    again = await durable_events(client, job_id)
    assert [event.name for event in again] == names, "its history changed after it had ended"
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert job["state"] == "SUCCEEDED"
    assert [attempt["outcome"] for attempt in job["attempts"]].count("succeeded") == 1
    assert len(job["images"]) == 1
    picture = await client.get(f"/v1/jobs/{job_id}/images/0")
    assert picture.status_code == 200, picture.text
    assert hashlib.sha256(picture.content).hexdigest() == job["images"][0]["sha256"]


async def available_units(client: httpx.AsyncClient) -> tuple[float, float]:
    """Return the units that the caller could spend now, and how many come back a second.

    The headers stand on every answer, also on Envoy's own when the gateway is gone.
    """
    answer = await client.get("/v1/models")
    remaining, limit = (float(answer.headers[f"x-ratelimit-{name}-cost"]) for name in ("remaining", "limit"))
    return remaining, limit / 60.0


async def units_are_back(client: httpx.AsyncClient, wanted: float, within_s: float) -> None:
    """Ask until the caller could spend `wanted` units."""
    async with asyncio.timeout(within_s):
        while True:
            remaining, _ = await available_units(client)
            if remaining >= wanted:
                return
            await asyncio.sleep(POLL_S)
