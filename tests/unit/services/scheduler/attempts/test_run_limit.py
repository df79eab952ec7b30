from __future__ import annotations

import pytest

from libs.clients.modelserver import Progress
from services.scheduler.attempts.run_limit import RunClock, RunLimits, parse
from services.scheduler.job import JobState
from tests.unit.services.scheduler.fakes import STEPS, Bench, record, silence


def test_the_limit_is_twenty_estimates_and_at_least_a_minute() -> None:
    limits = RunLimits()
    assert limits.limit_s("flux", "free", 100.0) == 60.0
    assert limits.limit_s("flux", "free", 10_000.0) == 200.0


def test_the_most_specific_setting_holds() -> None:
    limits = parse(["flux=10", "free=20", "flux/free=30"])
    asked = [("flux", "free"), ("flux", "pro"), ("shapes", "free"), ("shapes", "pro")]
    assert [limits.limit_s(model, tier, 1.0) for model, tier in asked] == [30.0, 10.0, 20.0, 60.0]


@pytest.mark.parametrize("entry", ["flux", "=5", "flux=", "flux=-1", "flux=nan", "flux=inf", "flux=0", "flux=soon"])
def test_what_is_no_limit_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="MODEL=SECONDS"):
        parse([entry])


def test_parked_time_is_not_drawn_time() -> None:
    clock = RunClock()
    clock.go_on(1.0)
    assert (clock.runs, clock.drawn_s(5.0)) == (False, 0.0)
    clock.begin(10.0)
    clock.begin(12.0)
    assert (clock.begun_at, clock.drawn_s(15.0)) == (10.0, 5.0)
    clock.pause(15.0)
    clock.pause(17.0)
    assert (clock.runs, clock.drawn_s(100.0)) == (False, 5.0)
    clock.go_on(100.0)
    clock.go_on(101.0)
    assert (clock.runs, clock.drawn_s(103.0)) == (True, 8.0)


async def test_a_parked_attempt_does_not_run_out_of_time() -> None:
    bench = Bench()
    async with bench.running():
        (server,) = await bench.workers(record(), script=silence)
        low = await bench.submit(tier="free")
        server.say(server.orders[0], Progress(1, 1, STEPS, 30.0))
        await bench.clock.advance(59.0)
        await bench.submit(tier="enterprise")
        for order in server.orders[1:]:  # its own limit starts with its first step
            server.say(order, Progress(1, 1, STEPS, 30.0))
        await bench.clock.advance(50.0)
        assert server.moves == [("park", low.id)]
        assert (await bench.now(low.id)).state is JobState.RUNNING
        await bench.clock.advance(10.5)  # the other one is over its limit, the row is free
        assert server.moves == [("park", low.id), ("resume", low.id)]
        assert (await bench.now(low.id)).state is JobState.RUNNING
        await bench.clock.advance(1.5)
        ended = await bench.now(low.id)
        assert ended.failure is not None
        assert ended.failure.reason == "GENERATION_TIMEOUT"
