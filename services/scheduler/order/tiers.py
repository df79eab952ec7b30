"""All tiers: which of them is next by stride, and which job may go before it by the lane."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from libs.ids import JobId
from services.scheduler.order.lane import Lane
from services.scheduler.order.queue import Alive
from services.scheduler.order.shares import Shares, rank
from services.scheduler.order.tier import Pick, Tier
from services.scheduler.order.waiting import Entry, Offer

_KEPT = 16


@dataclass(frozen=True, slots=True)
class _Offered:
    """What holds once a job starts that was said to be next."""

    by_lane: bool
    clock: float  # of the tiers
    tier_clock: float  # of the tenants of its tier


class Tiers:
    """The tiers by name."""

    def __init__(self, shares: Shares) -> None:
        self.by_name: dict[str, Tier] = {}
        self.shares = shares
        self.lane = Lane()
        self._clock = 0.0  # the least time of the tiers that could be served at the last start
        self._offered: dict[JobId, _Offered] = {}

    def fork(self) -> Tiers:
        """Return one that goes its own way."""
        twin = Tiers(self.shares)
        twin.by_name = {name: tier.fork() for name, tier in self.by_name.items()}
        twin.lane, twin._clock, twin._offered = self.lane.copy(), self._clock, self._offered.copy()
        return twin

    def share(self, shares: Shares) -> None:
        """Weigh them anew."""
        self.shares = shares
        for name, tier in self.by_name.items():
            tier.account.weight = shares.weight(name)

    def named(self, name: str) -> Tier:
        """Return a tier, a new one when there is none of this name."""
        if name not in self.by_name:
            self.by_name[name] = Tier(self.shares.weight(name))
        return self.by_name[name]

    def add(self, entry: Entry, *, apart: bool) -> None:
        """Put a job in."""
        tier = self.named(entry[2].tier)
        if not apart and not tier.lined:
            tier.account.enter(self._clock)
        tier.add(entry, apart=apart)

    def removed(self, entry: Entry, alive: Alive) -> None:
        """Forget a job that is alive no more."""
        tier = self.by_name[entry[2].tier]
        was_lined = tier.lined
        tier.removed(entry, alive)
        if was_lined and not any(other.lined for other in self.by_name.values()):
            self._clock = max(self._clock, tier.account.time)  # whoever comes next is even with the last

    def set_apart(self, model: str) -> None:
        """Take the jobs of a model out of the lines."""
        for tier in self.by_name.values():
            tier.set_apart(model)

    def bring_back(self, model: str) -> None:
        """Put them back."""
        for tier in self.by_name.values():
            if model in tier.apart and not tier.lined:
                tier.account.enter(self._clock)
            tier.bring_back(model)

    def models(self) -> list[str]:
        """Return the models that jobs wait for, and perhaps some that none waits for any more."""
        tiers = self.by_name.values()
        return [model for tier in tiers for model in (*tier.lines, *tier.apart, *tier.full.models(tier.tenants))]

    def next(self, offer: Offer, now: float) -> Entry | None:
        """Return the next job; looking changes nothing."""
        picks = dict(self._picks(offer, now))
        usual = next(iter(picks), None)
        if usual is None:
            return None
        entry = picks[usual].entry
        late = self._late(picks, entry, now) if self.lane.open else None
        chosen = late or entry
        clock = self.by_name[usual].account.caught_up(self._clock)
        if len(self._offered) >= _KEPT:  # offers that came to nothing
            self._offered.clear()
        least = picks[chosen[2].tier].least
        self._offered[chosen[2].job_id] = _Offered(late is not None, clock, least)
        return chosen

    def start(self, entry: Entry) -> bool:
        """Take note that a job starts, before it is charged; returns whether it went by the lane."""
        offered = self._offered.get(entry[2].job_id)
        self._offered.clear()
        if offered is not None:
            tier = self.by_name[entry[2].tier]
            tier.clock = max(tier.clock, offered.tier_clock)
            self._clock = max(self._clock, offered.clock)
        by_lane = offered is not None and offered.by_lane
        self.lane.count(used=by_lane)
        return by_lane

    def _picks(self, offer: Offer, now: float) -> Iterator[tuple[str, Pick]]:
        """Give what each tier would start, the tier that is owed most first; others only if they may use the lane."""
        found = False
        for name in sorted((name for name, tier in self.by_name.items() if tier.lined), key=self._turn):
            tier = self.by_name[name]
            if found and not (self.lane.open and tier.ages.any_before(now - self.shares.wait_s(name))):
                continue
            tier.account.time = tier.account.caught_up(self._clock)
            pick = tier.pick(offer)
            if pick is not None:
                found = True
                yield name, pick

    def _turn(self, name: str) -> tuple[float, int, str]:
        account = self.by_name[name].account
        return account.caught_up(self._clock), rank(name), name

    def _late(self, picks: Mapping[str, Pick], usual: Entry, now: float) -> Entry | None:
        """Return the job that is longest past its tier's bound, of the tenants that are owed most and of no other."""
        oldest = [pick.oldest for pick in picks.values() if pick.oldest is not usual]
        due = [(entry[0] + self.shares.wait_s(entry[2].tier), entry[1], entry) for entry in oldest]
        late = min((one for one in due if one[0] < now), default=None)
        return late[2] if late else None
