"""How long tenants wait under skew, against the ideal fluid share and first come, first served: `make bench/fairness`.

    python -m tests.bench.fairness

One tenant with 10,000 queued jobs, twenty with ten each, three tiers; the one came first. Eight devices on a virtual
clock, asked for as the dispatcher asks: the real order, what a free device would have to load, then the start. Jobs take
as long as estimated; a load takes six seconds, and a device holds two models.

A gap is what two tenants of a tier that both have jobs waiting were given differently, in estimated units: it is to
stay within the locality slack, one load, and the largest job. Behind the fluid: what the ideal had given a tenant
already and the order had not; with loads the ideal, which has none, is out of reach for whoever stays to the end.
"""

from __future__ import annotations

import heapq
import platform
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import Ordering, Shares, Waiting
from tests.bench.fluid import Share, fill

TIERS = ("enterprise", "pro", "free")
BIG, SMALL, SMALL_TENANTS = 10_000, 10, 20
DEVICES, ROOM, LOAD_S = 8, 2, 6.0
UNITS_A_S = 1000.0
LARGEST, SMALLEST = 4000.0, 500.0
WEIGHTS = Shares().weights


@dataclass(slots=True)
class Play:
    """What came of a run: starts by tenant in seconds, and how unequal it ever was."""

    starts: dict[TenantId, list[float]] = field(default_factory=lambda: defaultdict(list))
    worst_gap: float = 0.0
    behind: dict[TenantId, float] = field(default_factory=lambda: defaultdict(float))
    loads: int = 0
    lane: int = 0
    over_s: float = 0.0


def jobs(big_tier: str, models: int, seed: int = 1) -> list[Waiting]:
    """Return what is queued: all came within a second, the big tenant's jobs first."""
    dice = random.Random(seed)
    small = [(TenantId(f"{TIERS[number % 3]}-{number:02}"), TIERS[number % 3]) for number in range(SMALL_TENANTS)]
    order = [(TenantId("big"), big_tier)] * BIG + [each for each in small for _ in range(SMALL)]
    return [
        Waiting(
            JobId(f"job_{number:05}"), tenant, tier, f"m{dice.randrange(models)}@1", number * 1e-5,
            dice.uniform(SMALLEST, LARGEST),
        )
        for number, (tenant, tier) in enumerate(order)
    ]  # fmt: skip


class Devices:
    """Who is free and has what in memory."""

    def __init__(self, models: int) -> None:
        names = [f"m{number}@1" for number in range(models)]
        self.resident = [[names[(device + step) % models] for step in range(ROOM)] for device in range(DEVICES)]
        self.free = set(range(DEVICES))
        self.loads = 0

    def offer(self, model: str) -> float | None:
        """Return the units of loading that a job of the model costs now; None when nobody is free."""
        if not self.free:
            return None
        return 0.0 if any(model in self.resident[device] for device in self.free) else LOAD_S * UNITS_A_S

    def take(self, model: str) -> tuple[int, float]:
        """Give a free device to a job; returns it and the seconds until the model is there."""
        device = min(self.free, key=lambda one: (model not in self.resident[one], one))
        self.free.remove(device)
        held = self.resident[device]
        fresh = model not in held
        held[:] = [*(one for one in held if one != model), model][-ROOM:]
        self.loads += fresh
        return device, LOAD_S if fresh else 0.0


Pick = Callable[[Callable[[str], float | None], float], Waiting | None]


def by_order(ordering: Ordering) -> Pick:
    """Return the scheduler's own choice."""

    def pick(offer: Callable[[str], float | None], now: float) -> Waiting | None:
        waiting = ordering.next(offer, now)
        if waiting is not None:
            ordering.started(waiting.job_id, now)
        return waiting

    return pick


def first_come(queued: list[Waiting]) -> Pick:
    """Return the choice of whoever came first."""
    left = iter(queued)
    return lambda offer, now: next(left, None)


def play(queued: list[Waiting], models: int, pick: Pick, fluid: dict[str, Share]) -> Play:
    """Serve all that is queued."""
    devices, result, book, now = Devices(models), Play(), Book(queued, fluid), 1.0
    ends: list[tuple[float, int]] = []
    while book.waiting or ends:
        while devices.free and book.waiting:
            waiting = pick(devices.offer, now)
            assert waiting is not None, "a device is free and jobs wait"
            device, load_s = devices.take(waiting.model_version)
            book.started(waiting, now - 1.0, result)
            heapq.heappush(ends, (now + load_s + waiting.units / UNITS_A_S, device))
        now, device = heapq.heappop(ends)
        devices.free.add(device)
        book.look(now - 1.0, result)
    result.loads, result.over_s = devices.loads, now - 1.0
    return result


