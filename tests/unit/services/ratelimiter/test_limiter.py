"""Reserve, confirm, settle, release: what is charged, when, and only once."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from libs.errors import InvalidRequest
from libs.ids import JobId, KeyId, TenantId
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.usage.book import Settlement, UsageRow

TENANT = TenantId("t")


def hold(name: str = "job_1", units: float = 100.0, tier: str = "pro") -> Hold:
    return Hold(JobId(name), TENANT, tier, units)


def settlement(of: Hold, charged: float, outcome: str = "succeeded") -> Settlement:
    return Settlement(of, KeyId("key_1"), "tiny@1", outcome, charged, charged, gpu_ms=charged, images=1)


def wanted(units: float = 0.0, tenant: TenantId = TENANT) -> Hold:
    return Hold(JobId(""), tenant, "pro", units, images=0)


async def left(bench) -> float:
    return (await bench.limiter.peek(wanted())).available_units


async def requests_left(bench) -> str:
    return dict((await bench.limiter.peek(wanted())).headers)["x-ratelimit-remaining-requests"]


async def test_of_a_hundred_at_once_exactly_ten_fit(bench):
    decisions = await asyncio.gather(*(bench.limiter.reserve(hold(f"job_{n}")) for n in range(100)))
    denials = [decision.denial for decision in decisions if decision.denial]
    assert len(denials) == 90
    assert {denial.dimension for denial in denials} == {Dimension.COST}
    assert await requests_left(bench) == "20"  # a denial took no request either


async def test_settling_at_less_lets_others_in(bench):
    for n in range(10):
        await bench.limiter.reserve(hold(f"job_{n}"))
    for n in range(10):
        assert await bench.limiter.settle(settlement(hold(f"job_{n}"), charged=10))
    decisions = [await bench.limiter.reserve(hold(f"late_{n}")) for n in range(10)]
    assert [decision.denial is None for decision in decisions] == [True] * 9 + [False]


async def test_settling_at_more_makes_debt_and_the_next_waits(bench):
    await bench.limiter.reserve(hold(units=1000))
    await bench.limiter.settle(settlement(hold(units=1000), charged=1500))
    denial = (await bench.limiter.reserve(hold("job_2", units=100))).denial
    assert denial is not None
    assert denial.retry_after_s == pytest.approx(36.0)


async def test_every_call_may_come_twice(bench):
    first, second = [await bench.limiter.reserve(hold()) for _ in range(2)]
    assert (first.denial, first.available_units) == (second.denial, second.available_units) == (None, 900.0)
    await bench.limiter.confirm(hold())
    await bench.limiter.confirm(hold())
    applied = [await bench.limiter.settle(settlement(hold(), charged=40)) for _ in range(2)]
    assert applied == [True, False]
    await bench.limiter.confirm(hold())  # late, after the settlement
    assert await left(bench) == 960
    assert await requests_left(bench) == "29"


async def test_release_gives_all_back_once_and_only_what_is_tentative(bench):
    await bench.limiter.reserve(hold())
    assert [await bench.limiter.release(TENANT, JobId("job_1")) for _ in range(2)] == [True, False]
    assert (await left(bench), await requests_left(bench)) == (1000, "30")
    await bench.limiter.reserve(hold("job_2"))
    await bench.limiter.confirm(hold("job_2"))
    assert not await bench.limiter.release(TENANT, JobId("job_2"))
    assert not await bench.limiter.release(TENANT, JobId("never"))
    assert await left(bench) == 900


async def test_what_nobody_confirms_comes_back_after_its_time(bench):
    await bench.limiter.reserve(hold("lost"))
    await bench.limiter.reserve(hold("stands"))
    await bench.limiter.confirm(hold("stands"))
    await bench.clock.advance(5)  # little enough that both still stand in the bucket
    assert await bench.limiter.expire(ttl_s=10) == 0
    before = await left(bench)
    assert await bench.limiter.expire(ttl_s=4) == 1
    assert await left(bench) == min(1000, before + 100)


async def test_a_confirmation_that_came_too_late_is_charged_again(bench):
    await bench.limiter.reserve(hold())
    await bench.clock.advance(60)
    await bench.limiter.expire(ttl_s=59)
    assert await left(bench) == 1000
    await bench.limiter.confirm(hold())
    assert await left(bench) == 900


async def test_after_a_restart_balances_come_from_usage_of_the_window(bench):
    await bench.limiter.reserve(hold("old"))
    await bench.limiter.settle(settlement(hold("old"), charged=900))
    await bench.clock.advance(121)  # beyond the window of the longest burst
    for n in range(10):
        await bench.limiter.reserve(hold(f"new_{n}"))
        await bench.limiter.settle(settlement(hold(f"new_{n}"), charged=60))
    await bench.clock.advance(6)  # a tenth of a minute drains 100
    before = (await left(bench), await requests_left(bench))
    bench.restart()
    assert await left(bench) == 1000
    assert await bench.rebuild() == 10
    assert (await left(bench), await requests_left(bench)) == before
    assert before == (pytest.approx(500), "26")


async def test_confirm_and_settle_of_a_forgotten_reservation_use_what_they_carry(bench):
    await bench.limiter.reserve(hold())
    bench.restart()
    await bench.limiter.confirm(hold())
    assert await left(bench) == 900
    bench.restart()
    assert await bench.limiter.settle(settlement(hold(), charged=70))
    assert (await left(bench), await requests_left(bench)) == (930, "30")
    bench.restart()
    await bench.limiter.confirm(hold())  # its usage row says that it is over
    assert not await bench.limiter.settle(settlement(hold(), charged=70))
    assert await left(bench) == 1000


async def test_a_settlement_that_broke_off_behind_its_row_is_finished_by_its_repetition(bench):
    await bench.limiter.reserve(hold(units=1000))
    known = settlement(hold(units=1000), charged=200)
    await bench.usage.record(UsageRow(known, bench.clock.now(), None))
    assert await bench.limiter.settle(known)
    assert await left(bench) == 800
    assert not await bench.limiter.settle(known)
    assert await left(bench) == 800


async def test_peek_takes_nothing_and_says_what_reserve_says(bench):
    await bench.limiter.reserve(hold(units=950))
    peeked = await bench.limiter.peek(wanted(100))
    again = await bench.limiter.peek(wanted(100))
    reserved = await bench.limiter.reserve(hold("job_2", units=100))
    assert peeked == again == reserved
    assert reserved.denial is not None


async def test_tenants_do_not_share(bench):
    await bench.limiter.reserve(hold(units=1000))
    assert (await bench.limiter.peek(wanted(tenant=TenantId("other")))).available_units == 1000


async def test_an_unknown_tier_is_the_callers_mistake(bench):
    with pytest.raises(InvalidRequest) as caught:
        await bench.limiter.reserve(hold(tier="gold"))
    assert [violation.field for violation in caught.value.violations] == ["tier"]


async def test_decisions_and_charges_are_counted(bench):
    await bench.limiter.reserve(hold(units=400))
    await bench.limiter.reserve(hold("job_2", units=700))
    await bench.limiter.settle(settlement(hold(units=400), charged=300, outcome="cancelled"))
    await bench.limiter.settle(settlement(hold(units=400), charged=300, outcome="cancelled"))
    assert bench.counted("darkroom_limit_decisions") == {
        (("decision", "admitted"), ("dimension", "none"), ("tier", "pro")): 1,
        (("decision", "denied"), ("dimension", "cost"), ("tier", "pro")): 1,
    }
    assert bench.counted("darkroom_units_charged") == {
        (("model", "tiny@1"), ("outcome", "cancelled"), ("tier", "pro")): 300,
    }


async def test_renewals_go_to_the_ledger_in_parts_and_not_caller_by_caller(bench, monkeypatch: pytest.MonkeyPatch):
    parts, ledger = list[int](), bench.limiter._ledger
    transact_all = ledger.transact_all

    async def counted(changes):
        parts.append(sum(len(touched.reservation_ids) for touched, _ in changes))
        return await transact_all(changes)

    monkeypatch.setattr(ledger, "transact_all", counted)
    one_each = [replace(hold(f"job_{n}"), tenant_id=TenantId(f"tenant_{n}")) for n in range(300)]
    a_hundred_of_one = [hold(f"other_{n}") for n in range(100)]
    await bench.limiter.reserve(one_each[7])
    unknown = await bench.limiter.renew([*one_each, *a_hundred_of_one])
    assert sorted(unknown) == sorted(h.reservation_id for h in [*one_each, *a_hundred_of_one] if h is not one_each[7])
    assert (sum(parts), max(parts), len(parts)) == (400, 100, 6)
