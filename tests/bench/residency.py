"""Loads of model weights on recorded traces: first in first out, LRU, ours, and the clairvoyant optimum.

    python -m tests.bench.residency

Every request needs its model on the device. Requests are served in the order of the trace; a model that draws cannot
leave, so a request may have to wait, and for ours what waits behind it is known. "known queue" is ours with hints of
a scheduler that sees the next 16 requests. The optimum knows the whole trace and is exact, for models of different
sizes too: a search over all sets of models that fit. It may evict models that draw, so no policy can be below it.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from typing import Protocol

from services.modelserver.engine.arrivals import Arrivals
from services.modelserver.engine.eviction import Hold, Outlook, Resident, who_leaves
from tests.bench.model_traces import GB, Arrival, Trace, traces

KNOWN_QUEUE = 16


@dataclass(frozen=True, slots=True)
class Held:
    """A model on the simulated device."""

    model: str
    bytes: int
    loaded_s: float
    used_s: float
    busy: bool


@dataclass(frozen=True, slots=True)
class Moment:
    """What a policy may look at when room is needed."""

    now_s: float
    held: list[Held]
    wanted_bytes: int
    budget_bytes: int
    to_come: tuple[Arrival, ...]  # the KNOWN_QUEUE requests behind this one


class Policy(Protocol):
    """Says who leaves."""

    def saw(self, model: str, now_s: float) -> None:
        """Be told of every request."""
        ...

    def leave(self, moment: Moment) -> tuple[str, ...]:
        """Return who leaves; nobody when it must wait."""
        ...


@dataclass(frozen=True, slots=True)
class Plain:
    """Lets models go one by one in a fixed order until there is room, the busy ones left out."""

    order: Callable[[Held], float]

    def saw(self, model: str, now_s: float) -> None:
        """Keep no statistics."""

    def leave(self, moment: Moment) -> tuple[str, ...]:
        """Return who leaves."""
        short = sum(each.bytes for each in moment.held) + moment.wanted_bytes - moment.budget_bytes
        leave = []
        for each in sorted((each for each in moment.held if not each.busy), key=self.order):
            if short > 0:
                leave.append(each.model)
                short -= each.bytes
        return tuple(leave) if short <= 0 else ()


@dataclass(slots=True)
class Ours:
    """What the engine does. `hinted` requests of the queue are known from the scheduler."""

    hinted: int = 0
    arrivals: Arrivals = field(default_factory=Arrivals)

    def saw(self, model: str, now_s: float) -> None:
        """Count it."""
        self.arrivals.note(model, now_s)

    def leave(self, moment: Moment) -> tuple[str, ...]:
        """Return who leaves."""
        residents = [
            Resident(each.model, each.bytes, each.used_s, Hold.BUSY if each.busy else Hold.FREE) for each in moment.held
        ]
        waiting = {each.model for each in moment.to_come if each.at_s <= moment.now_s}
        known = moment.to_come[: self.hinted]
        hints = {each.model: each.at_s for each in reversed(known)}
        hints_end_s = known[-1].at_s if known else moment.now_s
        outlook = Outlook(moment.now_s, waiting, hints, hints_end_s, self.arrivals.expected_s())
        return who_leaves(residents, moment.wanted_bytes, moment.budget_bytes, outlook).leave


POLICIES: Mapping[str, Callable[[], Policy]] = {
    "FIFO": lambda: Plain(lambda each: each.loaded_s),
    "LRU": lambda: Plain(lambda each: each.used_s),
    "ours": Ours,
    "ours, known queue": lambda: Ours(KNOWN_QUEUE),
}


@dataclass(slots=True)
class Device:
    """A simulated device that serves a trace. Raises when a policy lets a model go that draws."""

    trace: Trace
    policy: Policy
    now_s: float = 0.0
    loads: list[str] = field(default_factory=list)
    waits: int = 0
    _held: dict[str, tuple[float, float]] = field(default_factory=dict)  # when loaded, when used last
    _draws_until_s: dict[str, float] = field(default_factory=dict)

    def serve(self) -> Device:
        """Serve it all."""
        for number, arrival in enumerate(self.trace.arrivals):
            self.now_s = max(self.now_s, arrival.at_s)
            self.policy.saw(arrival.model, arrival.at_s)
            if arrival.model not in self._held:
                self._bring(arrival.model, self.trace.arrivals[number + 1 : number + 1 + KNOWN_QUEUE])
            self._held[arrival.model] = self._held[arrival.model][0], self.now_s
            until_s = max(self._draws_until_s.get(arrival.model, 0.0), self.now_s + arrival.draws_s)
            self._draws_until_s[arrival.model] = until_s
        return self

    def _bring(self, model: str, to_come: tuple[Arrival, ...]) -> None:
        while self._used() + self.trace.bytes_of[model] > self.trace.budget_bytes:
            leave = self.policy.leave(self._moment(model, to_come))
            assert not any(self._busy(each) for each in leave), "a model that draws was let go"
            for each in leave:
                del self._held[each]
            if not leave:
                self.waits += 1
                self.now_s = min(self._draws_until_s[each] for each in self._held if self._busy(each))
        self.loads.append(model)
        self._held[model] = self.now_s, self.now_s

    def _moment(self, model: str, to_come: tuple[Arrival, ...]) -> Moment:
        of = self.trace.bytes_of
        held = [Held(name, of[name], *times, self._busy(name)) for name, times in self._held.items()]
        return Moment(self.now_s, held, of[model], self.trace.budget_bytes, to_come)

    def _busy(self, model: str) -> bool:
        return self._draws_until_s.get(model, 0.0) > self.now_s

    def _used(self) -> int:
        return sum(self.trace.bytes_of[name] for name in self._held)


Models = frozenset[str]


def fewest_loads(trace: Trace, cost: Callable[[str], int] = lambda _: 1) -> int:
    """Return the least cost of loads with which the trace can be served, in its order, by one that knows it all."""

    @cache
    def after(here: Models, model: str) -> tuple[Models, ...]:
        return tuple(_largest_with(here, model, trace))

    costs: dict[Models, int] = {frozenset(): 0}
    for arrival in trace.arrivals:
        reached: dict[Models, int] = {}
        for here, spent in costs.items():
            loaded = arrival.model not in here
            for there in after(here, arrival.model) if loaded else (here,):
                total = spent + (cost(arrival.model) if loaded else 0)
                reached[there] = min(total, reached.get(there, total))
        # From the cheapest set every other can be had by loading it, so dearer ones are on no best way.
        least = min(reached.values())
        costs = {here: spent for here, spent in reached.items() if spent < least + sum(map(cost, here))}
    return min(costs.values())


def _largest_with(here: Models, model: str, trace: Trace) -> Iterator[Models]:
    """Yield what may be left of `here`, with the model, when nobody leaves in vain."""
    found: list[Models] = []
    for count in range(len(here), -1, -1):
        for stay in combinations(sorted(here), count):
            there = frozenset(stay) | {model}
            fits = sum(trace.bytes_of[each] for each in there) <= trace.budget_bytes
            if fits and not any(there < larger for larger in found):
                found.append(there)
    yield from found


def _row(trace: Trace) -> str:
    served = {name: Device(trace, make()).serve() for name, make in POLICIES.items()}
    best = fewest_loads(trace)
    cells = [f"{len(device.loads)}" for device in served.values()]
    lru, ours = len(served["LRU"].loads), len(served["ours"].loads)
    moved = [sum(trace.bytes_of[model] for model in served[name].loads) for name in ("LRU", "ours")]
    moved.append(fewest_loads(trace, lambda model: trace.bytes_of[model]))
    told = " / ".join(f"{each / GB:.0f}" for each in moved)
    assert best <= ours <= lru
    return f"| {trace.name} | {' | '.join(cells)} | {best} | {ours / lru:.2f} | {ours / best:.2f} | {told} |"


def main() -> None:
    """Print the table."""
    print(f"{platform.machine()}, Python {sys.version.split()[0]}; a simulation, the same on every machine\n")
    print(f"| trace | {' | '.join(POLICIES)} | optimum | ours / LRU | ours / optimum | GB: LRU / ours / optimum |")
    print(f"|---|{'---|' * (len(POLICIES) + 4)}")
    for trace in traces():
        print(_row(trace))


if __name__ == "__main__":
    main()
