"""What a device's time went into, second by second."""

from __future__ import annotations

import asyncio

from libs.generation.attempt import FailureKind
from libs.testing.clock import ManualClock
from services.modelserver.device_time import DeviceTime, Spent
from services.modelserver.events import Done, Failed


class Engine:
    """Seconds with work so far, and whether a model is on its way."""

    def __init__(self) -> None:
        self.busy_s, self.loads = 5.0, False


async def test_work_is_busy_and_the_rest_is_loading_or_idle() -> None:
    clock, engine = ManualClock(), Engine()
    time = DeviceTime(lambda: engine.busy_s, lambda: engine.loads, clock)
    await clock.advance(1)
    assert time.look() == Spent(idle_ms=1000.0)
    engine.busy_s += 0.25
    engine.loads = True
    await clock.advance(1)
    assert time.look() == Spent(busy_ms=250.0, loading_ms=750.0, idle_ms=1000.0)
    engine.busy_s, engine.loads = engine.busy_s + 3.0, False  # a pass that began before the last look
    await clock.advance(1)
    assert time.look() == Spent(busy_ms=1250.0, loading_ms=750.0, idle_ms=1000.0)
    assert time.look() == time.spent


async def test_it_looks_once_a_second() -> None:
    clock, engine = ManualClock(), Engine()
    time = DeviceTime(lambda: engine.busy_s, lambda: engine.loads, clock)
    task = asyncio.create_task(time.run())
    await clock.advance(1.5)
    engine.loads = True
    await clock.advance(1)
    assert time.spent == Spent(loading_ms=1000.0, idle_ms=1000.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_attempts_that_end_without_their_pictures_were_in_vain() -> None:
    time = DeviceTime(lambda: 0.0, lambda: False, ManualClock())
    time.ended(Done(1000.0, 0))
    for kind, gpu_ms in ((FailureKind.OUT_OF_MEMORY, 10.0), (FailureKind.TRANSIENT, 20.0), (FailureKind.BLOCKED, 40.0)):
        time.ended(Failed(kind, "", "", gpu_ms))
    time.ended(Failed(FailureKind.CANCELLED, "", "", 5.0))
    time.ended(Failed(FailureKind.DRAINING, "", "", 300.0))  # goes on from its checkpoint elsewhere
    assert time.look() == Spent(failed_ms=70.0, stopped_ms=5.0)
