"""Which models leave when another one needs room. One pure function, for the device's memory and the host's alike.

The rule is Belady's, with estimates for what only a clairvoyant knows: the model whose next use is farthest away
leaves first. When a model is used next:

1. at once, when a request for it already waits in this engine;
2. when the scheduler says so, which sees the queue of the whole mesh (hints);
3. else as its own arrivals make one expect (arrivals.py): the mean time between its requests, counts of long ago fading.

Between equals the one that was used longest ago leaves, so that without statistics and hints this is LRU. Bytes are
deliberately no part of the order: a load costs time in proportion to its bytes, so what a byte of room saves is the
expected number of uses, whatever the size of its model. But none leaves in vain: whoever turns out not to be needed
for the room stays, the soonest used first.

Never a model that draws, loads or has its turn (BUSY), nor one that the operator holds (KEPT).
"""

from __future__ import annotations

import enum
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


class Hold(enum.Enum):
    """What keeps a model where it is."""

    FREE = "free"  # nothing
    BUSY = "busy"  # it draws, loads, or has only just come for requests that waited: it can leave later
    KEPT = "kept"  # the operator


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in the memory in question."""

    pinned: str
    bytes: int
    last_use_s: float
    hold: Hold = Hold.FREE


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of the future. `now_s`, `hints` and `last_use_s` of the residents are of one clock."""

    now_s: float
    waiting: Collection[str] = frozenset()  # requests for them are in this engine
    hints: Mapping[str, float] = field(default_factory=dict)  # when the scheduler expects the next use; inf: never
    hints_end_s: float = -math.inf  # no model without a hint is used before
    expected_s: Mapping[str, float] = field(default_factory=dict)  # from now to the next use, by own arrivals
    leaving: Collection[str] = frozenset()  # busy ones that were told to leave before: not to be told otherwise now

    def next_use_in_s(self, pinned: str) -> float:
        """Return the seconds until the model is likely to be used."""
        if pinned in self.waiting:
            return 0.0
        if pinned in self.hints:
            return max(0.0, self.hints[pinned] - self.now_s)
        # Arrivals have no memory: whoever is known not to come before some moment is expected as long after it.
        return max(0.0, self.hints_end_s - self.now_s) + self.expected_s.get(pinned, math.inf)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to make room. It can be done now when `why` is empty: `leave` in that order.

    Otherwise these busy models must finish first (`waits_for`); when there are none it can never be done.
    """

    leave: tuple[str, ...] = ()
    waits_for: tuple[str, ...] = ()
    why: str = ""

    @property
    def possible(self) -> bool:
        """Whether it can be done now."""
        return not self.why


def who_leaves(residents: Collection[Resident], wanted_bytes: int, budget_bytes: int, outlook: Outlook) -> Plan:
    """Return who must leave a memory of `budget_bytes` so that `wanted_bytes` more fit."""
    short = sum(each.bytes for each in residents) + wanted_bytes - budget_bytes
    if short <= 0:
        return Plan()
    by_hold = {hold: [each for each in residents if each.hold is hold] for hold in Hold}
    kept_bytes = sum(each.bytes for each in by_hold[Hold.KEPT])
    if kept_bytes + wanted_bytes > budget_bytes:
        held = f", {kept_bytes} of them held by pinned models" if kept_bytes else ""
        return Plan(why=f"it needs {wanted_bytes} bytes and the budget is {budget_bytes} bytes{held}")
    free = _farthest_first(by_hold[Hold.FREE], outlook)
    leave = _just_enough(free, short)
    if leave is not None:
        return Plan(leave=leave)
    short -= sum(each.bytes for each in free)
    told = [each for each in by_hold[Hold.BUSY] if each.pinned in outlook.leaving]
    others = [each for each in by_hold[Hold.BUSY] if each.pinned not in outlook.leaving]
    waits_for = _just_enough([*_farthest_first(told, outlook), *_farthest_first(others, outlook)], short)
    return Plan(waits_for=waits_for or (), why="models that are in use must finish first")


def _farthest_first(residents: Sequence[Resident], outlook: Outlook) -> list[Resident]:
    return sorted(residents, key=lambda each: (-outlook.next_use_in_s(each.pinned), each.last_use_s, each.pinned))


def _just_enough(in_order: Sequence[Resident], short: int) -> tuple[str, ...] | None:
    """Return the first that free `short` bytes together, without those that the rest can do without."""
    chosen: list[Resident] = []
    for each in in_order:
        if short <= 0:
            break
        chosen.append(each)
        short -= each.bytes
    if short > 0:
        return None
    for each in reversed(chosen):
        if each.bytes <= -short:
            chosen.remove(each)
            short += each.bytes
    return tuple(each.pinned for each in chosen)
