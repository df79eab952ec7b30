"""Jobs that are drawn while parts are away, and what must hold of them afterwards."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx

from libs.testing import waiting
from libs.testing.job_events import FINAL, durable_events
from libs.testing.stack import RunningStack

PROMPT = "a red circle left of a blue square"
JOBS, STEPS = 4, 24
WITHIN_S = 120.0
ALONE = 999_999  # the seed of a job that is drawn before all others
SCHEDULERS, WORKER = ("scheduler", "scheduler-1"), "modelserver-0"


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
    """Check every history, and that no attempt was lost that ran.

    One may have been committed and not sent yet when its leader died: its worker does not know it, and nothing was drawn.
    """
    histories = await asyncio.gather(*(durable_events(client, job_id) for job_id in ids))
    for job_id, events in zip(ids, histories, strict=True):
        assert [event.name for event in events if event.name in FINAL] == ["completed"], job_id
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        outcomes = [(attempt["outcome"], attempt.get("reason", "")) for attempt in job["attempts"]]
        assert [outcome for outcome in outcomes if outcome != ("lost", "SCHEDULER_RESTARTED")] == [("succeeded", "")]


def lines(stack: RunningStack, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stack.log(name).splitlines() if line.startswith("{")]


def leader(stack: RunningStack) -> str:
    """Return the scheduler that took the lead last."""
    took = {
        int(line["epoch"]): name
        for name in SCHEDULERS
        if name in stack.names()
        for line in lines(stack, name)
        if line.get("message") == "took the lead"
    }
    return took[max(took)]
