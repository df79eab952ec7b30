from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st

from darkroom.v1 import job_pb2
from libs.clients.identity import EndedKey
from libs.errors import DarkroomError, NotFound, Unauthenticated, Unavailable
from libs.ids import KeyId
from libs.rpc.status import to_status
from libs.signing import Signer
from libs.testing.clock import ManualClock
from services.gateway.callers.withdrawals import Standing, Withdrawals
from services.gateway.reading import sse
from services.gateway.reading.links import Links
from services.gateway.reading.presentation import Presenter
from services.gateway.reading.relay import EventRelay
from services.gateway.reading.waiting import Waiting, preferred_wait_s
from tests.unit.services.gateway.fakes import (
    CALLER,
    COMPLETED,
    JOB,
    KEYS,
    NOW,
    QUEUED,
    STARTED,
    FakeScheduler,
    event,
    job,
)

TENANT = CALLER.tenant_id
PROGRESS = event(progress=job_pb2.Progress(attempt=1, step=0, total=4))
AWAY = Unavailable("away", metadata={"part": "scheduler"})


class Withdrawn:
    """Knows that no key works any more."""

    async def ended_keys(self, key_ids: Sequence[KeyId]) -> Sequence[EndedKey]:
        return [EndedKey(key_id, "KEY_REVOKED") for key_id in key_ids]


