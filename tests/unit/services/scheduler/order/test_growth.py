"""How the work of the order grows with the queue: steps of the interpreter and comparisons are counted, not time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

import pytest

from libs.ids import JobId, TenantId
from services.scheduler.order.ordering import TIERS, Ordering, Waiting
from services.scheduler.order.tenant import Tenant
from services.scheduler.order.tier import Tier

MODELS = tuple(f"m{number}@1" for number in range(12))
SHORT, LONG = 1_000, 30_000
TURNS = 150
LOGARITHMIC = 1.5  # log(LONG) / log(SHORT)
_NOW = 1000.0


class Counted(float):
    """A moment of arrival that counts how often it is compared, also by the heaps, which are written in C."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        Counted.comparisons += 1
        return float.__lt__(self, other)

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return float.__eq__(self, other)

    __hash__ = float.__hash__


def steps(action: Callable[[], object]) -> int:
    """Count the instructions that an action takes."""
    count = 0

    def trace(frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
    return count


class Line:
    """A queue that stays as long as it is: whenever a job starts, one ends and one comes. Half is of one tenant."""

    def __init__(self, length: int) -> None:
        self.order, self.tenants, self.number = Ordering(), length // 10, 0
        self.running: list[JobId] = []
        for _ in range(length):
            self.come()
        self.order.judge(lambda _: None, anew=True)

    def come(self) -> JobId:
        self.number += 1
        number, tenant = self.number, self.number * 7919 % self.tenants if self.number % 2 else 0
        job_id, units = JobId(f"job_{number}"), 100.0 + number * 31 % 900
        tier, model = TIERS[tenant % len(TIERS)], MODELS[number * 13 % len(MODELS)]
        arrived = Counted(_NOW + number * 1e-3)
        priority = number % 3
        self.order.add(Waiting(job_id, TenantId(f"t{tenant}"), tier, model, arrived, units, priority), _NOW)
        return job_id

    def turn(self) -> None:
        offers = {model: 0.0 if index % 4 == self.number % 4 else 900.0 for index, model in enumerate(MODELS)}
        job = self.order.next(offers.get, _NOW)
        assert job is not None
        self.order.started(job.job_id, _NOW)
        self.running.append(job.job_id)
        self.order.settled(self.running.pop(0), 150.0)
        self.order.standing(self.come())

    def turns(self, count: int) -> None:
        for _ in range(count):
            self.turn()


def grown(lengths: tuple[int, int] = (SHORT, LONG), turns: int = TURNS) -> tuple[float, float]:
    """Return how many times as many steps and comparisons a long queue takes as a short one."""
    took: list[tuple[int, int]] = []
    for length in lengths:
        line = Line(length)
        line.turns(turns)  # so that places are worked out as often as they will be
        Counted.comparisons = 0
        took.append((steps(partial(line.turns, turns)), Counted.comparisons))
    return took[1][0] / took[0][0], took[1][1] / took[0][1]


def test_the_work_of_a_turn_grows_no_faster_than_the_logarithm_of_the_queue() -> None:
    more_steps, more_comparisons = grown()
    assert more_steps <= LOGARITHMIC
    assert more_comparisons <= LOGARITHMIC


def test_looking_at_every_tenant_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def top(tier: Tier, model: str) -> Any:
        found = [(tenant.queues[model].key, 0, name) for name, tenant in tier.tenants.items() if model in tenant.queues]
        return min(found, default=None)

    monkeypatch.setattr(Tier, "_top", top)
    assert grown(turns=20)[0] > 2 * LOGARITHMIC


def test_looking_at_every_job_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def first(tenant: Tenant, models: Any) -> Any:
        queues = [tenant.queues[model] for model in models if model in tenant.queues]
        return min(min(sorted(queue.rows[min(queue.rows)]) for queue in queues))

    monkeypatch.setattr(Tenant, "first", first)
    assert grown((500, 5000), 20)[1] > 2 * LOGARITHMIC


def test_a_fork_takes_as_few_steps_of_a_long_queue() -> None:
    short, long = Line(SHORT), Line(LONG)
    assert steps(long.order.fork) <= LOGARITHMIC * steps(short.order.fork)
