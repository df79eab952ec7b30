"""Looks at every state of the fencing model that can be reached, shortest way first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.unit.services.scheduler.fencing_model import Rules, State, ended, first_state
from tests.unit.services.scheduler.fencing_moves import moves


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to: `wrong` is empty when all is well, else `trace` leads there."""

    states: int
    wrong: str = ""
    trace: tuple[str, ...] = ()

    def told(self) -> str:
        """Return it in lines."""
        return "\n".join([f"{self.states} states: {self.wrong or 'nothing wrong'}", *self.trace])


def explore(rules: Rules, jobs: int, faults: int) -> Found:
    """Return the shortest way to something wrong, or that there is none.

    Wrong is what a state calls wrong, and a state from which, without a further fault, not every job can end.
    """
    first = first_state(jobs, faults)
    came_from: dict[State, tuple[State, str] | None] = {first: None}
    leads_back: dict[State, list[State]] = {}  # to the states that reach it without a fault
    waiting = deque([first])
    while waiting:
        state = waiting.popleft()
        for name, fault, after in moves(state, rules):
            if after == state:
                continue
            if after not in came_from:
                came_from[after] = state, name
                waiting.append(after)
            if after.wrong:
                return Found(len(came_from), after.wrong, _trace(came_from, after))
            if not fault:
                leads_back.setdefault(after, []).append(state)
    stuck = came_from.keys() - _can_end(came_from, leads_back)
    if stuck:
        shortest = min((_trace(came_from, state) for state in stuck), key=len)
        return Found(len(came_from), "a job can never end", shortest)
    return Found(len(came_from))


def _can_end(states: dict[State, tuple[State, str] | None], leads_back: dict[State, list[State]]) -> set[State]:
    good = {state for state in states if ended(state)}
    waiting = deque(good)
    while waiting:
        for before in leads_back.get(waiting.popleft(), ()):
            if before not in good:
                good.add(before)
                waiting.append(before)
    return good


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    names = []
    step = came_from[state]
    while step is not None:
        names.append(step[1])
        step = came_from[step[0]]
    return tuple(reversed(names))
