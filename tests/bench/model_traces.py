"""Which model is asked for when: seeded Zipf + diurnal traces of 12 models on a worker with room for 3.

Popularity falls with rank as 1/rank^skew. The whole traffic swings over a day, and each model besides with a phase of
its own. With `session` > 1 somebody goes on with a model for that many requests in the mean. In `fashion` ranks change
hands now and then; in `rounds` a job goes through all models in turn every two hours; in `rush` drawings overlap so
much that models are in use most of the time, and requests queue up.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

DAY_S = 86_400.0
GB = 1_000_000_000
MODELS = 12
ALIKE = (7,) * MODELS  # sizes in GB
MIXED = (2, 2, 4, 4, 7, 7, 7, 7, 12, 12, 24, 24)


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request: its model is in use for `draws_s` from when it is served."""

    at_s: float
    model: str
    draws_s: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order, and how large things are, in bytes."""

    name: str
    arrivals: tuple[Arrival, ...]
    bytes_of: dict[str, int]
    budget_bytes: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a trace is made; see the module."""

    name: str
    seed: int
    skew: float = 1.0
    period_s: float = DAY_S
    swing: float = 0.8  # of the whole traffic, 0 to 1
    own_swing: float = 0.9  # of each model
    session: float = 1.0
    gap_s: float = 40.0  # between requests in the mean
    draws_s: float = 6.0
    fashion_s: float = 0.0  # between changes of rank in the mean; 0: never
    rounds_s: float = 0.0  # between rounds through all models; 0: none
    sizes: Sequence[int] = ALIKE
    budget: int = 21


RECIPES = (
    Recipe("flat", 11, skew=0.6),
    Recipe("usual", 12),
    Recipe("steep", 13, skew=1.4),
    Recipe("sessions", 14, session=6.0),
    Recipe("half days", 15, skew=0.8, period_s=DAY_S / 2, session=3.0),
    Recipe("fashion", 16, session=2.0, fashion_s=DAY_S / 4),
    Recipe("rounds", 17, rounds_s=DAY_S / 12),
    Recipe("rush", 18, session=2.0, gap_s=8.0, draws_s=12.0, period_s=DAY_S / 8),
    Recipe("sizes", 19, sizes=MIXED, budget=36),
    Recipe("sizes, sessions", 20, skew=0.8, session=4.0, sizes=MIXED, budget=36),
)


def record(recipe: Recipe, requests: int = 2000) -> Trace:
    """Return the trace of a recipe; the same on every machine."""
    chance = random.Random(recipe.seed)
    sizes = list(recipe.sizes)
    chance.shuffle(sizes)
    names = [f"model-{number:02}@1" for number in range(MODELS)]
    bytes_of = {name: size * GB for name, size in zip(names, sizes, strict=True)}
    return Trace(recipe.name, _arrivals(recipe, names, requests, chance), bytes_of, recipe.budget * GB)


def traces() -> list[Trace]:
    """Return all of them."""
    return [record(recipe) for recipe in RECIPES]


def tuning_traces() -> list[Trace]:
    """Return traces of the same recipes and other seeds: for choosing constants, never for showing results."""
    return [record(replace(recipe, seed=recipe.seed + 1000 * k)) for recipe in RECIPES for k in (1, 2, 3)]


def _arrivals(recipe: Recipe, names: list[str], requests: int, chance: random.Random) -> tuple[Arrival, ...]:
    weights = [1.0 / (rank + 1) ** recipe.skew for rank in range(MODELS)]
    phases = [chance.random() * recipe.period_s for _ in names]
    now_s, model, found = 0.0, "", list[Arrival]()
    fashion_s, round_s = recipe.fashion_s, recipe.rounds_s
    while len(found) < requests:
        rate = (1.0 + recipe.swing * math.sin(2 * math.pi * now_s / recipe.period_s)) / recipe.gap_s
        now_s += chance.expovariate(rate)
        if recipe.fashion_s and now_s > fashion_s:
            fashion_s += chance.expovariate(1.0 / recipe.fashion_s)
            one, other = chance.sample(range(MODELS), 2)
            weights[one], weights[other] = weights[other], weights[one]
        if recipe.rounds_s and now_s > round_s:
            round_s += recipe.rounds_s
            found += [Arrival(now_s, name, recipe.draws_s) for name in names]
        if not model or chance.random() < 1.0 / recipe.session:
            tides = [1 + recipe.own_swing * math.sin(2 * math.pi * (now_s + p) / recipe.period_s) for p in phases]
            (model,) = chance.choices(names, [w * tide for w, tide in zip(weights, tides, strict=True)])
        found.append(Arrival(now_s, model, recipe.draws_s * chance.uniform(0.5, 1.5)))
    return tuple(found[:requests])
