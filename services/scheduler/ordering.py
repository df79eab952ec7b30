"""Which waiting job is next. Pure: `now` is an argument, nothing is awaited.

Tiers are served in a fixed order. Inside a tier places are first come, first served, and a tenant's priority says
only which of its own jobs takes which of its own places: the k-th best job of a tenant has its k-th place. So one
tenant's priorities can never move another tenant. Jobs are kept in a lane per model, because a lane whose model no
worker can take now is skipped whole; priority therefore orders a tenant's jobs of one tier and model.

Places are kept in sorted lists, not heaps: a place in the queue is asked for as often as the next job, and bisect
answers both. Fairness by cost, ageing and locality take their place here (design/3-scheduler 2).
"""

from __future__ import annotations

import copy
import heapq
import itertools
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from libs.ids import JobId, TenantId

TIERS = ("enterprise", "pro", "payg", "free", "anonymous")  # in order of service; any other tier comes last

# What it costs to place a model version now, in units of loading: 0.0 where it is resident, None when nobody takes it.
Offer = Callable[[str], float | None]
Place = tuple[float, int, TenantId]  # when it was taken, a running number, whose it is
Rank = tuple[int, float, int, JobId]  # −priority, when it was queued, the same number, the job


@dataclass(frozen=True, slots=True)
class Waiting:
    """What the order needs to know of a queued job. Times in Unix seconds."""

    job_id: JobId
    tenant_id: TenantId
    tier: str
    model_version: str
    queued_at: float
    units: float
    priority: int = 0
    not_before: float = 0.0
    weight: float = 1.0  # its tenant's share beside others of the tier


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands: place from 1, and about how many units are served before it."""

    position: int
    units_ahead: float


@dataclass(slots=True)
class _Share:
    """Jobs and places of one tenant in one lane, as many of one as of the other."""

    ranks: list[Rank] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)


@dataclass(slots=True)
class _Lane:
    """Jobs of one tier and model."""

    places: list[Place] = field(default_factory=list)
    shares: dict[TenantId, _Share] = field(default_factory=dict)
    units: float = 0.0

    def add(self, place: Place, rank: Rank) -> None:
        share = self.shares.setdefault(place[2], _Share())
        insort(self.places, place)
        insort(share.places, place)
        insort(share.ranks, rank)

    def remove(self, tenant: TenantId, rank: Rank) -> None:
        """Take a job out together with the place it would have had: nobody else's place becomes worse."""
        share = self.shares[tenant]
        index = bisect_left(share.ranks, rank)
        place = share.places.pop(index)
        del share.ranks[index], self.places[bisect_left(self.places, place)]
        if not share.ranks:
            del self.shares[tenant]

    def first(self) -> tuple[Place, JobId] | None:
        if not self.places:
            return None
        return self.places[0], self.shares[self.places[0][2]].ranks[0][3]

    def place_of(self, tenant: TenantId, rank: Rank) -> Place:
        share = self.shares[tenant]
        return share.places[bisect_left(share.ranks, rank)]


