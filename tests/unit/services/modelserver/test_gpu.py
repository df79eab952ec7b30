"""Readings of a GPU: what is read, how often, and where it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from libs.coordination.memory import MemoryRegistry
from libs.fleet.announce import Announcer
from libs.fleet.model_rows import ModelRows
from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId
from libs.testing.clock import ManualClock
from services.modelserver.announce import (
    BUILD_EVERY_S,
    READ_EVERY_S,
    Announcement,
    Sources,
    first_record,
    make_announcer,
)
from services.modelserver.engine.protocol import Load, ModelLoad, Tier
from services.modelserver.fake_nvml import FakeNvml
from services.modelserver.gpu import FRESH_S, THROTTLES, Reading, open_gpu


def test_a_gpu_is_read_by_its_uuid_and_tells_what_it_can() -> None:
    full = Reading(0.37, 1000, 61, 250.5, 1.98e9, ())
    assert open_gpu("GPU-1", FakeNvml()).read() == full
    mute = FakeNvml(mute=frozenset({"nvmlDeviceGetTemperature", "nvmlDeviceGetPowerUsage"}))
    assert open_gpu("GPU-1", mute).read() == replace(full, temperature_celsius=None, power_watts=None)
    old = FakeNvml(mute=frozenset({"nvmlDeviceGetCurrentClocksEventReasons"}), clock_reasons=0x04)
    assert open_gpu("GPU-1", old).read().throttle == ("sw_power_cap",)
    older = FakeNvml(mute=old.mute | {"nvmlDeviceGetCurrentClocksThrottleReasons"})
    assert open_gpu("GPU-1", older).read().throttle is None


def test_without_a_gpu_there_are_no_readings() -> None:
    assert open_gpu("cpu", FakeNvml()) is None
    assert open_gpu("GPU-2", FakeNvml()) is None
    assert open_gpu("GPU-1", FakeNvml(driver=False)) is None


def test_what_holds_the_clocks_down_is_named_as_nvml_counts_it() -> None:
    names = {"".join(part.capitalize() for part in name.split("_")): bit for name, bit in THROTTLES.items()}
    assert {name: getattr(pynvml, f"nvmlClocksEventReason{name}") for name in names} == names
    others = sum({getattr(pynvml, f"nvmlClocksEventReason{n}") for n in ("GpuIdle", "UserDefinedClocks")})
    assert open_gpu("GPU-1", FakeNvml(clock_reasons=0x48 | others)).read().throttle == (
        "hw_slowdown",
        "hw_thermal_slowdown",
    )


async def test_everybody_shares_one_fresh_reading() -> None:
    clock, nvml = ManualClock(), FakeNvml()
    gpu = open_gpu("GPU-1", nvml, clock)
    for _ in range(5):
        gpu.read()
    nvml.utilisation_percent = 90
    assert (nvml.reads, gpu.read().utilisation_ratio) == (1, 0.37)
    await clock.advance(FRESH_S + 0.1)
    assert (gpu.read().utilisation_ratio, nvml.reads) == (0.9, 2)


class BrokenNvml(FakeNvml):
    """Fails in a way that NVML does not announce."""

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> SimpleNamespace:
        raise ZeroDivisionError


class Setup:
    """An announcement of parts that stand still."""

    def __init__(self, nvml: FakeNvml | None = None) -> None:
        self.clock, self.nvml = ManualClock(), nvml or FakeNvml()
        self.engine: Any = SimpleNamespace(
            device=SimpleNamespace(id="GPU-1", kind="H200", memory_bytes=80 << 30),
            residency=lambda: {"m@1": Tier.VRAM, "n@1": Tier.RAM, "o@1": Tier.DISK},
        )
        load = Load(2, 0, 0, 3, 4, (ModelLoad("m@1", 3, (("64x64", 8),)),), free_bytes=(5 << 30) + 7)
        device = SimpleNamespace(load=load)
        self.worker: Any = SimpleNamespace(rows=4, rows_in_use=3, held=6, draining=False, slots=0, device=device)
        shelf: Any = SimpleNamespace(usable_names=lambda: ("m@1", "n@1", "o@1"))
        record = first_record(WorkerId("w"), "127.0.0.1:1", self.engine, shelf, self.clock)
        self.announcer: Announcer = make_announcer(MemoryRegistry(), record, 5, self.clock)
        self.build = "as it is"
        sources = Sources(open_gpu("GPU-1", self.nvml, self.clock), lambda: 7, self.clock, lambda: self.build)
        self.announcement = Announcement(self.announcer, self.worker, shelf, self.engine, sources)
        self.updates: asyncio.Queue[WorkerRecord] = asyncio.Queue()
        publish = self.announcer.publish

        def noted(record: WorkerRecord) -> None:
            publish(record)
            self.updates.put_nowait(record)

        self.announcer.publish = noted  # type: ignore[method-assign]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.announcement.run())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def next_update(self) -> WorkerRecord:
        async with asyncio.timeout(5):
            return await self.updates.get()


async def test_readings_go_into_the_record_every_few_seconds() -> None:
    setup = Setup()
    async with setup.running():
        record = await setup.next_update()
        assert (record.utilisation_ratio, record.temperature_celsius, record.power_watts) == (0.37, 61, 250.0)
        assert (record.memory_used_bytes, record.throttle) == (0, ())
        setup.nvml.clock_reasons, setup.nvml.memory_used_bytes = 0x20, 3 << 30
        await setup.clock.advance(READ_EVERY_S - 0.1)
        assert setup.updates.empty()
        await setup.clock.advance(0.2)
        record = await setup.next_update()
        assert (record.throttle, record.memory_used_bytes) == (("sw_thermal_slowdown",), 3 << 30)
        assert setup.nvml.reads == 2


async def test_another_build_goes_into_the_record_within_a_second() -> None:
    setup = Setup()
    async with setup.running():
        assert (await setup.next_update()).engine_build == "as it is"
        await setup.clock.advance(BUILD_EVERY_S)
        assert setup.updates.empty()
        setup.build = "another"
        await setup.clock.advance(BUILD_EVERY_S)
        assert (await setup.next_update()).engine_build == "another"


async def test_a_gpu_that_breaks_down_stops_no_worker(caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(BrokenNvml())
    async with setup.running():
        assert (await setup.next_update()).utilisation_ratio is None
    assert [record.message for record in caplog.records] == ["GPU not read"]


async def test_the_record_tells_where_models_are_and_how_full_the_worker_is() -> None:
    setup = Setup()
    setup.announcement.refresh()
    record = setup.announcer.record
    assert (record.resident, record.residency) == (("m@1",), (("m@1", "vram"), ("n@1", "ram")))
    assert (record.rows, record.rows_in_use, record.load_share, record.step_table_version) == (4, 3, 1.5, 7)
    assert record.utilisation_ratio is None
    assert (record.model_rows, record.memory_free_bytes) == ((ModelRows("m@1", 3, (("64x64", 8),)),), 5 << 30)
    setup.worker.rows, setup.worker.held = 0, 2  # results are held up
    setup.announcement.refresh()
    assert (setup.announcer.record.rows, setup.announcer.record.load_share) == (0, 2.0)


async def test_a_worker_of_few_slots_tells_no_rows() -> None:
    setup = Setup()
    setup.worker.slots = 1
    setup.announcement.refresh()
    assert setup.announcer.record.model_rows == ()


async def test_a_record_that_outgrew_its_room_does_without_tiers_and_never_stops_the_work() -> None:
    setup = Setup()
    setup.engine.residency = lambda: dict.fromkeys((f"{number:0100}@1" for number in range(200)), Tier.RAM)
    setup.announcement.refresh()
    assert (setup.announcer.record.residency, setup.announcer.record.rows) == ((), 4)
    setup.engine.residency = lambda: {"m" * 20_000: Tier.VRAM}
    setup.worker.rows = 5
    setup.announcement.refresh()
    assert setup.announcer.record.rows == 4
