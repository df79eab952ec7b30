"""Whatever is asked in whatever order, by clocks that go back, twice, too late: no limit is ever exceeded."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings

from libs.testing.clock import ManualClock
from services.ratelimiter.balances.causes import Cause
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from tests.contract.ledger.conftest import Desk
from tests.contract.ledger.oracle import JOBS, LIMITS, SCRIPTS, TENANTS, Oracle, Script

_DONE = ("reserve", "reserve", "reserve", "confirm", "settle", "settle", "release", "renew", "pass", "back")


def desk_in_memory(*, borrows: bool) -> Desk:
    clock = ManualClock()
    return Desk(MemoryLedger(clock), clock, replace(LIMITS, borrows=borrows))


@pytest.mark.parametrize("borrows", [False, True])
@settings(max_examples=100)
@given(SCRIPTS)
def test_whatever_happens_nothing_is_given_beyond_the_limits(borrows: bool, script: Script):
    asyncio.run(Oracle(desk_in_memory(borrows=borrows)).play(script))


@pytest.mark.parametrize("seed", range(3))
async def test_drawn_scripts_on_every_ledger(desk: Desk, seed: int):
    chances = random.Random(seed)
    desk.limits = replace(LIMITS, borrows=bool(seed % 2))
    causes = tuple(Cause)
    script = [
        (
            chances.choice(_DONE),
            chances.choice(JOBS),
            chances.choice(TENANTS),
            chances.randint(0, 600),
            chances.randint(1, 3),
            chances.choice(causes),
        )
        for _ in range(150)
    ]
    await Oracle(desk).play(script)
