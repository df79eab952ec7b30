"""Virtual time: the units somebody was given, over its weight. Whoever has least is next.

While somebody wants nothing, its account does not fall behind those that do: it comes back at the time of the
others (`enter`), so that nobody saves up. One that wants something that nobody can give falls behind for a while
only (`caught_up`).
"""

from __future__ import annotations

from dataclasses import dataclass

LAG_UNITS = 60_000.0  # a minute of the reference device: what may be made up for after its models were not to be had


@dataclass(slots=True)
class Account:
    """What a tier or a tenant was given."""

    weight: float = 1.0
    time: float = 0.0
    lifts: int = 0  # how often it came back later than it left
    lifted: float = 0.0  # by how much the last time, less what was charged late for the time before

    def copy(self) -> Account:
        """Return one that goes its own way."""
        return Account(self.weight, self.time, self.lifts, self.lifted)

    def enter(self, clock: float) -> None:
        """Come back to those whose time is `clock`."""
        if self.time < clock:
            self.lifted, self.time = clock - self.time, clock
            self.lifts += 1

    def caught_up(self, clock: float) -> float:
        """Return its time without what lies further back than the lag that is made up for."""
        return max(self.time, clock - LAG_UNITS / self.weight)

    def charge(self, units: float) -> None:
        """Take note of what it is given."""
        self.time += units / self.weight

    def correct(self, shift: float, lifts: int) -> None:
        """Shift the time by what was charged wrongly when there had been `lifts`.

        What was charged before the last lift would only have changed how far it was lifted.
        """
        if lifts != self.lifts:
            eaten = min(max(0.0, shift), self.lifted)
            self.lifted -= eaten
            shift = max(0.0, shift - eaten)
        self.time += shift
