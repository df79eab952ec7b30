"""Where a job stands. Small queues are played through, and the answer is exact as long as nothing changes.

In long ones it is computed: tiers and tenants are taken to be served side by side by their weights, as a fluid, and
a job's place within its tenant's queue is taken from its number.
"""

from __future__ import annotations

import math
import sys
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

from libs.ids import JobId
from services.scheduler.order.tenant import Tenant
from services.scheduler.order.tier import Tier
from services.scheduler.order.waiting import Entry, Offer, Standing, Waiting

EXACT = 100  # waiting jobs that are played through


class Played(Protocol):
    """The order as far as it is played through."""

    def __len__(self) -> int: ...
    def fork(self) -> Played:
        """Return a copy."""
        ...

    def add(self, waiting: Waiting, now: float) -> None:
        """Put a job in."""
        ...

    def wake(self, now: float) -> None:
        """Line up retries."""
        ...

    def next(self, offer: Offer, now: float) -> Waiting | None:
        """Return the next job."""
        ...

    def started(self, job_id: JobId, now: float) -> None:
        """Take it out."""
        ...

    def settled(self, job_id: JobId, actual_units: float) -> None:
        """Say that it is over."""
        ...

    def judge(self, reason: Callable[[str], str | None], *, anew: bool) -> None:
        """Say which models can be run."""
        ...


@dataclass(frozen=True, slots=True)
class _Profile:
    """The tenants of a tier by the virtual time at which they would be done, with running sums."""

    ends: list[float]
    units: list[float]  # of those that are done by then
    weights: list[float]
    served: list[float]  # weight times virtual time
    made_at: int

    def before(self, time: float) -> float:
        """Return how many units are served before a virtual time."""
        done = bisect_right(self.ends, time)
        weight, served = self.weights[-1] - self.weights[done], self.served[-1] - self.served[done]
        return self.units[done] + max(0.0, time * weight - served)


class Places:
    """Remembers what was worked out until too much has changed."""

    def __init__(self) -> None:
        self._changes = 0
        self._exact: dict[JobId, Standing] | None = None
        self._profiles: dict[str, _Profile] = {}

    def forget(self) -> None:
        """Something changed."""
        self._changes += 1
        self._exact = None

    def exact(self, order: Played) -> Mapping[JobId, Standing]:
        """Return all places of a small queue; of a long one none."""
        if len(order) > EXACT:
            return {}
        if self._exact is None:
            self._exact = _play(order.fork())
        return self._exact

    def about(self, tiers: Mapping[str, Tier], entry: Entry) -> Standing:
        """Return about where a job of a long queue stands."""
        tier = entry[2].tier
        return self._behind(tiers, tier, tiers[tier].tenants[entry[2].tenant_id], entry)

    def of_new(self, order: Played, tiers: Mapping[str, Tier], newcomer: Waiting) -> Standing:
        """Return where a job would stand that came now."""
        if len(order) < EXACT:
            played = order.fork()
            played.add(newcomer, newcomer.queued_at)
            found = _play(played).get(newcomer.job_id)
            if found is not None:
                return found
        if newcomer.tier not in tiers:
            return Standing(1, 0.0)
        tenant = tiers[newcomer.tier].tenants.get(newcomer.tenant_id)
        if tenant is None:
            return self._beside(tiers, newcomer.tier, 0.0, 0.0, 0.0)
        return self._behind(tiers, newcomer.tier, tenant, (math.inf, sys.maxsize, newcomer))

    def _behind(self, tiers: Mapping[str, Tier], name: str, tenant: Tenant, entry: Entry) -> Standing:
        """Add what the other tenants of the tier are given while the tenant's own jobs go before."""
        jobs, own = _own(tenant, entry)
        time = tenant.account.time + own / tenant.account.weight
        others = max(0.0, self._profile(name, tiers[name]).before(time) - own)
        return self._beside(tiers, name, jobs, own, others)

    def _beside(self, tiers: Mapping[str, Tier], name: str, jobs: float, own: float, others: float) -> Standing:
        """Add what the other tenants and tiers are given meanwhile."""
        mine = tiers[name]
        time = mine.account.time + (own + others) / mine.account.weight
        jobs += _jobs(mine, others)
        units = own + others
        for other, tier in tiers.items():
            if other != name and tier.lined:
                given = min(tier.units, max(0.0, time - tier.account.time) * tier.account.weight)
                units += given
                jobs += _jobs(tier, given)
        return Standing(math.floor(jobs) + 1, units)

    def _profile(self, name: str, tier: Tier) -> _Profile:
        known = self._profiles.get(name)
        if known is None or self._changes - known.made_at > 16 + len(tier.tenants) // 4:
            known = self._profiles[name] = _profiled(tier, self._changes)
        return known


def _play(order: Played) -> dict[JobId, Standing]:
    """Start every job in turn, those that nobody can run last; jobs of who is full now are not among them."""
    found: dict[JobId, Standing] = {}
    units = 0.0
    order.wake(math.inf)
    for _ in range(2):
        while (waiting := order.next(_anybody, 0.0)) is not None:
            found[waiting.job_id] = Standing(len(found) + 1, units)
            units += waiting.units
            order.started(waiting.job_id, 0.0)
            order.settled(waiting.job_id, waiting.units)  # so that its tenant is not full of what is only played
        order.judge(_possible, anew=True)
    return found


def _anybody(_model: str) -> float:
    return 0.0


def _possible(_model: str) -> str | None:
    return None


def _jobs(tier: Tier, units: float) -> float:
    return units * tier.count / tier.units if tier.units else 0.0


def _own(tenant: Tenant, entry: Entry) -> tuple[float, float]:
    """Return about how many jobs and units of its own tenant come before a job."""
    level, jobs, units = -entry[2].priority, 0.0, 0.0
    for queue in tenant.queues.values():
        mean = queue.units / queue.count
        entries = sum(map(len, queue.rows.values()))
        for row_level, row in queue.rows.items():
            part = 1.0 if row_level < level else _part(row, entry) if row_level == level else 0.0
            before = part * queue.count * len(row) / entries
            jobs, units = jobs + before, units + before * mean
    return jobs, units


def _part(row: list[Entry], entry: Entry) -> float:
    first, last = row[0][1], row[-1][1]
    return min(1.0, max(0.0, (entry[1] - first) / max(1, last - first + 1)))


def _profiled(tier: Tier, made_at: int) -> _Profile:
    rows: list[tuple[float, float, float, float]] = []
    for tenant in tier.tenants.values():
        units, weight, time = tenant.units, tenant.account.weight, tenant.account.time
        rows.append((time + units / weight, units, weight, weight * time))
    rows.sort()
    ends = [row[0] for row in rows]
    sums = [[0.0, *accumulate(row[column] for row in rows)] for column in (1, 2, 3)]
    return _Profile(ends, sums[0], sums[1], sums[2], made_at)
