"""Which steps of a clock a ledger forgets by."""

from __future__ import annotations

import pytest

from libs.testing.clock import ManualClock
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.ledgers.trusted import LASTS_S, TrustedTime

EVERY_S = 60.0


async def lived(ledger: MemoryLedger, clock: ManualClock, seconds: float) -> int:
    """Let time pass as the process does; returns how many accounts stand then."""
    for _ in range(int(seconds / EVERY_S)):
        await ledger.forget(0)
        await clock.advance(EVERY_S)
    await ledger.forget(0)
    return len(ledger.balances)


@pytest.mark.parametrize("behind_s", [1.7e9, 7 * 86_400.0])
async def test_a_clock_that_was_behind_at_the_start_is_believed_after_a_while(behind_s: float):
    clock = ManualClock(1.8e9)
    right = clock.now()
    clock.put(-behind_s)
    ledger = MemoryLedger(clock, {AccountId("a"): Balance(empty_from_s=right + 600.0)})
    clock.put(behind_s)
    assert await lived(ledger, clock, LASTS_S - EVERY_S) == 1
    assert await lived(ledger, clock, EVERY_S) == 0


async def test_moments_that_the_clock_was_ahead_are_never_added_up():
    clock = ManualClock()
    ledger = MemoryLedger(clock, {AccountId("a"): Balance(empty_from_s=clock.now() + 86_400.0)})
    for _ in range(6):
        clock.put(86_400.0)
        assert await lived(ledger, clock, LASTS_S / 2) == 1
        clock.put(-86_400.0)
        assert await lived(ledger, clock, LASTS_S / 4) == 1


def test_of_a_clock_that_jumps_about_as_much_is_believed_as_it_was_ahead_all_the_time():
    trusted = TrustedTime(1000.0, 0.0)
    assert trusted.tell(1010.0, 5.0) == 1005.0
    assert trusted.tell(90_000.0, 10.0) == 1010.0
    assert trusted.tell(90_000.0 + LASTS_S, 5.0 + LASTS_S) == 1010.0 + LASTS_S
    assert trusted.tell(900.0 + LASTS_S, LASTS_S) == 900.0 + LASTS_S, "what is put back is believed at once"
