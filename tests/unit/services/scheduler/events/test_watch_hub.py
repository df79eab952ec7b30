"""What readers hear, whenever they come."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.clients.modelserver import Progress
from libs.errors import Unavailable
from libs.generation.attempt import ImageStored
from libs.ids import JobId, WorkerId
from libs.testing.clock import ManualClock
from services.scheduler.events.watch_hub import WatchHub
from services.scheduler.events.watch_inbox import Transient
from services.scheduler.job import DurableEvent, Failure
from services.scheduler.settlement import endings
from services.scheduler.settlement.endings import Yield
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.wishes import Requeue, Revival, Start
from tests.unit.services.scheduler.fakes import job, spec


class SlowStore(MemoryStore):
    """Answers some turns of the loop later, so that commits fall between a reader's question and its answer."""

    def __init__(self, delays: list[int]) -> None:
        super().__init__()
        self._delays = delays

    async def events(self, job_id: JobId, after_seq: int) -> list[DurableEvent]:
        await self._pass()
        found = await super().events(job_id, after_seq)
        await self._pass()
        return found

    async def _pass(self) -> None:
        for _ in range(self._delays.pop() if self._delays else 0):
            await asyncio.sleep(0)


async def lead_through(store: MemoryStore, hub: WatchHub, turns: list[int]) -> tuple[JobId, asyncio.Task[None]]:
    """A life with a lost attempt, with pauses between its changes."""
    epoch = await store.take_lead("test", 0.0)
    waiting = (await store.accept(job(1.0), [])).job

    async def changes() -> None:
        for attempt in (1, 2):
            running = await store.start(Start(waiting.id, attempt, WorkerId("w"), epoch, 2.0))
            await told()
            if attempt == 1:
                await store.requeue(Requeue(waiting.id, 1, epoch, 3.0, "lost", "WORKER_LOST"))
            else:
                assert running is not None
                hub.tell(waiting.id, Progress(2, 9, 9, 0.0))
                await store.end(endings.succeeded(running, Yield(), epoch=epoch, now=4.0, result_life_s=1.0))
            await told()

    async def told() -> None:
        hub.mark(waiting.id)
        for _ in range(turns.pop() if turns else 0):
            await asyncio.sleep(0)

    return waiting.id, asyncio.create_task(changes())


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 4), max_size=12),
    st.lists(st.integers(0, 6), max_size=8),
    st.integers(0, 7),
    st.lists(st.integers(0, 4), max_size=6),
)
def test_no_durable_event_is_lost_or_doubled(delays: list[int], turns: list[int], after: int, reads: list[int]) -> None:
    async def run() -> None:
        store = SlowStore(delays)
        hub = WatchHub(store, ManualClock())
        job_id, life = await lead_through(store, hub, turns)
        seen = []
        async with asyncio.timeout(5):
            async for event in hub.watch(job_id, after):
                if isinstance(event, DurableEvent):
                    seen.append(event.seq)
                for _ in range(reads.pop() if reads else 0):
                    await asyncio.sleep(0)
            await life
        assert seen == list(range(after + 1, 6))

    asyncio.run(run())


def kind(event: DurableEvent | Transient) -> str:
    assert isinstance(event, DurableEvent)
    return event.kind


async def test_the_last_step_comes_before_the_end_and_a_late_reader_hears_the_latest() -> None:
    store = MemoryStore()
    hub = WatchHub(store, ManualClock())
    epoch = await store.take_lead("test", 0.0)
    waiting = (await store.accept(job(1.0), [])).job
    running = await store.start(Start(waiting.id, 1, WorkerId("w"), epoch, 2.0))
    assert running is not None
    hub.tell(waiting.id, Progress(1, 3, 9, 0.0))
    watch = hub.watch(waiting.id, 0)
    assert [kind(await anext(watch)) for _ in range(2)] == ["queued", "started"]
    assert await anext(watch) == Progress(1, 3, 9, 0.0)
    hub.tell(waiting.id, Progress(1, 4, 9, 0.0))
    hub.tell(waiting.id, Progress(1, 9, 9, 0.0))
    await store.end(endings.succeeded(running, Yield(), epoch=epoch, now=4.0, result_life_s=1.0))
    hub.mark(waiting.id)
    assert await anext(watch) == Progress(1, 9, 9, 0.0)
    assert kind(await anext(watch)) == "completed"
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_a_slow_reader_holds_up_nobody_and_a_stop_ends_every_watch() -> None:
    store, clock = MemoryStore(), ManualClock()
    hub = WatchHub(store, clock)
    waiting = (await store.accept(job(1.0), [])).job
    watch = hub.watch(waiting.id, 0)
    await anext(watch)
    for step in range(1, 10_000):
        hub.tell(waiting.id, Progress(1, step, 10_000, 0.0))
    assert [await anext(watch)] == [Progress(1, 1, 10_000, 0.0)]
    reading = asyncio.ensure_future(anext(watch))
    await clock.advance(0.1)
    assert await reading == Progress(1, 9_999, 10_000, 0.0)
    reading = asyncio.ensure_future(anext(watch))
    await clock.settle()
    hub.stop()
    with pytest.raises(Unavailable, match="restarts"):
        await reading


async def test_a_job_that_came_back_is_told_on_and_its_first_end_to_nobody_new() -> None:
    store = MemoryStore()
    hub = WatchHub(store, ManualClock())
    epoch = await store.take_lead("test", 0.0)
    job_id = (await store.accept(job(1.0, spec=spec(images=2)), [])).job.id
    image = ImageStored(0, "a" * 64, "image/png", 64, 64, 7, 9)
    first = await store.start(Start(job_id, 1, WorkerId("w"), epoch, 2.0))
    assert first is not None
    lost = Failure("WORKER_LOST", "Lost.")
    await store.end(endings.partly(first, lost, Yield((image,)), epoch=epoch, now=3.0, result_life_s=9.0, dead=True))
    seen = [event async for event in hub.watch(job_id, 0) if isinstance(event, DurableEvent)]
    await store.alter(Revival(job_id, epoch, 4.0))
    second = await store.start(Start(job_id, 2, WorkerId("w"), epoch, 5.0))
    assert second is not None
    await store.end(endings.succeeded(second, Yield((image,)), epoch=epoch, now=6.0, result_life_s=9.0))
    assert [event.kind for event in seen] == ["queued", "started", "image", "failed"]

    async def told(after: int) -> list[tuple[int, str]]:
        return [(event.seq, event.kind) async for event in hub.watch(job_id, after) if isinstance(event, DurableEvent)]

    again = [(5, "queued"), (6, "started"), (7, "image"), (8, "completed")]
    assert await told(after=seen[-1].seq) == again
    assert await told(after=2) == again
    assert await told(after=0) == [(1, "queued"), (2, "started"), *again]


async def test_a_deleted_job_ends_its_watch() -> None:
    store, clock = MemoryStore(), ManualClock()
    hub = WatchHub(store, clock)
    epoch = await store.take_lead("test", 0.0)
    waiting = (await store.accept(job(1.0), [])).job
    await store.end(endings.cancelled(waiting, epoch=epoch, now=2.0))
    await store.delete(waiting.id, waiting.tenant_id, 3.0)
    assert [event async for event in hub.watch(waiting.id, 0)] == []
