"""Loops that must not end."""

from __future__ import annotations

import asyncio
import logging

import pytest

from libs.errors import Unavailable
from libs.ids import JobId, TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter import agent
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.expirer import Expirer


async def test_the_expirer_gives_back_what_nobody_confirmed(bench):
    task = asyncio.create_task(Expirer(bench.limiter, bench.clock, ttl_s=10).run())
    hold = Hold(JobId("job_1"), TenantId("t"), "pro", 1000)
    await bench.limiter.reserve(hold)
    await bench.clock.advance(9)
    assert (await bench.limiter.peek(hold)).available_units < 1000
    await bench.clock.advance(3)
    assert (await bench.limiter.peek(hold)).available_units == 1000
    assert not await bench.limiter.release(TenantId("t"), JobId("job_1"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_failing_step_is_logged_and_the_loop_goes_on(caplog: pytest.LogCaptureFixture):
    clock, ran = ManualClock(), []

    async def work() -> None:
        ran.append(clock.monotonic())
        if len(ran) == 1:
            raise Unavailable("database away")
        if len(ran) == 2:
            raise ValueError("a defect")

    task = asyncio.create_task(agent.repeat("the test", clock, 1.0, work))
    with caplog.at_level(logging.WARNING):
        await clock.advance(20)
    assert len(ran) > 10
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert caplog.records[1].exc_info is not None
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
