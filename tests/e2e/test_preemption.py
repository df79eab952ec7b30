"""An enterprise job on a worker that free jobs keep busy: it draws next, and the one that made room loses nothing.

The worker draws one job at a time. The picture of the job that was parked must be the one of a run that nobody
disturbed, byte for byte, drawn in one attempt without a step twice. When each step ended is the engine's own word, from
the spans of the worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from libs import secret_files
from libs.clients.limiter_admin import LimiterAdminClient
from libs.ids import TenantId
from libs.rpc.channel import open_channel
from libs.testing import waiting
from libs.testing.job_events import Event, parse
from libs.testing.spans import SpanCollector, collecting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import http_client

STEPS, IMAGES = 30, 4  # a step of so many takes long beside a call through the mesh
BEFORE = 5  # steps of the free job after which the other one is sent
MOST_BEGUN = 1  # steps that it begins once the other one was accepted: one, when its beginning and the call cross
WITHIN_S = 150.0
SETTINGS = {"DARKROOM_DEVICES": "cpu", "DARKROOM_THREADS": "1", "DARKROOM_SLOTS": "1"}

Heard = list[tuple[str, Event]]  # of which job; in the order in which it was heard


@pytest.fixture(scope="module")
def collected() -> Iterator[SpanCollector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, collected: SpanCollector) -> Iterator[RunningStack]:
    settings = SETTINGS | {"OTEL_EXPORTER_OTLP_ENDPOINT": collected.endpoint}
    running = RunningStack(tmp_path_factory.mktemp("preemption") / "data", settings)
    running.start()
    yield running
    assert running.stop() == 0, running.console()


@pytest.mark.timeout(240)
async def test_a_free_job_makes_room_at_its_next_step_and_loses_nothing(
    stack: RunningStack, collected: SpanCollector
) -> None:
    async with asyncio.timeout(WITHIN_S), http_client(stack) as client:
        await stack.wait_ready("modelserver-0")
        # Four pictures are all that one of them may have in flight, and a job that has just ended may still count.
        tenants = ("many", "others", "first")
        free, other, before = [{"authorization": f"Bearer {await free_key(stack, tenant)}"} for tenant in tenants]
        undisturbed = await submit(client, before, seed=11)
        await follow(client, before, undisturbed, [])
        heard: Heard = []
        victim, behind = await submit(client, free, seed=11), await submit(client, other, seed=12)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow(client, free, victim, heard))
            tasks.create_task(follow(client, other, behind, heard))
            await waiting.until(lambda: drew(heard, victim), WITHIN_S)
            urgent = await submit(client, {}, seed=13)
            tasks.create_task(follow(client, {}, urgent, heard))
        assert_made_room(heard, victim, urgent)
        await waiting.until(lambda: are_told(collected, victim, urgent), WITHIN_S)
        assert_by_the_engine(collected, victim, urgent)
        assert ends(heard) == [urgent, victim, behind], "the parked one goes on before those that wait"
        assert await picture(client, free, victim) == await picture(client, before, undisturbed)
        for job_id, key in ((victim, free), (behind, other)):
            job = (await client.get(f"/v1/jobs/{job_id}", headers=key)).json()
            assert [attempt["outcome"] for attempt in job["attempts"]] == ["succeeded"]


def assert_made_room(heard: Heard, victim: str, urgent: str) -> None:
    """Check that the victim stood still while the urgent job drew, began to at once, and repeated no step."""
    began = first(heard, urgent, "progress")
    over = max(index for index, (of, event) in enumerate(heard) if of == urgent and event.name == "progress")
    meanwhile = [event.name for job_id, event in heard[began:over] if job_id == victim]
    assert meanwhile == [], "both drew at once"
    drawn = steps(heard, victim)
    assert drawn == sorted(set(drawn)), "a step was drawn twice"
    assert drawn[-1] == STEPS


async def are_told(collected: SpanCollector, victim: str, urgent: str) -> bool:
    """Return whether the worker has told where both were drawn."""
    return len(collected.of_job(victim, "denoise")) == 2 and len(collected.of_job(urgent, "denoise")) == 1


def assert_by_the_engine(collected: SpanCollector, victim: str, urgent: str) -> None:
    """Check by the device's own clock that the victim began one step more at most, and then drew after the other."""
    before, after = collected.of_job(victim, "denoise")
    (drawn,) = collected.of_job(urgent, "denoise")
    accepted_s = collected.of_job(urgent, "queue")[0].start_s
    ended = [moment for _, moment in before.events]
    begun = [moment for moment in ended[:-1] if moment > accepted_s]  # where one ends, the next one begins
    assert len(begun) <= MOST_BEGUN, "it drew on"
    assert before.end_s <= drawn.events[0][1] < drawn.events[-1][1] <= after.events[0][1], "both drew at once"
    assert [name for name, _ in before.events + after.events] == [f"step {n}" for n in range(1, STEPS + 1)]


async def follow(client: httpx.AsyncClient, key: dict[str, str], job_id: str, heard: Heard) -> None:
    """Take in the events of a job up to its end."""
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=key, timeout=WITHIN_S) as answer:
        assert answer.status_code == 200, await answer.aread()
        rest = ""
        async for text in answer.aiter_text():
            *blocks, rest = (rest + text).split("\n\n")
            heard += [(job_id, event) for event in map(parse, blocks) if event is not None]


async def free_key(stack: RunningStack, tenant: str) -> str:
    """Return a key of a tenant of the free tier."""
    secrets = stack.folder.root / "secrets"
    channel = open_channel(
        stack.addresses["ratelimiter"],
        mesh_token=secret_files.read_token(secrets, secret_files.MESH_TOKEN),
        operator_token=secret_files.read_token(secrets, secret_files.OPERATOR_TOKEN),
    )
    async with channel:
        return (await LimiterAdminClient(channel).create_key(TenantId(tenant), "free", "preemption")).secret


async def submit(client: httpx.AsyncClient, key: dict[str, str], seed: int) -> str:
    """Queue a drawing; return its id."""
    body = {"prompt": "a red circle", "steps": STEPS, "seed": seed, "images": IMAGES, "cache": "bypass"}
    answer = await client.post("/v1/jobs", json=body, headers=key)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


async def picture(client: httpx.AsyncClient, key: dict[str, str], job_id: str) -> bytes:
    """Return a job's picture."""
    answer = await client.get(f"/v1/jobs/{job_id}/images/0", headers=key)
    assert answer.status_code == 200, answer.text
    return answer.content


def steps(heard: Heard, job_id: str) -> list[int]:
    """Return the steps that a job told of."""
    return [event.data["step"] for of, event in heard if of == job_id and event.name == "progress"]


async def drew(heard: Heard, job_id: str) -> bool:
    """Return whether a job is well under way."""
    return len(steps(heard, job_id)) >= BEFORE


def first(heard: Heard, job_id: str, name: str) -> int:
    """Return where the first event of a name stands."""
    return next(index for index, (of, event) in enumerate(heard) if of == job_id and event.name == name)


def ends(heard: Heard) -> list[str]:
    """Return who succeeded, in order."""
    return [job_id for job_id, event in heard if event.name == "completed"]
