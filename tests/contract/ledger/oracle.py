"""What may never happen to an account, counted by hand beside a ledger from what it answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.ratelimiter.balances import booking, days
from services.ratelimiter.balances.booking import Move
from services.ratelimiter.balances.bucket import Rate
from services.ratelimiter.balances.causes import Cause, Charge
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import Hold, Step
from services.ratelimiter.tiers.policy import Limits
from tests.contract.ledger.conftest import Desk

LIMITS = Limits(
    "free",
    requests=Rate(60, 40),
    units=Rate(600, 1000),
    in_flight_images=8,
    daily_images=30,
    daily_units=9000.0,
    address_daily_images=40,
)
_WIDE = replace(
    LIMITS,
    requests=Rate(60_000, 60_000),
    units=Rate(1e6, 1e6),
    in_flight_images=300,
    daily_images=300,
    daily_units=1e6,
    address_daily_images=600,
)
LIMITS_OF_MINUTE = replace(_WIDE, units=LIMITS.units)
LIMITS_OF_DAY = replace(_WIDE, daily_images=6, daily_units=900.0, address_daily_images=8)
TENANTS = ("cookie_a", "cookie_b")
JOBS = tuple(f"job_{n}" for n in range(24))
DONE = (
    *("reserve", "reserve", "reserve", "confirm", "settle", "settle", "release", "renew"),
    *("pass", "put", "put", "sweep"),
)
PUT_S = (-30.0, 0.0, 45.0)  # how wrong a clock is that is put forward and back
TENTATIVE_S = 20.0
# What is done, to which job, by whom, for how many units and pictures, and how it ends.
MOVES = st.tuples(
    st.sampled_from(DONE),
    st.sampled_from(JOBS),
    st.sampled_from(TENANTS),
    st.integers(0, 600),
    st.integers(1, 3),
    st.sampled_from(Cause),
)
SCRIPTS = st.lists(MOVES, min_size=10, max_size=60)
Script = Iterable[tuple[str, str, str, int, int, Cause]]


@dataclass
class Known:
    """A job as its owner sees it."""

    hold: Hold
    leased_until_s: float
    tentative: bool = True
    over: bool = False
    kept_units: float = 0.0
    day_images: int = 0


@dataclass
class Oracle:
    """Plays a script on a ledger, and checks every answer against sums."""

    desk: Desk
    known: dict[str, Known] = field(default_factory=dict)
    passed_s: float = 0.0
    wrong_s: list[float] = field(default_factory=lambda: [0.0])  # how far the clock was ahead of what has passed

    def __post_init__(self) -> None:
        self.earliest_s = self.latest_s = self.desk.clock.now()

    async def play(self, script: Script) -> None:
        for what, job, tenant, units, images, cause in script:
            hold = Hold(JobId(f"{tenant}_{job}"), TenantId(tenant), "free", float(units), images, address="net")
            if what == "pass":
                await self.desk.clock.advance(units / 60)
                self.passed_s += units / 60
            elif what == "put":
                self.put(PUT_S[units % len(PUT_S)])
            elif what == "sweep":
                await self.sweep()
            elif what == "reserve":
                await self.reserve(hold)
            elif mine := [each for each in self.known.values() if each.hold.tenant_id == tenant and not each.over]:
                one = mine[JOBS.index(job) % len(mine)]
                await self.later(what, one, Charge(units / 4, cause, images // 2))
            self.look()
            self.check()

    def put(self, wrong_s: float) -> None:
        """Put the clock forward or back, so that it is as wrong as this."""
        self.desk.clock.put(wrong_s - self.wrong_s[-1])
        self.wrong_s.append(wrong_s)

    def look(self) -> None:
        """Note how far the clock has ever been."""
        self.latest_s = max(self.latest_s, self.desk.clock.now())
        self.earliest_s = min(self.earliest_s, self.desk.clock.now())

    async def sweep(self) -> None:
        """Do what the process does every second: give back what nobody confirmed, forget what is as good as empty."""
        since_s = self.desk.clock.now() - TENTATIVE_S
        named = list(await self.desk.ledger.unconfirmed(TENTATIVE_S))
        tentative = [one for one in self.known.values() if one.tentative]
        stand = [await self.desk.find(one.hold.reservation_id, one.hold.tenant_id) for one in tentative]
        old = [each.hold for each in stand if each is not None and each.changed_s < since_s]
        assert {each.reservation_id for each in named} == {each.reservation_id for each in old}
        for hold in named:
            assert (await self.desk.step(Step.EXPIRE, hold)).applied
            self.is_over(self.known[hold.reservation_id], 0.0, 0)
        await self.desk.ledger.forget(TENTATIVE_S)

    async def reserve(self, hold: Hold) -> None:
        """Reserve twice: the second time is the answer of the first."""
        before = self.known.get(hold.reservation_id)
        held, now_s = await self.desk.ledger.read(Move(Step.RESERVE, hold, self.desk.scopes(hold)).touched)
        first, second = [await self.desk.reserve(hold) for _ in range(2)]
        assert not second.applied
        if first.denial is None:
            if first.applied:
                self.known[hold.reservation_id] = Known(
                    hold, now_s + booking.LEASE_S, kept_units=hold.units, day_images=hold.images
                )
            assert first.applied or before is not None
            return
        assert first.denial == second.denial
        assert (await self.desk.ledger.read(Move(Step.RESERVE, hold, self.desk.scopes(hold)).touched))[0] == held
        self.frees(hold, held, first.denial.retry_after_s, now_s)

    def frees(self, hold: Hold, held: booking.Booking, wait_s: float, now_s: float) -> None:
        """Check the promise of a denial: by then nothing but places in flight stands in the way."""
        move = Move(Step.RESERVE, hold, self.desk.scopes(hold))
        latest = max((b.units.at_s for b in held.balances.values()), default=now_s)
        then = booking.refused(held, move, max(now_s, latest) + wait_s + 1e-3)
        assert then is None or then.dimension is Dimension.IN_FLIGHT

    async def later(self, what: str, known: Known, charge: Charge) -> None:
        """Do to a reservation what comes after, twice."""
        in_time, until_s = known.leased_until_s > self.latest_s, self.desk.clock.now() + booking.LEASE_S
        if what == "renew" and in_time and not await self.desk.renew(known.hold):
            known.leased_until_s = max(known.leased_until_s, until_s)
        if what == "renew" or (what == "confirm" and known.over):
            return  # a job that its scheduler knows is taken up again, whatever the limits say
        step = {"confirm": Step.CONFIRM, "settle": Step.SETTLE, "release": Step.RELEASE}[what]
        first = await self.desk.step(step, known.hold, charge)
        second = await self.desk.step(step, known.hold, charge)
        assert not second.applied
        if step is Step.CONFIRM and first.applied:
            known.tentative = False
            known.leased_until_s = until_s if in_time else known.leased_until_s
        if step is Step.SETTLE and first.applied:
            self.is_over(known, min(charge.units, known.hold.units), charge.day_images(known.hold.images))
        if step is Step.RELEASE and first.applied:
            self.is_over(known, 0.0, 0)

    @staticmethod
    def is_over(known: Known, units: float, images: int) -> None:
        """Note what stays of a reservation."""
        known.over, known.tentative, known.kept_units, known.day_images = True, False, units, images

    def check(self) -> None:
        """Nothing was ever given beyond what the limits grant in the time that has passed, or seemed to have."""
        limits = self.desk.limits
        seen_s = self.passed_s + max(self.wrong_s) - min(self.wrong_s)
        days_seen = days.number_of(self.latest_s) - days.number_of(self.earliest_s) + 1
        for tenant in TENANTS:
            own = [each for each in self.known.values() if each.hold.tenant_id == tenant]
            lent = max((each.hold.units for each in own), default=0.0) / 2 if limits.borrows else 0.0
            units = sum(each.kept_units for each in own)
            assert units <= limits.units.burst + limits.units.per_s * seen_s + lent + 1e-6
            assert units <= days_seen * (limits.daily_units or 0.0)
            assert sum(each.day_images for each in own) <= days_seen * (limits.daily_images or 0)
            live = [each for each in own if not each.over and each.leased_until_s > self.latest_s]
            assert sum(each.hold.images for each in live) <= (limits.in_flight_images or 0)
        of_all = sum(each.day_images for each in self.known.values())
        assert of_all <= days_seen * (limits.address_daily_images or 0)