class Ordering:
    """The waiting jobs in order. Every change and question costs O(log n) comparisons."""

    def __init__(self) -> None:
        self._lanes: dict[str, dict[str, _Lane]] = {}  # by tier, then model version
        self._waiting: dict[JobId, tuple[Waiting, Rank]] = {}
        self._resting: list[tuple[float, int, JobId]] = []  # heap of retries that wait for their time
        self._rests: dict[JobId, Waiting] = {}
        self._number = itertools.count(1)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._rests)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._waiting or job_id in self._rests

    def add(self, waiting: Waiting, now: float) -> None:
        """Put a job in the queue; one that is there already stays as it is."""
        if waiting.job_id in self:
            return
        if waiting.not_before > now:
            self._rests[waiting.job_id] = waiting
            heapq.heappush(self._resting, (waiting.not_before, next(self._number), waiting.job_id))
        else:
            self._line_up(waiting)

    def remove(self, job_id: JobId) -> bool:
        """Take a job out and charge nothing; False when it was not there."""
        if self._rests.pop(job_id, None) is not None:
            return True  # its entry in the heap is skipped when its time comes
        held = self._waiting.pop(job_id, None)
        if held is None:
            return False
        waiting, rank = held
        lane = self._lanes[waiting.tier][waiting.model_version]
        lane.remove(waiting.tenant_id, rank)
        lane.units = lane.units - waiting.units if lane.places else 0.0
        if not lane.places:
            del self._lanes[waiting.tier][waiting.model_version]
        return True

    def wake(self, now: float) -> None:
        """Line up the retries whose time has come."""
        while self._resting and self._resting[0][0] <= now:
            _, _, job_id = heapq.heappop(self._resting)
            waiting = self._rests.get(job_id)
            if waiting is not None and waiting.not_before <= now:
                del self._rests[job_id]
                self._line_up(waiting)

    def next_wake(self) -> float | None:
        """Return when the next retry is due."""
        while self._resting and self._resting[0][2] not in self._rests:
            heapq.heappop(self._resting)
        return self._resting[0][0] if self._resting else None

    def next(self, offer: Offer, now: float) -> Waiting | None:  # noqa: ARG002
        """Return the next job whose model version somebody takes now; it stays in the queue until it is started."""
        for tier in self._tiers():
            lanes = (lane for model, lane in self._lanes[tier].items() if offer(model) is not None)
            firsts = [first for lane in lanes if (first := lane.first()) is not None]
            if firsts:
                return self._waiting[min(firsts)[1]][0]
        return None

    def started(self, job_id: JobId, now: float) -> None:  # noqa: ARG002
        """Take a job out and charge its tenant the estimate."""
        self.remove(job_id)

    def settled(self, job_id: JobId, actual_units: float) -> None:
        """Correct the charge of a job whose attempt is over; told twice or of an unknown job it changes nothing."""

    def fork(self) -> Ordering:
        """Return a copy that goes its own way."""
        return copy.deepcopy(self)

    def standing(self, job_id: JobId) -> Standing | None:
        """Return where a job stands; None when it does not wait. A retry stands where it will line up."""
        if job_id in self._rests:
            waiting = self._rests[job_id]
            return self._standing_at(waiting.tier, (waiting.queued_at, 0, waiting.tenant_id))
        if job_id not in self._waiting:
            return None
        waiting, rank = self._waiting[job_id]
        lane = self._lanes[waiting.tier][waiting.model_version]
        return self._standing_at(waiting.tier, lane.place_of(waiting.tenant_id, rank))

    def standing_of_new(self, tier: str, now: float) -> Standing:
        """Return where a job of `tier` would stand that came now."""
        return self._standing_at(tier, (now, 2**63, TenantId("")))

    def depth(self, tier: str) -> int:
        """Return how many jobs of a tier wait."""
        lined_up = sum(len(lane.places) for lane in tuple(self._lanes.get(tier, {}).values()))
        return lined_up + sum(waiting.tier == tier for waiting in tuple(self._rests.values()))

    def oldest(self, tier: str) -> float | None:
        """Return since when the oldest waiting job of a tier waits, in Unix seconds."""
        lanes = tuple(self._lanes.get(tier, {}).values())  # a copy: the metrics thread asks, too
        firsts = [place[0] for lane in lanes for place in lane.places[:1]]
        return min(firsts, default=None)

    def _line_up(self, waiting: Waiting) -> None:
        number = next(self._number)
        rank: Rank = (-waiting.priority, waiting.queued_at, number, waiting.job_id)
        lane = self._lanes.setdefault(waiting.tier, {}).setdefault(waiting.model_version, _Lane())
        lane.add((waiting.queued_at, number, waiting.tenant_id), rank)
        lane.units += waiting.units
        self._waiting[waiting.job_id] = waiting, rank

    def _tiers(self) -> Iterator[str]:
        yield from (tier for tier in TIERS if tier in self._lanes)
        yield from sorted(tier for tier in self._lanes if tier not in TIERS)

    def _standing_at(self, tier: str, place: Place) -> Standing:
        jobs, units = 0, 0.0
        for other in self._tiers():
            lanes = self._lanes[other].values()
            if other == tier:
                before = [(bisect_left(lane.places, place), lane) for lane in lanes]
                jobs += sum(count for count, _ in before)
                units += sum(lane.units * count / len(lane.places) for count, lane in before if count)
                break
            if _served_before(other, tier):
                jobs += sum(len(lane.places) for lane in lanes)
                units += sum(lane.units for lane in lanes)
        return Standing(jobs + 1, units)


def _served_before(tier: str, other: str) -> bool:
    return _order(tier) < _order(other)


def _order(tier: str) -> tuple[int, str]:
    return (TIERS.index(tier), "") if tier in TIERS else (len(TIERS), tier)
