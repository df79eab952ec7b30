"""What may never happen to an account, counted by hand beside a ledger from what it answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from libs.testing.clock import ManualClock
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
TENANTS = ("cookie_a", "cookie_b")
JOBS = tuple(f"job_{n}" for n in range(24))
# What is done, to which job, by whom, for how many units and pictures, and how it ends.
MOVES = st.tuples(
    st.sampled_from(
        ("reserve", "reserve", "reserve", "confirm", "settle", "settle", "release", "renew", "pass", "back")
    ),
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
    at_s: float
    leased_until_s: float
    over: bool = False
    kept_units: float = 0.0
    day_images: int = 0


@dataclass
class Oracle:
    """Plays a script on a ledger, and checks every answer against sums."""

    desk: Desk
    known: dict[str, Known] = field(default_factory=dict)
    latest_s: float = 0.0

    def __post_init__(self) -> None:
        self.earliest_s = self.latest_s = self.desk.clock.now()

    async def play(self, script: Script) -> None:
        for what, job, tenant, units, images, cause in script:
            hold = Hold(JobId(f"{tenant}_{job}"), TenantId(tenant), "free", float(units), images, address="net")
            if what in ("pass", "back"):
                self.step(units / 60 if what == "pass" else -units / 20)
            elif what == "reserve":
                await self.reserve(hold)
            elif mine := [each for each in self.known.values() if each.hold.tenant_id == tenant and not each.over]:
                one = mine[JOBS.index(job) % len(mine)]
                await self.later(what, one, Charge(units / 4, cause, images // 2))
            self.check()

    def step(self, seconds: float) -> None:
        """Let time pass, or a clock be put back."""
        assert isinstance(self.desk.clock, ManualClock)
        self.desk.clock._passed_s += seconds
        self.latest_s = max(self.latest_s, self.desk.clock.now())
        self.earliest_s = min(self.earliest_s, self.desk.clock.now())

    async def reserve(self, hold: Hold) -> None:
        """Reserve twice: the second time is the answer of the first."""
        before = self.known.get(hold.reservation_id)
        held, now_s = await self.desk.ledger.read(Move(Step.RESERVE, hold, self.desk.scopes(hold)).touched)
        first, second = [await self.desk.reserve(hold) for _ in range(2)]
        assert not second.applied
        if first.denial is None:
            if first.applied:
                self.known[hold.reservation_id] = Known(
                    hold, now_s, now_s + booking.LEASE_S, kept_units=hold.units, day_images=hold.images
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
        if step is Step.CONFIRM and first.applied and in_time:
            known.leased_until_s = until_s
        if step is not Step.CONFIRM and first.applied:
            settled = step is Step.SETTLE
            known.over = True
            known.kept_units = min(charge.units, known.hold.units) if settled else 0.0
            known.day_images = charge.day_images(known.hold.images) if settled else 0

    def check(self) -> None:
        """Nothing was ever given beyond what the limits grant."""
        limits, passed_s = self.desk.limits, self.latest_s - self.earliest_s
        for tenant in TENANTS:
            own = [each for each in self.known.values() if each.hold.tenant_id == tenant]
            lent = max((each.hold.units for each in own), default=0.0) / 2 if limits.borrows else 0.0
            granted = limits.units.burst + limits.units.per_s * passed_s + lent
            assert sum(each.kept_units for each in own) <= granted + 1e-6
            assert self.of_day(own) <= (limits.daily_images or 0)
            live = [each for each in own if not each.over and each.leased_until_s > self.latest_s]
            assert sum(each.hold.images for each in live) <= (limits.in_flight_images or 0)
        assert self.of_day(self.known.values()) <= (limits.address_daily_images or 0)

    def of_day(self, jobs: Iterable[Known]) -> int:
        today = days.number_of(self.latest_s)
        return sum(each.day_images for each in jobs if days.number_of(each.at_s) == today)