class Book:
    """What everybody was given, and who still waits."""

    def __init__(self, queued: list[Waiting], fluid: dict[str, Share]) -> None:
        self.waiting, self._fluid = len(queued), fluid
        self._left: dict[TenantId, int] = defaultdict(int)
        self._given: dict[TenantId, float] = defaultdict(float)
        self._members: dict[str, set[TenantId]] = defaultdict(set)
        for one in queued:
            self._left[one.tenant_id] += 1
            self._members[one.tier].add(one.tenant_id)

    def started(self, waiting: Waiting, now: float, result: Play) -> None:
        """A job starts: compare its tier."""
        tenant, members = waiting.tenant_id, self._members[waiting.tier]
        result.starts[tenant].append(now)
        self._given[tenant] += waiting.units
        self._left[tenant] -= 1
        self.waiting -= 1
        if len(members) > 1:
            given = [self._given[name] for name in members]
            result.worst_gap = max(result.worst_gap, max(given) - min(given))
        if not self._left[tenant]:
            members.remove(tenant)

    def look(self, now: float, result: Play) -> None:
        """Compare everybody that waits with the fluid."""
        for members in self._members.values():
            for name in members:
                behind = self._fluid[name].at(now) - self._given[name]
                result.behind[name] = max(result.behind[name], behind)


def ideal(queued: list[Waiting]) -> tuple[dict[str, Share], dict[TenantId, list[float]]]:
    """Return the fluid and when each job would start in it: when its tenant has had what its earlier jobs want."""
    wants: dict[TenantId, tuple[str, float]] = {}
    before: list[tuple[TenantId, float]] = []
    for one in queued:
        had = wants.get(one.tenant_id, (one.tier, 0.0))[1]
        before.append((one.tenant_id, had))
        wants[one.tenant_id] = one.tier, had + one.units
    fluid = fill(wants, WEIGHTS, DEVICES * UNITS_A_S)
    starts: dict[TenantId, list[float]] = defaultdict(list)
    for name, units in before:
        starts[name].append(fluid[name].when(units))
    return fluid, starts


def show(big_tier: str, models: int, *, each: bool) -> None:
    """Play it and print the waits: of every tenant, or of the small ones by tier."""
    queued = jobs(big_tier, models)
    fluid, ideally = ideal(queued)
    ordering = Ordering()
    for one in queued:
        ordering.add(one, 1.0)
    ours = play(queued, models, by_order(ordering), fluid)
    fifo = play(queued, models, first_come(queued), fluid)
    slack = LOAD_S * UNITS_A_S if models > ROOM else 0.0
    print(f"\n{models} models, the big tenant is {big_tier}: over after {ours.over_s:.0f} s with {ours.loads} loads; ")
    print(f"first come, first served {fifo.over_s:.0f} s with {fifo.loads}; by the lane {ordering.lane_used}\n")
    print("| tenants | ours p50 / max s | fluid p50 / max s | first come p50 / max s | most behind the fluid, units |")
    print("|---|---|---|---|---|")
    groups = [[name] for name in sorted(ours.starts)] if each else _groups(ours)
    for group in groups:
        cells = (" / ".join(_told(of, group)) for of in (ours.starts, ideally, fifo.starts))
        name = group[0] if len(group) == 1 else f"{len(group)} small, {group[0].partition('-')[0]}"
        print(f"| {name} | {' | '.join(cells)} | {max(ours.behind[one] for one in group):,.0f} |")
    bound = slack + max(one.units for one in queued)
    verdict = "within" if ours.worst_gap <= bound else "NOT WITHIN"
    print(
        f"\nworst gap within a tier: {ours.worst_gap:,.0f} units, {verdict} slack and largest job, {bound:,.0f}; ",
        end="",
    )
    print(f"first come, first served: {fifo.worst_gap:,.0f}")


def _groups(played: Play) -> list[list[TenantId]]:
    small = [[name for name in sorted(played.starts) if name.startswith(tier)] for tier in TIERS]
    return [[TenantId("big")], *small]


def _told(starts: dict[TenantId, list[float]], group: list[TenantId]) -> tuple[str, str]:
    waits = [start for name in group for start in starts[name]]
    return f"{statistics.median(waits):.1f}", f"{max(waits):.1f}"


def main() -> None:
    """Print the tables."""
    print(f"{platform.machine()}, Python {sys.version.split()[0]}; a simulation, the same on every machine")
    show("pro", 1, each=True)
    for tier in TIERS:
        show(tier, 4, each=False)


if __name__ == "__main__":
    main()
