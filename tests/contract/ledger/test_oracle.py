"""Whatever is asked in whatever order, by clocks that are put forward and back, twice, too late: no limit is ever exceeded."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings

from libs.testing.clock import ManualClock
from services.ratelimiter.balances import days
from services.ratelimiter.balances.causes import Cause
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.tiers.policy import Limits
from tests.contract.ledger.conftest import Desk
from tests.contract.ledger.oracle import (
    DONE,
    JOBS,
    LIMITS,
    LIMITS_OF_DAY,
    LIMITS_OF_MINUTE,
    SCRIPTS,
    TENANTS,
    Oracle,
    Script,
)

SECONDS_TO_MIDNIGHT = 60.0
NARROW = (
    pytest.param(LIMITS, id="everywhere"),
    pytest.param(LIMITS_OF_MINUTE, id="minute"),
    pytest.param(LIMITS_OF_DAY, id="day"),
)


def tight(desk: Desk, limits: Limits, *, borrows: bool) -> Desk:
    """Give a desk limits, a minute before its day ends."""
    desk.limits = replace(limits, borrows=borrows)
    desk.clock.put(days.DAY_S - desk.clock.now() % days.DAY_S - SECONDS_TO_MIDNIGHT)
    return desk


def desk_in_memory() -> Desk:
    clock = ManualClock()
    return Desk(MemoryLedger(clock), clock)


@pytest.mark.parametrize("limits", NARROW)
@pytest.mark.parametrize("borrows", [False, True])
@settings(max_examples=40)
@given(SCRIPTS)
def test_whatever_happens_nothing_is_given_beyond_the_limits(borrows: bool, limits: Limits, script: Script):
    asyncio.run(Oracle(tight(desk_in_memory(), limits, borrows=borrows)).play(script))


@pytest.mark.parametrize("limits", NARROW)
@pytest.mark.parametrize("seed", range(3))
async def test_drawn_scripts_on_every_ledger(desk: Desk, limits: Limits, seed: int):
    await Oracle(tight(desk, limits, borrows=bool(seed % 2))).play(drawn(seed))


def drawn(seed: int, moves: int = 150) -> Script:
    """Return a script that a seed decides."""
    chances = random.Random(seed)
    causes = tuple(Cause)
    return [
        (
            chances.choice(DONE),
            chances.choice(JOBS),
            chances.choice(TENANTS),
            chances.randint(0, 600),
            chances.randint(1, 3),
            chances.choice(causes),
        )
        for _ in range(moves)
    ]
