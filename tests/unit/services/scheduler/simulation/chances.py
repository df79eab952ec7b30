"""What may go wrong in a run: drawn once a seed, so that runs differ in kind and not only in detail."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.unit.services.scheduler.faulty_store import Failing, Fate

TROUBLES = (
    "worker crashes",
    "worker is cut off",
    "worker stands still",
    "worker is sick",
    "model is gone",
    "scheduler crashes",
    "scheduler stands still",
    "fleet is not told",
    "limiter is away",
    "candidate is cut off",
    "etcd is away",
)


@dataclass(slots=True)
class Chances:
    """Draws everything that a run leaves to chance. While `calm`, nothing goes wrong any more."""

    random: random.Random
    calm: bool = False
    troubles: tuple[str, ...] = ()
    store_fails: float = 0.0
    order_goes_wrong: float = 0.0
    event_goes_wrong: float = 0.0
    attempt_fails: float = 0.0
    replicas: int = 1  # schedulers at a time; several are elected
    clocks_differ_s: float = 0.0
    alike: float = 0.0  # how many requests are repeated ones
    poisoned: float = 0.0  # how many fail wherever they are tried, until they are tried much later

    @classmethod
    def of(cls, seed: int) -> Chances:
        """Return those of a seed."""
        drawn = random.Random(f"chances {seed}")
        return cls(
            random=drawn,
            troubles=tuple(drawn.sample(TROUBLES, drawn.randint(2, len(TROUBLES)))),
            store_fails=drawn.choice((0.0, 0.03, 0.1, 0.25)),
            order_goes_wrong=drawn.choice((0.0, 0.1, 0.3)),
            event_goes_wrong=drawn.choice((0.0, 0.02, 0.1)),
            attempt_fails=drawn.choice((0.0, 0.1, 0.25)),
            replicas=drawn.choice((1, 2)),
            clocks_differ_s=drawn.choice((0.0, 0.5, 3.0)),
            alike=drawn.choice((0.0, 0.3, 0.7)),
            poisoned=drawn.choice((0.0, 0.0, 0.1)),
        )

    def happens(self, probability: float) -> bool:
        """Draw whether something goes wrong."""
        return not self.calm and self.random.random() < probability

    def between(self, least: float, most: float) -> float:
        """Draw a number, mostly of seconds."""
        return self.random.uniform(least, most)

    def of_store(self, _method: str) -> Fate:
        """Draw what becomes of a call of the store."""
        slow = 1.0 if self.happens(0.01) else 0.01
        before_s, after_s = self.between(0.0, slow), self.between(0.0, slow)
        if not self.happens(self.store_fails):
            return Fate(Failing.NOT, before_s, after_s)
        failing = self.random.choice((Failing.BEFORE, Failing.AFTER, Failing.LATE))
        return Fate(failing, before_s, self.between(0.1, 3.0) if failing is Failing.LATE else after_s)
