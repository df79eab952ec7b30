"""Parts are killed while jobs wait; nothing is lost, nothing is done twice, nothing is paid for twice."""

from __future__ import annotations

import asyncio
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.cli.target import Target
from libs.clients.scheduler_admin import SchedulerAdminClient
from libs.testing import waiting
from libs.testing.job_events import FINAL, Event, durable_events
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client

PROMPT = "a red circle left of a blue square"
JOBS, STEPS = 20, 8
VICTIMS = ("modelserver-0", "scheduler", "gateway", "ratelimiter", "etcd", "envoy")
LARGE_JOB = {"prompt": PROMPT, "images": 4, "steps": 50}
SHIPPED_TIERS = Path(__file__).parents[2] / "services" / "ratelimiter" / "tiers" / "tiers.toml"
ALL_DONE_WITHIN_S = 180.0
TTL_S = 2
# Twice the reservation's life and a little for the loop that looks for expired ones. Refill alone brings 8 units.
RELEASED_WITHIN_S = 2.0 * TTL_S + 4.0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", VICTIMS)
async def test_all_jobs_finish_once_when_a_part_is_killed(
    stack: RunningStack, client: httpx.AsyncClient, victim: str
) -> None:
    async with asyncio.timeout(ALL_DONE_WITHIN_S):
        first_seed = VICTIMS.index(victim) * JOBS  # no job is the same as another, so none is answered from a cache
        ids = await asyncio.gather(*(submit(client, first_seed + number) for number in range(JOBS)))
        stack.kill(victim)
        await stack.wait_ready(victim)
        histories = await asyncio.gather(*(durable_events(client, job_id) for job_id in ids))
        for job_id, events in zip(ids, histories, strict=True):
            await assert_finished_once(client, job_id, events)
    assert len(set(ids)) == JOBS


@pytest.mark.timeout(400)
async def test_a_reservation_without_a_job_is_given_back(start_stack: StartStack, tmp_path: Path) -> None:
    """The gateway ends itself between Reserve and Submit: the units come back, and no job is there."""
    stack = start_stack(
        DARKROOM_FAILPOINT="after_reserve",
        DARKROOM_RESERVATION_TTL_S=str(TTL_S),
        DARKROOM_TIERS=str(slowly_refilled_tiers(tmp_path / "tiers.toml")),
    )
    async with http_client(stack) as client:
        del client.headers["authorization"]
        units: float = (await client.post("/v1/jobs:estimate", json=LARGE_JOB)).json()["units"]
        before = await available_units(client)
        await submit_into_the_void(client, LARGE_JOB)
        assert await available_units(client) < before - 0.8 * units

        async def are_back() -> bool:
            return await available_units(client) >= before - 0.1 * units

        await waiting.until(are_back, RELEASED_WITHIN_S)
        await stack.wait_ready("gateway")
    assert await open_jobs(stack) == 0
    assert_leaves_nothing_behind(stack)


async def open_jobs(stack: RunningStack) -> int:
    """Count what waits or runs, as an operator does."""
    async with Target(stack.folder.root, url="", key="", environ={}).admin("scheduler") as channel:
        return sum(tier.queued + tier.running for tier in (await SchedulerAdminClient(channel).get_queue()).tiers)


def assert_leaves_nothing_behind(stack: RunningStack) -> None:
    """Stop a stack as Ctrl-C does; none of its processes is left."""
    pids = [stack.pid(name) for name in stack.names()]
    assert len(pids) == 6
    assert stack.stop() == 0, stack.console()
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert not stack.names()


def slowly_refilled_tiers(path: Path) -> Path:
    """Write the shipped tiers with an anonymous one that gets a unit a second: what comes back was released."""
    tiers = tomllib.loads(SHIPPED_TIERS.read_text())
    slow = {"units_per_minute": 60, "requests_per_minute": 600, "requests_burst": 600}
    tiers["anonymous"] = slow | {"units_burst": tiers["anonymous"]["units_burst"]}
    lines = (
        f"[{tier}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in limits.items())
        for tier, limits in tiers.items()
    )
    path.write_text("\n".join(lines))
    return path


async def submit(client: httpx.AsyncClient, seed: int) -> str:
    """Queue a small job; return its id."""
    answer = await client.post("/v1/jobs", json={"prompt": PROMPT, "steps": STEPS, "seed": seed, "cache": "bypass"})
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


async def available_units(client: httpx.AsyncClient) -> float:
    """Return the units that the caller could spend now.

    The header stands on every answer, also on Envoy's own when the gateway is gone.
    """
    answer = await client.get("/v1/models")
    return float(answer.headers["x-ratelimit-remaining-cost"])