class Bench:
    """A relay of one job on a fake scheduler and a clock that stands still."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.scheduler = FakeScheduler(jobs={JOB: job()})
        self.relay = EventRelay(self.scheduler, Presenter(Links(Signer(KEYS))), self.clock)
        self.withdrawals = Withdrawals(self.clock)
        self.waiting = Waiting(self.scheduler, self.relay, self.withdrawals, self.clock)

    async def frames(self, after: int = 0) -> list[bytes]:
        return [data async for data in self.relay.frames(TENANT, JOB, after, Standing())]

    async def events(self, after: int = 0) -> list[job_pb2.JobEvent]:
        return [e async for e in self.relay.events(TENANT, JOB, after, Standing())]

    async def moved(self, task: asyncio.Task[list[bytes]], seconds: float = 1.0) -> None:
        """Let time pass until the task is done."""
        async with asyncio.timeout(5):
            while not task.done():
                await self.clock.advance(seconds)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def parsed(frame: bytes) -> tuple[str, str, dict[str, object]]:
    lines = frame.decode().removesuffix("\n\n").split("\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(lines) == len(fields)
    return fields["event"], fields.get("id", ""), json.loads(fields["data"])


async def test_the_stream_of_a_job(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, STARTED, PROGRESS, COMPLETED)]
    opening, *frames = await bench.frames()
    assert opening == b"retry: 1000\n\n"
    told = [parsed(frame) for frame in frames]
    assert [(name, identity) for name, identity, _ in told] == [
        ("queued", "1"),
        ("started", "2"),
        ("progress", ""),
        ("completed", "3"),
    ]
    assert told[2][2] == {
        "job_id": JOB, "time": "2023-11-14T22:13:20Z", "attempt": 1, "step": 0, "total": 4, "eta_s": 0.0,
    }  # fmt: skip
    assert json.loads(json.dumps(told[3][2]))["images"][0]["url"].startswith("/v1/blobs/")


async def test_links_in_events_last_a_day(bench: Bench) -> None:
    bench.scheduler.scripts = [(COMPLETED,)]
    (last,) = await bench.events()
    assert f"?e={NOW + 86400}&k=k1&s=" in last.completed.images[0].url


async def test_silence_is_filled_every_15_seconds(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.scheduler.scripts = [(QUEUED, gate, COMPLETED)]
    seen: list[bytes] = []

    async def read() -> None:
        async for frame in bench.relay.frames(TENANT, JOB, 0, Standing()):
            seen.append(frame)

    reading = asyncio.create_task(read())
    await bench.clock.advance(14.9)
    assert len(seen) == 2
    await bench.clock.advance(30.2)
    assert seen[2:] == [b": keepalive\n\n"] * 3
    gate.set()
    await reading
    assert parsed(seen[-1])[0] == "completed"


async def test_an_event_begins_the_silence_anew(bench: Bench) -> None:
    gate, never = asyncio.Event(), asyncio.Event()
    bench.scheduler.scripts = [(gate, QUEUED, never)]
    async with aclosing(bench.relay.frames(TENANT, JOB, 0, Standing())) as frames:
        await anext(frames)
        following = asyncio.ensure_future(anext(frames))
        await bench.clock.advance(14)
        gate.set()
        assert parsed(await following)[0] == "queued"
        following = asyncio.ensure_future(anext(frames))
        await bench.clock.advance(14)
        assert not following.done()
        await bench.clock.advance(1)
        assert await following == sse.KEEPALIVE


@pytest.mark.parametrize("broken", [(QUEUED, STARTED, AWAY), (QUEUED, STARTED)])
async def test_a_reader_does_not_notice_that_the_scheduler_went_away(
    bench: Bench, broken: tuple[job_pb2.JobEvent | DarkroomError, ...]
) -> None:
    bench.scheduler.scripts = [broken, (AWAY,), (AWAY,), (PROGRESS, COMPLETED)]
    reading = asyncio.create_task(bench.frames())
    await bench.moved(reading)
    told = [parsed(frame)[:2] for frame in reading.result()[1:] if frame != sse.KEEPALIVE]
    assert told == [("queued", "1"), ("started", "2"), ("progress", ""), ("completed", "3")]
    assert bench.scheduler.watched_after == [0, 2, 2, 2]


async def test_resuming_passes_the_last_sequence_on(bench: Bench) -> None:
    bench.scheduler.scripts = [(COMPLETED,)]
    assert len(await bench.frames(after=2)) == 2
    assert bench.scheduler.watched_after == [2]


async def test_a_reader_of_a_job_that_failed_and_was_queued_again_goes_on_from_its_place(bench: Bench) -> None:
    again = (event(4, queued=job_pb2.QueuedEvent()), PROGRESS, event(5, completed=job_pb2.CompletedEvent()))
    bench.scheduler.scripts = [again, again]
    assert [parsed(frame)[:2] for frame in (await bench.frames(after=3))[1:]] == [
        *(("queued", "4"), ("progress", ""), ("completed", "5")),
    ]
    assert [told.sequence for told in await bench.events(after=3)] == [4, 0, 5]
    assert bench.scheduler.watched_after == [3, 3]


async def test_nothing_is_left_after_the_final_event(bench: Bench) -> None:
    bench.scheduler.jobs[JOB] = job(job_pb2.Job.SUCCEEDED)
    bench.scheduler.scripts = [()]
    assert await bench.frames(after=3) == []


async def test_an_unknown_job_is_told_before_the_stream_begins(bench: Bench) -> None:
    bench.scheduler.jobs.clear()
    with pytest.raises(NotFound):
        await bench.frames()
    with pytest.raises(NotFound):
        await bench.events()


async def test_what_cannot_go_on_says_so_in_the_stream(bench: Bench) -> None:
    gone = NotFound("The job was deleted.", reason="JOB_NOT_FOUND")
    bench.scheduler.scripts = [(QUEUED, gone)]
    frames = await bench.frames()
    name, identity, document = parsed(frames[-1])
    assert (name, identity, document["message"]) == ("error", "", "The job was deleted.")
    assert document["code"] == to_status(gone).code
    bench.scheduler.scripts = [(QUEUED, gone)]
    with pytest.raises(NotFound):
        await bench.events()


async def test_a_reader_that_leaves_ends_the_watch(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, asyncio.Event())]
    async with aclosing(bench.relay.frames(TENANT, JOB, 0, Standing())) as frames:
        await anext(frames)
        await anext(frames)
        assert bench.scheduler.watches_open == 1
    assert bench.scheduler.watches_open == 0


async def test_a_withdrawn_key_ends_open_streams_and_says_so(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, asyncio.Event()), (QUEUED, asyncio.Event())]
    standing = Standing()

    async def read() -> list[bytes]:
        return [data async for data in bench.relay.frames(TENANT, JOB, 0, standing)]

    async def watch() -> list[job_pb2.JobEvent]:
        return [each async for each in bench.relay.events(TENANT, JOB, 0, standing)]

    plain, typed = asyncio.create_task(read()), asyncio.create_task(watch())
    await bench.clock.settle()
    assert not plain.done()
    standing.end("KEY_REVOKED")
    name, identity, document = parsed((await plain)[-1])
    assert (name, identity, document["code"]) == ("error", "", code_pb2.UNAUTHENTICATED)
    with pytest.raises(Unauthenticated, match="was withdrawn while its answer was open") as caught:
        await typed
    assert caught.value.reason == "KEY_REVOKED"
    assert bench.scheduler.watches_open == 0


async def test_what_comes_after_a_withdrawal_is_not_told(bench: Bench) -> None:
    gate = asyncio.Event()
    bench.scheduler.scripts = [(QUEUED, gate, COMPLETED)]
    standing = Standing()
    async with aclosing(bench.relay.events(TENANT, JOB, 0, standing)) as events:
        assert (await anext(events)).sequence == 1
        gate.set()
        await bench.clock.settle()  # the next one is there, and its reader has not asked for it
        standing.end("KEY_EXPIRED")
        with pytest.raises(Unauthenticated, match="has expired"):
            await anext(events)


async def test_a_wait_ends_with_the_key_that_it_came_with(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, asyncio.Event())]
    accepted = job()
    waiting = asyncio.create_task(bench.waiting.finished(CALLER, accepted, 60))
    await bench.clock.settle()
    await bench.withdrawals.look(Withdrawn())
    bench.scheduler.jobs[JOB] = job(job_pb2.Job.RUNNING)
    assert await waiting is accepted, "it was accepted and charged: its id is told, and nothing that came of it since"
    assert bench.scheduler.watches_open == 0


async def test_going_away_ends_open_streams(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, asyncio.Event()), (QUEUED, asyncio.Event())]
    plain, typed = asyncio.create_task(bench.frames()), asyncio.create_task(bench.events())
    await bench.clock.settle()
    bench.relay.stop()
    assert len(await plain) == 2
    with pytest.raises(Unavailable) as caught:
        await typed
    assert caught.value.reason == "DRAINING"
    assert bench.scheduler.watches_open == 0


@given(st.text(max_size=200))
def test_a_frame_is_one_line_of_data(text: str) -> None:
    failed = event(4, failed=job_pb2.FailedEvent(error=to_status(NotFound(text.encode(errors="replace").decode()))))
    name, identity, document = parsed(sse.frame(failed))
    assert (name, identity, document["sequence"]) == ("failed", "4", 4)


@pytest.mark.parametrize(("value", "after"), [("7", 7), ("", 0), ("-1", 0), ("x", 0), ("٣", 0), ("9" * 20, 0)])
def test_only_our_own_event_ids_count(value: str, after: int) -> None:
    assert sse.last_event_id(value) == after


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [("wait=30", 30), ("respond-async, wait=5", 5), ("Wait = 500", 60), ("wait=x", 0), ("await=3", 0), ("", 0)],
)
def test_preferences(prefer: str, wait_s: int) -> None:
    assert preferred_wait_s(prefer) == wait_s


async def test_a_wait_ends_with_the_job(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, COMPLETED)]
    bench.scheduler.jobs[JOB] = done = job(job_pb2.Job.SUCCEEDED)
    assert await bench.waiting.finished(CALLER, job(), 60) == done


async def test_a_wait_ends_with_its_time(bench: Bench) -> None:
    bench.scheduler.scripts = [(QUEUED, asyncio.Event())]
    waiting = asyncio.create_task(bench.waiting.finished(CALLER, job(), 60))
    await bench.clock.advance(59)
    assert not waiting.done()
    await bench.clock.advance(1)
    assert await waiting == job()
    assert bench.scheduler.watches_open == 0


async def test_a_wait_is_never_an_error(bench: Bench) -> None:
    bench.scheduler.jobs.clear()
    waiting = asyncio.create_task(bench.waiting.finished(CALLER, job(), 60))
    await bench.clock.settle()
    assert await waiting == job()
