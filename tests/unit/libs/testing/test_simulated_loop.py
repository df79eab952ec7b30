"""The simulated loop: made-up time, seeded order, processes that stand still."""

from __future__ import annotations

import asyncio

import pytest

from libs.testing.simulated_loop import START_S, SimulatedClock, SimulatedLoop, Stuck, process_named, simulate


async def _order() -> list[int]:
    told: list[int] = []

    async def tell(number: int) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            told.append(number)

    await asyncio.gather(*(tell(number) for number in range(6)))
    return told


def test_a_seed_is_one_order_and_seeds_differ() -> None:
    assert simulate(1, _order()) == simulate(1, _order())
    assert len({tuple(simulate(seed, _order())) for seed in range(20)}) > 10


def test_a_day_passes_at_once_and_timers_keep_their_order() -> None:
    async def main() -> tuple[float, list[float]]:
        clock, told = SimulatedClock(), []

        async def wake(after_s: float) -> None:
            await clock.sleep(after_s)
            told.append(after_s)

        await asyncio.gather(*(wake(after_s) for after_s in (86_400.0, 1.0, 3600.0)))
        return clock.now(), told

    now, told = simulate(3, main())
    assert now == pytest.approx(START_S + 86_400.0)
    assert told == [1.0, 3600.0, 86_400.0]


def test_a_paused_process_takes_no_step_until_it_goes_on() -> None:
    async def main() -> list[tuple[str, float]]:
        loop, told = asyncio.get_running_loop(), []
        assert isinstance(loop, SimulatedLoop)

        async def tick(name: str) -> None:
            for _ in range(3):
                await SimulatedClock().sleep(1.0)
                told.append((name, loop.time()))

        with process_named("one"):
            one = asyncio.create_task(tick("one"))
        with process_named("other"):
            other = asyncio.create_task(tick("other"))
        await SimulatedClock().sleep(1.5)
        loop.pause("one")
        await SimulatedClock().sleep(10.0)
        loop.go_on("one")
        await asyncio.gather(one, other)
        return [(name, int(at + 1e-6)) for name, at in told]

    told = simulate(5, main())
    assert sorted(at for name, at in told if name == "other") == [1, 2, 3]
    assert [at for name, at in told if name == "one"] == [1, 11, 12]


def test_everybody_waiting_for_somebody_is_an_error() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        simulate(1, main())
