"""How soon an enterprise job draws on a worker that free jobs keep busy, through the whole mesh on the real engine.

    python -m tests.bench.park_wait

One worker, one job at a time. A free job of 30 steps and four pictures draws; an enterprise job comes at a random moment
of it. Counted by the device's own clock, from the spans of the worker: the
steps that the free job begins after the other one was accepted, and the time until that one ends its first step.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from libs.testing import waiting
from libs.testing.spans import Span, SpanCollector, collecting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import http_client
from tests.e2e.test_preemption import SETTINGS, free_key, submit

ROUNDS = 8  # the free tier takes ten requests a minute
WITHIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Wait:
    """One enterprise job; milliseconds from when it was accepted."""

    begun: int  # steps of the free job
    parked_ms: float
    drawn_ms: float  # its own first step was over
    step_ms: float  # of the free job


async def run(collected: SpanCollector, folder: Path) -> list[Wait]:
    """Measure on a stack of its own."""
    stack = RunningStack(folder, SETTINGS | {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.endpoint})
    await asyncio.to_thread(stack.start)
    try:
        async with http_client(stack) as client:
            await stack.wait_ready("modelserver-0")
            # Two by turns: a tenant's four pictures may count for a moment after they were deleted.
            free = [{"authorization": f"Bearer {await free_key(stack, tenant)}"} for tenant in ("many", "others")]
            waits = [await _round(client, free[number % 2], collected, number) for number in range(ROUNDS)]
            return waits[1:]  # in the first one the model is loaded and measured
    finally:
        await asyncio.to_thread(stack.stop)


async def _round(client: httpx.AsyncClient, free: dict[str, str], collected: SpanCollector, number: int) -> Wait:
    """Keep the worker busy, send an enterprise job into it, and read what became of both."""
    victim = await submit(client, free, seed=100 + number)
    await waiting.until(_is(client, free, victim, "RUNNING"), WITHIN_S)
    for _ in range(random.Random(number).randint(10, 20)):
        await waiting.pause()
    body = {"prompt": "a blue square", "steps": 3, "seed": number, "cache": "bypass"}
    answer = await client.post("/v1/jobs", json=body, headers={"prefer": "wait=60"}, timeout=90)
    urgent = answer.json()["id"]
    await waiting.until(_are_told(collected, urgent), WITHIN_S)
    await client.delete(f"/v1/jobs/{victim}", headers=free)
    (drawn,) = collected.of_job(urgent, "denoise")
    accepted_s = collected.of_job(urgent, "queue")[0].start_s
    return _wait(accepted_s, drawn, collected.of_job(victim, "denoise")[0])


def _wait(accepted_s: float, drawn: Span, victim: Span) -> Wait:
    ended = [moment for _, moment in victim.events]
    begun = sum(moment > accepted_s for moment in ended[:-1])
    step_s = (ended[-1] - ended[0]) / (len(ended) - 1)
    first_s = drawn.events[0][1]
    return Wait(begun, *(1000 * each for each in (victim.end_s - accepted_s, first_s - accepted_s, step_s)))


def _is(client: httpx.AsyncClient, key: dict[str, str], job_id: str, state: str) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return (await client.get(f"/v1/jobs/{job_id}", headers=key)).json()["state"] == state

    return is_so


def _are_told(collected: SpanCollector, urgent: str) -> Callable[[], Awaitable[bool]]:
    async def is_so() -> bool:
        return bool(collected.of_job(urgent, "denoise")) and bool(collected.of_job(urgent, "queue"))

    return is_so


def main() -> None:
    """Print the table."""
    with collecting() as collected, tempfile.TemporaryDirectory() as folder:
        waits = asyncio.run(run(collected, Path(folder) / "data"))
    print(f"{len(waits)} enterprise jobs; milliseconds since each was accepted, median / longest\n")
    print("| steps that the free job began | free job parked | first step drawn | a step of the free job |")
    print("|---|---|---|---|")
    columns = zip(*((wait.parked_ms, wait.drawn_ms, wait.step_ms) for wait in waits), strict=True)
    cells = " | ".join(f"{statistics.median(column):.0f} / {max(column):.0f}" for column in columns)
    print(f"| {statistics.mean(wait.begun for wait in waits):.1f}, most {max(w.begun for w in waits)} | {cells} |")


if __name__ == "__main__":
    main()
