"""Preloading through the whole scheduler, in one event loop."""

from __future__ import annotations

import pytest

from libs.clients.device_state import ModelPlace
from libs.errors import Unavailable
from services.scheduler.placement.preloader import LOOK_EVERY_S
from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, record, silence

MODELS = ("a@1", "b@1", "c@1")


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def worker(bench: Bench, *resident: str, memory: int) -> FakeModelServer:
    alive = record(models=MODELS, resident=resident, memory_bytes=2 * memory, rows=1)
    server = bench.server(alive.address)
    server.script = silence
    server.places = [ModelPlace(model, "disk", 1.0) for model in MODELS]
    await bench.workers(alive)
    return server


async def test_a_model_that_jobs_wait_for_is_loaded_while_another_draws(bench: Bench) -> None:
    async with bench.running():
        server = await worker(bench, "a@1", "b@1", memory=2)
        await bench.submit(model_version="a@1")
        await bench.submit(model_version="c@1")
        await bench.clock.advance(LOOK_EVERY_S + 0.1)
        assert (server.evicted, server.warmed) == (["b@1"], [("c@1", "vram")])
        await bench.clock.advance(10 * LOOK_EVERY_S)
        assert len(server.warmed) == 1, "it is under way"
        await worker(bench, "a@1", "c@1", memory=2)
        await bench.submit(model_version="b@1")
        await bench.clock.advance(10 * LOOK_EVERY_S)
        assert server.evicted == ["b@1"], "jobs wait for the one that could leave"


async def test_the_model_that_is_needed_first_is_loaded_first(bench: Bench) -> None:
    async with bench.running():
        for model in ("a@1", "a@1", "c@1", "b@1", "b@1"):
            await bench.submit(model_version=model)
        server = await worker(bench, "a@1", memory=2)
        await bench.clock.advance(LOOK_EVERY_S + 0.1)
        assert server.warmed == [("c@1", "vram")]


async def test_for_what_is_next_one_leaves_that_is_needed_later(bench: Bench) -> None:
    async with bench.running():
        await bench.submit(model_version="a@1", tenant_id="ahead", estimated_units=20_000.0)
        await bench.submit(model_version="b@1", tenant_id="ahead")
        await bench.submit(model_version="c@1", tenant_id="owed")
        server = await worker(bench, "a@1", "b@1", memory=2)
        await bench.clock.advance(LOOK_EVERY_S + 0.1)
        assert (server.evicted, server.warmed) == (["b@1"], [("c@1", "vram")])


async def test_what_was_asked_for_before_is_kept_near_where_memory_is_spare(bench: Bench) -> None:
    async with bench.running():
        server = await worker(bench, "a@1", memory=2)
        for _ in range(3):
            job = await bench.submit(model_version="b@1", queued_at=0.0)
            await bench.scheduler.desk.cancel(job.id, job.tenant_id)
        await bench.clock.advance(LOOK_EVERY_S + 0.1)
        assert (server.evicted, server.warmed) == ([], [("b@1", "vram")])


async def test_a_worker_that_refuses_or_does_not_answer_is_left_alone_for_a_while(bench: Bench) -> None:
    class Stubborn(FakeModelServer):
        async def evict(self, pinned: str) -> bool:
            self.evicted.append(pinned)
            return False

        async def warm(self, pinned: str, tier: str) -> None:
            self.warmed.append((pinned, tier))
            raise Unavailable("gone")

    async with bench.running():
        server = bench.servers[record().address] = Stubborn()
        await worker(bench, "a@1", "b@1", memory=2)
        await bench.submit(model_version="a@1")
        await bench.submit(model_version="c@1")
        await bench.clock.advance(5 * LOOK_EVERY_S)
        assert (server.evicted, server.warmed) == (["b@1"], [])
        await worker(bench, "a@1", memory=2)
        await bench.clock.advance(30.0 + LOOK_EVERY_S)
        assert server.warmed == [("c@1", "vram")]
