"""Messages that are committed close together are read together."""

from __future__ import annotations

from services.scheduler.settlement.outbox import GATHER_S
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.store import PendingMessage
from tests.unit.services.scheduler.fakes import Bench


class Counting(MemoryStore):
    """Counts how often it is asked for messages."""

    looks = 0

    async def pending_messages(self, limit: int, now: float) -> list[PendingMessage]:
        self.looks += 1
        return await super().pending_messages(limit, now)


async def test_what_comes_within_a_moment_is_read_at_once() -> None:
    store = Counting()
    bench = Bench(store)
    async with bench.running() as scheduler:
        scheduler.outbox.gather_s = GATHER_S
        before = store.looks
        jobs = [await bench.submit() for _ in range(5)]
        assert (bench.limiter.delivered, store.looks) == ([], before)
        await bench.clock.advance(GATHER_S)
        assert [payload["reservation_id"] for _, payload in bench.limiter.delivered] == [job.id for job in jobs]
        assert store.looks == before + 1
