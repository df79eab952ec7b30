"""What the order promises, in numbers, before a fleet of drawn devices; the bounds are reasoned in order/__init__.py.

The last tests break one rule each and see that the promise which rests on it is caught.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from libs.ids import JobId, TenantId
from services.scheduler.order import tier as tier_module
from services.scheduler.order.account import Account
from services.scheduler.order.charges import LEAST_UNITS
from services.scheduler.order.deadlines import Deadlines
from services.scheduler.order.lane import EVERY, Lane
from services.scheduler.order.line import resident
from services.scheduler.order.ordering import Ordering, Shares, Waiting
from services.scheduler.order.queue import Queue
from services.scheduler.order.tiers import Tiers
from services.scheduler.order.waiting import rank
from tests.unit.services.scheduler.order.played import UNITS_A_SECOND, Device, Play, Start, Whose, devices_of, made

MODELS = ("m@1", "n@1", "o@1")
UNITS = (10.0, 60.0, 250.0, 400.0)
MOST = max(UNITS)
TENANTS = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 4.0}  # with their weights
PATIENT = Shares(waits_s={"pro": 1e9})  # nobody uses the lane
SEEDS = st.integers(0, 2**32)
EPSILON = 1e-6


def jobs_of(drawn: random.Random, tiers: Sequence[str], each: int, spread_s: float = 0.0) -> list[Waiting]:
    """As many jobs of each tenant in each tier; with a spread they come in bursts over some time."""
    jobs = []
    for tier, (tenant, weight) in itertools.product(tiers, TENANTS.items()):
        models, at = drawn.sample(MODELS, drawn.randint(1, 3)), 0.0
        for _ in range(each):
            at += drawn.choice((0.0, 0.0, 0.0, drawn.uniform(0.0, spread_s)))
            model, units, priority = drawn.choice(models), drawn.choice(UNITS), drawn.choice((0, 0, 1, -1))
            jobs.append(made(len(jobs), tier, tenant, model, at, units, priority=priority, weight=weight))
    return jobs


def loads_of(drawn: random.Random) -> dict[str, float]:
    return {model: drawn.choice((0.0, 200.0, 1500.0)) for model in MODELS}


def tenant_gap(loads: dict[str, float]) -> float:
    """How far tenants that wait may be apart, in units over weight: one load and one job of the lightest."""
    return max((max(loads.values()) + MOST) / weight for weight in TENANTS.values())


def backlogged_tenants_are_close(seed: int) -> None:
    drawn = random.Random(seed)
    loads = loads_of(drawn)
    play = Play(Ordering(PATIENT), devices_of(drawn, MODELS), loads)
    given: dict[Whose, float] = defaultdict(float)
    always = {("pro", TenantId(tenant)) for tenant in TENANTS}
    for start in play.run(jobs_of(drawn, ["pro"], each=25)):
        if start is None:
            continue
        always &= start.backlogged
        given["pro", start.job.tenant_id] += start.job.units / start.job.weight
        times = [given[whose] for whose in always]
        assert max(times, default=0.0) - min(times, default=0.0) <= tenant_gap(loads) + EPSILON
        total = sum(given[whose] * TENANTS[whose[1]] for whose in always)
        for whose in always:  # so twice the weight is twice the units
            fair = total * TENANTS[whose[1]] / sum(TENANTS[other] for _, other in always)
            assert abs(given[whose] * TENANTS[whose[1]] - fair) <= TENANTS[whose[1]] * tenant_gap(loads) + EPSILON


def whoever_comes_back_is_close(seed: int) -> None:
    """Over any time in which two wait, what they get differs by twice the gap; so nothing was saved up before."""
    drawn = random.Random(seed)
    loads = loads_of(drawn)
    play = Play(Ordering(PATIENT), devices_of(drawn, MODELS), loads)
    since: dict[tuple[TenantId, TenantId], tuple[float, float]] = {}  # the span of their difference while both wait
    given: dict[TenantId, float] = defaultdict(float)
    for start in play.run(jobs_of(drawn, ["pro"], each=25, spread_s=4.0)):
        if start is None:
            continue
        names = sorted(name for _, name in start.backlogged)
        since = {pair: span for pair, span in since.items() if set(pair) <= set(names)}
        _note(since, given, names)
        given[start.job.tenant_id] += start.job.units / start.job.weight
        _note(since, given, names)
        assert all(most - least <= 2 * tenant_gap(loads) + EPSILON for least, most in since.values())


def _note(
    since: dict[tuple[TenantId, TenantId], tuple[float, float]], given: dict[TenantId, float], names: Sequence[TenantId]
) -> None:
    for one, other in itertools.combinations(names, 2):
        apart = given[one] - given[other]
        least, most = since.get((one, other), (apart, apart))
        since[one, other] = min(least, apart), max(most, apart)


def measured_service_is_close(seed: int) -> None:
    """What tenants really got differs by no more than the gap and what their estimates were wrong by at a time."""
    drawn = random.Random(seed)
    loads, wrong = loads_of(drawn), {tenant: drawn.choice((0.1, 0.7, 1.0, 3.0)) for tenant in TENANTS}
    play = Play(
        Ordering(PATIENT),
        devices_of(drawn, MODELS),
        loads,
        lambda job: max(LEAST_UNITS, job.units * wrong[job.tenant_id]),
    )
    truth: dict[TenantId, float] = defaultdict(float)
    errors: dict[TenantId, float] = dict.fromkeys(map(TenantId, TENANTS), 0.0)  # over weight, the most at a time
    always = {("pro", TenantId(tenant)) for tenant in TENANTS}
    for start in play.run(jobs_of(drawn, ["pro"], each=25)):
        if start is None:
            continue
        always &= start.backlogged
        truth[start.job.tenant_id] += max(LEAST_UNITS, start.job.units * wrong[start.job.tenant_id]) / start.job.weight
        for tenant, weight in TENANTS.items():
            open_jobs = [job for job in play.outstanding.values() if job.tenant_id == tenant]
            off = sum(abs(job.units - max(LEAST_UNITS, job.units * wrong[tenant])) for job in open_jobs)
            errors[TenantId(tenant)] = max(errors[TenantId(tenant)], off / weight)
        for (_, one), (_, other) in itertools.permutations(always, 2):
            most = tenant_gap(loads) + errors[one] + errors[other]
            assert truth[one] - truth[other] <= most + EPSILON


WEIGHTS = {"enterprise": 4.0, "pro": 2.0, "free": 1.0}


def backlogged_tiers_are_close_and_the_lane_is_narrow(seed: int) -> None:
    """Tiers that wait are one job apart; the lane, which they are not charged for, takes one of ten in any window."""
    drawn = random.Random(seed)
    shares = Shares(WEIGHTS, dict.fromkeys(WEIGHTS, drawn.choice((0.0, 1.0, 20.0, 1e9))))
    play = Play(Ordering(shares), devices_of(drawn, MODELS), loads_of(drawn))
    given, always, lane = dict.fromkeys(WEIGHTS, 0.0), set(WEIGHTS), list[bool]()
    for start in play.run(jobs_of(drawn, list(WEIGHTS), each=12)):
        if start is None:
            continue
        always &= {tier for tier, _ in start.backlogged}
        lane.append(start.by_lane)
        assert sum(lane[-EVERY:]) <= 1
        if not start.by_lane:
            given[start.job.tier] += start.job.units / WEIGHTS[start.job.tier]
        times = [given[tier] for tier in always]
        assert max(times, default=0.0) - min(times, default=0.0) <= MOST / min(WEIGHTS.values()) + EPSILON


def longest_wait_s(tier: str, rows: int, burst: float, rate: float) -> float:
    """How long a tier that asks for `rate` units a second and `burst` at once can be behind; UNITS are those of LIGHT.

    As long as it waits all rows are busy. Of what starts, all but the lane is shared by weight, one job more or less.
    """
    weight, total = WEIGHTS[tier], sum(WEIGHTS.values())
    by_lane = LIGHT[-1] / LIGHT[0] / EVERY  # of the units; the lane counts jobs
    late = rows * LIGHT[-1] * (1 - by_lane) + LIGHT[-1]  # what ran before, and one more of the lane
    late += (total - weight) / weight * LIGHT[-1] + (len(WEIGHTS) - 1) * LIGHT[-1]
    least = weight / total * rows * UNITS_A_SECOND * (1 - by_lane)
    return (weight / total * late + burst) / (least - rate)


LIGHT = (500.0, 1000.0)


def loaded(drawn: random.Random, tier: str, rate: float, others_each: int, until_s: float) -> list[Waiting]:
    """Jobs of one tier at a rate and in bursts of at most two more; the other tiers want more than there is."""
    jobs: list[Waiting] = []
    for other in WEIGHTS:
        for _ in range(others_each if other != tier else 0):
            jobs.append(made(len(jobs), other, drawn.choice("abc"), "m@1", 0.0, drawn.choice(LIGHT)))
    at, asked = 0.0, 0.0
    while at < until_s:
        for _ in range(drawn.randint(1, 3)):
            jobs.append(made(len(jobs), tier, drawn.choice("abc"), "m@1", at, drawn.choice(LIGHT)))
            asked += jobs[-1].units
        at = max(at, asked / rate)
    return jobs


def a_tier_below_its_share_waits_no_longer_than_its_bound(seed: int) -> None:
    drawn = random.Random(seed)
    tier, rows = drawn.choice(list(WEIGHTS)), drawn.randint(1, 3)
    rate = 0.7 * WEIGHTS[tier] / sum(WEIGHTS.values()) * rows * UNITS_A_SECOND * 0.8
    bound_s = longest_wait_s(tier, rows, 3 * LIGHT[-1], rate)
    order = Ordering(Shares(WEIGHTS, {**dict.fromkeys(WEIGHTS, 1.0), tier: bound_s}))
    play = Play(order, [Device(rows, 1, MODELS)], dict.fromkeys(MODELS, 0.0))
    until_s = 2 * bound_s
    for start in play.run(loaded(drawn, tier, rate, others_each=int(until_s * rows * 1.2), until_s=until_s)):
        if start is not None and start.job.tier == tier:
            assert start.at <= start.job.queued_at + bound_s
    assert order.late.get(tier, 0) == 0
    assert order.lane_used  # the others waited too long all the while


def somebody_is_served_whenever_somebody_can_be(seed: int) -> None:
    drawn = random.Random(seed)
    play = Play(
        Ordering(Shares(WEIGHTS, dict.fromkeys(WEIGHTS, 5.0))), devices_of(drawn, MODELS, picky=True), loads_of(drawn)
    )
    started = 0
    jobs = jobs_of(drawn, list(WEIGHTS), each=6, spread_s=2.0)
    for start in play.run(jobs):
        started += start is not None
        if start is None:
            assert play.could_start() == []
    assert started + len(play.order) == len(jobs)
    assert play.order.waiting_apart == len(play.order)  # those that are left can be run by nobody


def a_tenants_own_jobs_go_by_priority_then_arrival(seed: int) -> None:
    drawn = random.Random(seed)
    play = Play(Ordering(PATIENT), devices_of(drawn, MODELS[:1]), loads_of(drawn))
    jobs = [
        made(number, "pro", drawn.choice("ab"), "m@1", drawn.uniform(0.0, 3.0), 60.0, priority=drawn.randint(-2, 2))
        for number in range(60)
    ]
    for start in play.run(jobs):
        if start is not None:
            own = [job for job in (*play.waiting.values(), start.job) if job.tenant_id == start.job.tenant_id]
            assert min(own, key=lambda job: (-job.priority, job.queued_at)) is start.job


Check = Callable[[int], None]
TOLD: tuple[Check, ...] = (
    backlogged_tenants_are_close,
    whoever_comes_back_is_close,
    measured_service_is_close,
    backlogged_tiers_are_close_and_the_lane_is_narrow,
    somebody_is_served_whenever_somebody_can_be,
    a_tenants_own_jobs_go_by_priority_then_arrival,
    a_tier_below_its_share_waits_no_longer_than_its_bound,
)


@pytest.mark.parametrize("check", TOLD, ids=lambda check: check.__name__)
def test_it_holds(check: Check) -> None:
    long = check is a_tier_below_its_share_waits_no_longer_than_its_bound
    tried(check, settings(max_examples=12 if long else 40, deadline=None))


def test_a_tier_above_its_share_is_told_of_and_takes_what_the_lane_gives_beside_it() -> None:
    drawn = random.Random(1)
    order = Ordering(Shares(WEIGHTS, {"enterprise": 1e9, "pro": 1e9, "free": 5.0}))
    play = Play(order, [Device(2, 1, MODELS)], dict.fromkeys(MODELS, 0.0))
    overdue: list[int] = []
    starts: list[Start] = []
    for start in play.run(loaded(drawn, "free", rate=2000.0, others_each=300, until_s=100.0)):
        if start is not None and {"enterprise", "pro"} <= {tier for tier, _ in start.backlogged}:
            starts.append(start)
            overdue.append(order.overdue("free", start.at))
    assert max(overdue) > 10
    assert order.late["free"] > 10
    late = starts[50:]  # by then there is always one that may use the lane
    assert len(late) / (EVERY + 1) - 1 <= sum(start.by_lane for start in late) <= len(late) / EVERY + 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9), st.booleans()), max_size=200))
def test_deadlines_come_up_in_time_and_once(steps: list[tuple[int, int, bool]]) -> None:
    deadlines, known, due = Deadlines(), set[JobId](), dict[JobId, set[float]]()
    now = 0.0
    for at, number, ends in steps:
        job_id = JobId(f"job_{number}")
        if ends:
            known.discard(job_id)
        else:
            known.add(job_id)
            due.setdefault(job_id, set()).add(now + at)
            deadlines.add(now + at, job_id, known)
        assert len(deadlines) <= 2 * len(known) + 64
        now += at / 8
        expected = {job_id for job_id in known if any(moment <= now for moment in due.get(job_id, ()))}
        assert expected <= set(deadlines.take_due(now))
        for moments in due.values():
            moments.difference_update([moment for moment in moments if moment <= now])
        coming = [moment for job_id in known for moment in due.get(job_id, ())]
        assert (deadlines.next() or 1e9) <= min(coming, default=1e9)


def tried(check: Check, how: settings) -> None:
    @how
    @given(SEEDS)
    def run(seed: int) -> None:
        check(seed)

    run()


def caught(check: Check) -> None:
    """See a promise broken by some seed."""
    with pytest.raises(AssertionError):
        tried(check, settings(max_examples=300, deadline=None, phases=[Phase.generate], database=None))


def test_locality_without_end_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(tenants: Any, tops: Any, costs: Any, head: tuple[float, float]) -> Any:
        return resident(tenants, tops, costs, (head[0], 1e12))

    monkeypatch.setattr(tier_module, "resident", endless)
    caught(backlogged_tenants_are_close)


def test_tenants_that_save_up_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "enter", lambda account, clock: None)
    caught(whoever_comes_back_is_close)


def test_charges_without_weights_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def charge(account: Account, units: float) -> None:
        account.time += units

    monkeypatch.setattr(Account, "charge", charge)
    caught(backlogged_tenants_are_close)


def test_estimates_that_are_never_corrected_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Account, "correct", lambda account, shift, lifts: None)
    caught(measured_service_is_close)


def test_strict_tiers_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiers, "_turn", lambda tiers, name: (0.0, list(WEIGHTS).index(name), name))
    caught(backlogged_tiers_are_close_and_the_lane_is_narrow)


def test_a_lane_without_a_cap_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lane, "open", property(lambda lane: True))
    caught(backlogged_tiers_are_close_and_the_lane_is_narrow)
    caught(a_tier_below_its_share_waits_no_longer_than_its_bound)


def test_a_tier_that_holds_up_the_others_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def picks(tiers: Tiers, offer: Any, _now: float) -> Any:
        name = min((name for name, tier in tiers.by_name.items() if tier.lined), key=tiers._turn, default=None)
        pick = tiers.by_name[name].pick(offer) if name else None
        return [(name, pick)] if pick else []

    monkeypatch.setattr(Tiers, "_picks", picks)
    caught(somebody_is_served_whenever_somebody_can_be)


def test_priorities_that_are_not_heeded_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Queue, "first", Queue.oldest)
    assert rank(Queue.oldest(_two()))[0] == 1
    caught(a_tenants_own_jobs_go_by_priority_then_arrival)


def _two() -> Queue:
    queue = Queue(object())
    for number, priority in enumerate((-1, 1)):
        queue.add((float(number), number, made(number, "pro", "a", "m@1", 0.0, 1.0, priority=priority)))
    return queue
