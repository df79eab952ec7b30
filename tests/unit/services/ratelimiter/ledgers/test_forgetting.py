"""What the ledger of one process looks at to forget: what is due, however many accounts there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers.ends import Ends
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger

A, B = AccountId("a"), AccountId("b")


@dataclass
class Watched:
    """A balance that counts who asks when it ends."""

    end_s: float
    asked: int = 0

    @property
    def empty_from_s(self) -> float:
        self.asked += 1
        return self.end_s


async def test_accounts_that_are_not_due_are_not_looked_at():
    clock = ManualClock()
    stand = {AccountId(f"tenant:{number}"): Watched(clock.now() + 10 + number) for number in range(50)}
    ledger = MemoryLedger(clock, cast("dict[AccountId, Balance]", stand))
    for each in stand.values():
        each.asked = 0
    for _ in range(100):
        await ledger.forget(0)
    assert sum(each.asked for each in stand.values()) == 0
    await clock.advance(13)
    await ledger.forget(0)
    assert sum(each.asked for each in stand.values()) == 4
    assert len(ledger.balances) == 46


async def test_all_that_is_due_at_midnight_goes_within_seconds_and_not_in_one():
    clock = ManualClock()
    due = Balance(empty_from_s=clock.now())
    ledger = MemoryLedger(clock, {AccountId(f"tenant:{number}"): due for number in range(12_000)})
    left = []
    for _ in range(4):
        await ledger.forget(0)
        left.append(len(ledger.balances))
    assert left == [7_000, 2_000, 0, 0]


async def test_an_end_that_moves_is_kept_to_whichever_way_it_moves():
    clock = ManualClock()
    ledger, now_s = MemoryLedger(clock), clock.now()

    async def stands_until(end_s: float) -> None:
        held = Booking({A: Balance(empty_from_s=end_s)}, {})
        await ledger.transact(Touched(TenantId("t"), (A,)), lambda _, at_s: Outcome(held, at_s, applied=True))

    await stands_until(now_s + 10)
    await stands_until(now_s + 100)
    await clock.advance(10)
    await ledger.forget(0)
    assert A in ledger.balances
    await stands_until(now_s + 20)
    await clock.advance(10)
    await ledger.forget(0)
    assert A not in ledger.balances
    await stands_until(now_s + 30)
    await clock.advance(10)
    await ledger.forget(0)
    assert A not in ledger.balances


def test_an_account_that_changes_all_the_time_is_noted_once():
    ends = Ends()
    for moment in range(1000):
        ends.expect(A, 50.0 + moment)
    ends.expect(B, 60.0)
    assert len(ends) == 2
    assert list(ends.reached(49.0, 10)) == []
    assert list(ends.reached(70.0, 1)) == [A]
    ends.expect(A, 1049.0)
    assert list(ends.reached(70.0, 10)) == [B]
    assert list(ends.reached(2000.0, 10)) == [A]
    assert len(ends) == 0
