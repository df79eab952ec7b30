"""A model server is killed in the midst of a drawing: another process goes on from its checkpoint to the same picture.

Two model servers share the CPU. The picture must be the one of a run that nobody disturbed, byte for byte, whether
the sampler adds noise of its own at each step or not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from libs.testing import waiting
from libs.testing.job_events import Event, parse
from libs.testing.stack import RunningStack
from tests.e2e.conftest import http_client

STEPS = 100
MOST_REPEATED = 20  # steps; the setting of the stack, and what is checked
SAMPLERS = ("euler", "euler_a")
SEED = 11
KILLS, MORE_KILLS = 6, 30
WITHIN_S = 150.0
REMOVED_WITHIN_S = 20.0
SETTINGS = {
    "DARKROOM_DEVICES": "cpu,cpu",
    "DARKROOM_THREADS": "1",
    "DARKROOM_LEASE_TTL_S": "2",
    "DARKROOM_CHECKPOINT_STEPS": str(MOST_REPEATED),
    "DARKROOM_CHECKPOINT_WORTH_S": "0",  # the whole drawing takes two seconds
}


@dataclass(slots=True)
class Arena:
    """The stack, and the pictures of undisturbed runs by sampler."""

    stack: RunningStack
    undisturbed: dict[str, bytes] = field(default_factory=dict)

    async def ready(self) -> None:
        """Wait until both model servers are there."""
        await asyncio.gather(*(self.stack.wait_ready(f"modelserver-{index}") for index in (0, 1)))


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    stack = RunningStack(tmp_path_factory.mktemp("resume") / "data", SETTINGS)
    stack.start()
    yield Arena(stack)
    assert stack.stop() == 0, stack.console()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "number", [*range(KILLS), *(pytest.param(n, marks=pytest.mark.slow) for n in range(KILLS, KILLS + MORE_KILLS))]
)
async def test_a_killed_drawing_is_finished_elsewhere_to_the_same_bytes(arena: Arena, number: int) -> None:
    sampler = SAMPLERS[number % len(SAMPLERS)]
    victim_step = random.Random(number).randrange(MOST_REPEATED // 2, STEPS * 3 // 4)
    async with asyncio.timeout(WITHIN_S), http_client(arena.stack) as client:
        await arena.ready()
        if sampler not in arena.undisturbed:
            arena.undisturbed[sampler] = await picture(client, await submit(client, sampler))
        job_id = await submit(client, sampler)
        killed, events = await kill_at(arena.stack, client, job_id, victim_step)
        assert await picture(client, job_id) == arena.undisturbed[sampler]
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        assert_went_on(job, killed, events)
        await waiting.until(lambda: nothing_is_left(arena.stack), REMOVED_WITHIN_S)


def assert_went_on(job: dict[str, Any], killed: str, events: list[Event]) -> None:
    """Check that one other attempt did the rest, that little was drawn twice, and that one result was published."""
    first, second = job["attempts"]
    assert (first["outcome"], first["worker"], second["outcome"]) == ("lost", killed, "succeeded")
    assert second["worker"] != killed
    done, again = (steps_of(events, attempt) for attempt in (1, 2))
    assert min(again) > first["checkpoint_step"] > 0, "it began anew"
    assert max(done) - first["checkpoint_step"] <= MOST_REPEATED
    durable = [event.name for event in events if event.sequence]
    assert durable == ["queued", "started", "queued", "started", "image", "completed"]
    assert len(job["images"]) == 1


async def kill_at(stack: RunningStack, client: httpx.AsyncClient, job_id: str, step: int) -> tuple[str, list[Event]]:
    """Follow a job to its end; kill its worker at `step`, or as soon after as it has a checkpoint.

    Returns who was killed, and all events.
    """
    killed, events = "", []
    async with aclosing(watch(client, job_id)) as stream:
        async for event in stream:
            events.append(event)
            at_step = event.name == "progress" and event.data["step"] >= step
            if not killed and at_step and await has_checkpoint(client, job_id):
                killed = next(event.data["worker"] for event in events if event.name == "started")
                stack.kill(killed)
    assert killed, "it was over before its worker could be killed"
    return killed, events


async def watch(client: httpx.AsyncClient, job_id: str) -> AsyncGenerator[Event, None]:
    """Yield the events of a job as they come, the passing ones too."""
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=WITHIN_S) as answer:
        assert answer.status_code == 200, await answer.aread()
        rest = ""
        async for text in answer.aiter_text():
            *blocks, rest = (rest + text).split("\n\n")
            for event in filter(None, map(parse, blocks)):
                yield event


async def has_checkpoint(client: httpx.AsyncClient, job_id: str) -> bool:
    """Return whether the running attempt can be gone on from."""
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    return any(attempt.get("checkpoint_step", 0) for attempt in job["attempts"])


async def submit(client: httpx.AsyncClient, sampler: str) -> str:
    """Queue the drawing; return its id."""
    body = {
        "prompt": "a red circle left of a blue square",
        "steps": STEPS,
        "seed": SEED,
        "sampler": sampler,
        "cache": "bypass",
    }
    answer = await client.post("/v1/jobs", json=body)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def picture(client: httpx.AsyncClient, job_id: str) -> bytes:
    """Return a job's picture once the job has succeeded."""
    events = [event async for event in watch(client, job_id)]
    assert events[-1].name == "completed", events[-1]
    answer = await client.get(f"/v1/jobs/{job_id}/images/0")
    assert answer.status_code == 200, answer.text
    return answer.content


def steps_of(events: list[Event], attempt: int) -> list[int]:
    """Return the steps that an attempt told of."""
    return [event.data["step"] for event in events if event.name == "progress" and event.data["attempt"] == attempt]


async def nothing_is_left(stack: RunningStack) -> bool:
    """Return whether the blob store holds no checkpoint."""
    return not (stack.folder.root / "blobs" / "checkpoints").exists()
