"""What a device's time went into, second by second."""

from __future__ import annotations

import asyncio

from libs.testing.clock import ManualClock
from services.modelserver.device_time import DeviceTime, Spent


class Engine:
    """Passes of the engine so far, and whether a model is on its way."""

    def __init__(self) -> None:
        self.tick_s, self.loads = 5.0, False


async def test_passes_are_busy_and_the_rest_is_loading_or_idle() -> None:
    clock, engine = ManualClock(), Engine()
    time = DeviceTime(lambda: engine.tick_s, lambda: engine.loads, clock)
    await clock.advance(1)
    assert time.look() == Spent(idle_ms=1000.0)
    engine.tick_s += 0.25
    engine.loads = True
    await clock.advance(1)
    assert time.look() == Spent(busy_ms=250.0, loading_ms=750.0, idle_ms=1000.0)
    engine.tick_s, engine.loads = engine.tick_s + 3.0, False  # a pass that began before the last look
    await clock.advance(1)
    assert time.look() == Spent(busy_ms=1250.0, loading_ms=750.0, idle_ms=1000.0)
    assert time.look() == time.spent


async def test_it_looks_once_a_second() -> None:
    clock, engine = ManualClock(), Engine()
    time = DeviceTime(lambda: engine.tick_s, lambda: engine.loads, clock)
    task = asyncio.create_task(time.run())
    await clock.advance(1.5)
    engine.loads = True
    await clock.advance(1)
    assert time.spent == Spent(loading_ms=1000.0, idle_ms=1000.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
