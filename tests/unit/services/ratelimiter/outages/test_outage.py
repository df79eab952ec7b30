"""Deciding while the ledger of all is away, and the way back, on a clock that stands still."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from libs.errors import Unavailable
from libs.ids import JobId, KeyId, TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.balances.standing import Standing
from services.ratelimiter.ledgers.ledger import Change, LedgerBusy
from services.ratelimiter.ledgers.memory_ledger import MemoryLedger
from services.ratelimiter.ledgers.redis_line import LedgerAway, LedgerLost
from services.ratelimiter.limiter import Limiter
from services.ratelimiter.outages.breaker import Breaker
from services.ratelimiter.outages.journal import Journal
from services.ratelimiter.outages.outage import DEGRADED, OutageLimiter, Standby
from services.ratelimiter.outages.recovery import Recovery
from services.ratelimiter.outages.stand_in import StandIn
from services.ratelimiter.tiers.policy import Limits, Outage, Policy
from services.ratelimiter.tiers.tariffs import Tariffs
from services.ratelimiter.usage.book import Settlement
from tests.unit.services.ratelimiter.conftest import Bench

# One unit a minute: nothing drains that a test would see.
LIMITS = Limits(
    "pro",
    requests=Rate(600, 600),
    units=Rate(1, 1000),
    daily_images=10,
    max_pixels=100,
    outage=Outage(share=0.5, lasts_s=300.0),
)
FREE = Limits("free", requests=Rate(600, 600), units=Rate(1, 1000))
LEASED = Limits("payg", requests=Rate(600, 600), units=Rate(1, 1000), in_flight_images=2, outage=Outage(share=0.5))
TENANT = TenantId("t")
TTL_S, LEASE_S = 60.0, 600.0


@dataclass
class Shaky:
    """A ledger that answers, or fails: before it did anything, or `late`, when all is done."""

    memory: MemoryLedger
    fails: Exception | None = None
    late: bool = False
    asked: int = 0

    async def transact(self, touched: Touched, change: Change) -> Outcome:
        self._fail(now=not self.late)
        outcome = await self.memory.transact(touched, change)
        self._fail(now=self.late)
        return outcome

    async def transact_all(self, changes: Sequence[tuple[Touched, Change]]) -> list[Outcome]:
        outcomes = list[Outcome]()
        for each in changes:
            with suppress(LedgerBusy):
                outcomes.append(await self.transact(*each))
        return outcomes

    async def read(self, touched: Touched) -> tuple[Booking, float]:
        self._fail(now=not self.late)
        return await self.memory.read(touched)

    async def unconfirmed(self, age_s: float) -> Sequence[Hold]:
        self._fail(now=True)
        return await self.memory.unconfirmed(age_s)

    async def forget(self, age_s: float) -> None:
        await self.memory.forget(age_s)

    async def ensure(self) -> float:
        """Stand in for the restorer: whole whenever it answers."""
        self._fail(now=True)
        return 0.0

    def _fail(self, *, now: bool) -> None:
        if now:
            self.asked += 1
            if self.fails is not None:
                raise self.fails


@dataclass
class Site:
    """An outage limiter over a ledger that a test breaks."""

    bench: Bench
    folder: Path
    replicas: int = 1
    clock: ManualClock = field(init=False)

    def __post_init__(self) -> None:
        self.clock, meters = self.bench.clock, self.bench.meters
        tariffs = Tariffs(Policy({"pro": LIMITS, "payg": LEASED, "free": FREE}))
        self.ledger = Shaky(MemoryLedger(self.clock))
        whole = Limiter(tariffs, self.ledger, self.bench.usage, self.clock, meters, LEASE_S)
        self.journal = Journal(self.folder / "journal")
        standby = Standby(StandIn(self.clock), self.journal, Breaker(), self.replicas, LEASE_S)
        self.limiter = OutageLimiter(whole, standby, tariffs, self.bench.usage, self.clock, meters)
        self.recovery = Recovery(whole, standby, self.ledger, self.clock, meters, TTL_S)  # type: ignore[arg-type]
        self.whole = whole

    def away(self, fails: Exception | None = None, *, late: bool = False) -> None:
        self.ledger.fails, self.ledger.late = fails or LedgerAway.because("a test"), late

    async def back(self) -> None:
        self.ledger.fails = None
        await self.clock.advance(2)
        await self.recovery.look()

    async def left(self) -> float:
        """Return the units that the ledger of all would grant."""
        return (await self.whole.peek(hold("any", 0.0))).available_units


@pytest.fixture
def site(bench: Bench, tmp_path: Path) -> Site:
    return Site(bench, tmp_path)


def hold(name: str, units: float = 100.0, tier: str = "pro", pixels: int = 0) -> Hold:
    return Hold(JobId(name), TENANT, tier, units, 1, pixels=pixels)


def settlement(name: str, charged: float) -> Settlement:
    return Settlement(hold(name), "", "tiny@1", "succeeded", charged, charged, charged, 1)  # type: ignore[arg-type]


async def test_one_call_without_an_answer_is_decided_alone_and_the_next_asks_again(site: Site):
    site.away()
    assert DEGRADED in (await site.limiter.reserve(hold("job"))).headers
    site.ledger.fails = None
    assert DEGRADED not in (await site.limiter.peek(hold("any", 0.0))).headers
    assert await site.left() == 1000  # not told yet
    await site.recovery.look()
    assert await site.left() == 900
    assert site.journal.is_empty


async def test_after_five_failures_the_ledger_is_left_alone_until_a_try(site: Site):
    site.away()
    for n in range(5):
        await site.limiter.reserve(hold(f"job_{n}"))
    asked = site.ledger.asked
    await site.limiter.peek(hold("any"))
    await site.recovery.look()
    assert site.ledger.asked == asked
    await site.clock.advance(2)
    await site.recovery.look()
    assert site.ledger.asked == asked + 1
    assert DEGRADED in await site.limiter.told(TENANT, "pro", "")  # type: ignore[arg-type]
    assert site.bench.counted("darkroom_ledger_away") == {(): 1}
    await site.back()
    assert DEGRADED not in await site.limiter.told(TENANT, "pro", "")  # type: ignore[arg-type]
    assert site.bench.counted("darkroom_ledger_away") == {(): 0}
    assert await site.left() == pytest.approx(500, abs=1)


async def test_what_is_used_is_told_of_the_share_that_an_outage_grants(site: Site):
    await site.limiter.reserve(hold("before", 300))
    site.away()
    await site.limiter.reserve(hold("alone"))
    share = await units_of(site)
    assert (share.used, share.remaining) == (100, share.limit - 100)
    await site.back()
    whole = await units_of(site)
    assert (whole.limit, whole.remaining) == (1000, 600)


async def units_of(site: Site) -> Standing:
    told = await site.limiter.standing(TENANT, "pro", KeyId(""))
    return next(standing for standing in told if standing.dimension is Dimension.COST)


async def test_an_answer_that_was_lost_after_the_work_was_done_is_charged_once(site: Site):
    site.away(late=True)
    assert (await site.limiter.reserve(hold("job"))).denial is None
    await site.back()
    assert await site.left() == pytest.approx(900, abs=1)
    site.away(late=True)
    assert await site.limiter.settle(settlement("job", 30.0)) is False  # its row was written before the answer was lost
    await site.back()
    assert await site.left() == pytest.approx(970, abs=1)


async def test_a_tier_is_closed_when_its_time_is_over_and_one_without_a_share_at_once(site: Site):
    site.away(LedgerLost.because("a test"))
    await site.limiter.reserve(hold("job"))
    with pytest.raises(Unavailable, match="Nothing was charged"):
        await site.limiter.reserve(hold("none", tier="free"))
    await site.clock.advance(300)
    assert (await site.limiter.reserve(hold("last"))).denial is None
    await site.clock.advance(1)
    with pytest.raises(Unavailable):
        await site.limiter.reserve(hold("late"))
    assert DEGRADED in (await site.limiter.peek(hold("late"))).headers  # the door stays open for reading


async def test_pictures_in_flight_keep_their_place_as_long_as_with_the_ledger(site: Site):
    site.away(LedgerLost.because("a test"))
    await site.limiter.reserve(hold("open", tier="payg"))
    await site.limiter.confirm(hold("open", tier="payg"))
    await site.clock.advance(LEASE_S - 1)
    assert (await site.limiter.peek(hold("next", tier="payg"))).denial is not None
    await site.clock.advance(2)
    assert (await site.limiter.peek(hold("next", tier="payg"))).denial is None


async def test_what_no_outage_changes_is_denied_as_ever(site: Site):
    site.away()
    denial = (await site.limiter.reserve(hold("large", pixels=101))).denial
    assert denial is not None
    assert denial.about == "pixels"
    with pytest.raises(Unavailable):  # it would fit otherwise
        await site.limiter.reserve(hold("dear", units=800.0))


async def test_of_two_replicas_each_grants_half_of_the_share(bench: Bench, tmp_path: Path):
    site = Site(bench, tmp_path, replicas=2)
    site.away()
    decisions = [await site.limiter.reserve(hold(f"job_{n}")) for n in range(4)]
    assert [decision.denial is None for decision in decisions] == [True, True, False, False]


async def test_open_jobs_of_before_are_neither_counted_again_nor_asked_to_be_confirmed(site: Site):
    for n in range(8):
        await site.limiter.reserve(hold(f"job_{n}"))
    site.away(LedgerLost.because("a test"))
    await site.limiter.confirm(hold("job_0"))
    assert await site.limiter.renew([hold(f"job_{n}") for n in range(8)]) == []
    assert await site.limiter.settle(settlement("job_1", 10.0))
    assert (await site.limiter.peek(hold("any", 0.0))).available_units == 500
    await site.clock.advance(30)
    await site.back()
    assert await site.left() == pytest.approx(1000 - 700 - 10, abs=1)
    assert await site.limiter.expire(20.0) == 6  # job_0 was confirmed, job_1 is over


async def test_what_was_reserved_long_before_the_ledger_is_back_is_not_taken_again(site: Site):
    site.away(LedgerLost.because("a test"))
    for name in ("forgotten", "confirmed", "released"):
        await site.limiter.reserve(hold(name))
    await site.limiter.confirm(hold("confirmed"))
    assert await site.limiter.release(TENANT, JobId("released"))
    await site.clock.advance(61)
    await site.back()
    assert await site.left() == pytest.approx(900, abs=2)


async def test_a_tier_that_is_gone_does_not_hold_up_the_others(site: Site, caplog: pytest.LogCaptureFixture):
    site.away()
    await site.limiter.reserve(hold("job"))
    content = site.journal._path.read_text()
    site.journal._path.write_text(content.replace("pro", "gone") + content.replace("job", "other"))
    await site.back()
    assert await site.left() == pytest.approx(900, abs=1)
    assert "an answer of the journal is left out" in caplog.messages


async def test_after_a_restart_in_an_outage_what_was_granted_counts_on(site: Site, bench: Bench, tmp_path: Path):
    site.away()
    for n in range(4):
        await site.limiter.reserve(hold(f"job_{n}"))
    successor = Site(bench, tmp_path)
    successor.away()
    await successor.recovery.begin()
    await successor.limiter.remember()
    decisions = [await successor.limiter.reserve(hold(f"more_{n}")) for n in range(2)]
    assert [decision.denial is None for decision in decisions] == [True, False]
    await successor.back()
    assert await successor.left() == pytest.approx(500, abs=1)


async def test_a_tenant_that_asks_too_much_at_once_takes_the_ledger_from_nobody(site: Site):
    for name in ("open", "ended", "dropped"):
        await site.limiter.reserve(hold(name))
    site.away(LedgerBusy.now())
    for n in range(10):
        with pytest.raises(LedgerBusy, match="Nothing was charged"):
            await site.limiter.reserve(hold(f"job_{n}"))
    # What has been granted ends all the same, and the others' places are renewed.
    await site.limiter.confirm(hold("open"))
    assert await site.limiter.settle(settlement("ended", 30.0))
    await site.limiter.release(TENANT, JobId("dropped"))
    assert await site.limiter.renew([hold("open")]) == []
    await site.recovery.look()
    site.ledger.fails = None
    assert DEGRADED not in (await site.limiter.peek(hold("any", 0.0))).headers
    await site.recovery.look()
    assert await site.left() == pytest.approx(870, abs=1)
    assert site.journal.is_empty


async def test_a_share_is_granted_once_however_often_the_ledger_comes_and_goes(site: Site):
    granted = 0
    for outage in range(4):
        site.away(LedgerLost.because("a test"))
        for n in range(5):
            try:
                granted += (await site.limiter.reserve(hold(f"job_{outage}_{n}"))).denial is None
            except Unavailable:
                continue
        await site.back()
    assert granted == 5
    assert await site.left() == pytest.approx(500, abs=2)


async def test_calls_that_failed_together_do_not_close_the_door_for_all(site: Site):
    site.away(LedgerAway.because("a hiccup", exchange=1))
    for _ in range(10):
        assert DEGRADED in (await site.limiter.peek(hold("any", 0.0))).headers
    site.ledger.fails = None
    assert DEGRADED not in (await site.limiter.peek(hold("any", 0.0))).headers
