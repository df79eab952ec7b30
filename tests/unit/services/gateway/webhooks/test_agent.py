"""Claiming and reporting, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Generic

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from libs.clients.deliveries import Busy, Claimed, D, Delivery, Outcome, Result
from libs.errors import Unavailable
from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.gateway.webhooks.agent import WebhookAgent
from services.gateway.webhooks.measures import WebhookMeasures
from services.gateway.webhooks.places import MOST_A_RECEIVER, MOST_A_TENANT, MOST_UNDERWAY, Places
from tests.unit.services.gateway.webhooks.deliveries import a_delivery

DONE = Result(Outcome.DELIVERED, 200)


class Source(Generic[D]):
    """Gives what is due once and keeps what it is told; away while `away`."""

    def __init__(self, *due: D) -> None:
        self.due = list(due)
        self.reports: list[tuple[D, Result]] = []
        self.unreadable: list[D] = []
        self.claims: list[tuple[int, Busy]] = []
        self.away = False
        self.broken = False
        self.dead = False

    async def claim(self, limit: int, lease_s: float, busy: Busy) -> Claimed[D]:
        self._check()
        self.claims.append((limit, busy))
        free = [each for each in self.due if (each.tenant_id, each.host) not in busy.receivers]
        given = [each for each in free if each.tenant_id not in busy.tenants][:limit]
        self.due = [delivery for delivery in self.due if delivery not in given]
        unreadable, self.unreadable = self.unreadable, []
        return Claimed(tuple(given), len(given), tuple(unreadable))

    async def report(self, delivery: D, result: Result) -> bool:
        self._check()
        self.reports.append((delivery, result))
        return self.dead

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the scheduler is away")
        if self.broken:
            raise ValueError("what nobody thought of")


class Sender:
    """Holds every try until `release` is set."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.sent: list[Delivery] = []
        self.result: Result | Exception = DONE

    async def send(self, delivery: Delivery) -> Result:
        self.sent.append(delivery)
        await self.release.wait()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


class Running(ManualClock):
    """The clock of an agent that runs."""

    agent: WebhookAgent[Any]


@asynccontextmanager
async def running(scheduler: Source[Any], sender: Sender, places: Places | None = None) -> AsyncIterator[Running]:
    clock = Running()
    measures = WebhookMeasures(NoOpMeterProvider().get_meter("x")).of("jobs")
    clock.agent = WebhookAgent(scheduler, sender, places or Places(), measures, clock)
    task = asyncio.create_task(clock.agent.run())
    await clock.settle()
    yield clock
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_due_is_sent_and_reported() -> None:
    scheduler, sender = Source(a_delivery()), Sender()
    async with running(scheduler, sender) as clock:
        assert scheduler.reports == [(a_delivery(), DONE)]
        scheduler.due.append(a_delivery(2))
        await clock.advance(1.0)
    assert [delivery.job_id[-1] for delivery, _ in scheduler.reports] == ["1", "2"]


async def test_the_scheduler_may_be_away_at_every_moment() -> None:
    scheduler, sender = Source(a_delivery()), Sender()
    scheduler.away = True
    async with running(scheduler, sender) as clock:
        await clock.advance(20.0)
        scheduler.away = False
        sender.release.clear()
        await clock.advance(8.0)
        assert len(sender.sent) == 1
        scheduler.away = True
        sender.release.set()
        await clock.advance(20.0)
        assert scheduler.reports == []
        scheduler.away = False
        await clock.advance(8.0)
    assert scheduler.reports == [(a_delivery(), DONE)]
    assert len(sender.sent) == 1


async def test_a_report_that_nobody_takes_is_given_up_when_the_lease_is_over() -> None:
    scheduler, sender = Source(a_delivery()), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        scheduler.away = True
        sender.release.set()
        await clock.advance(80.0)
        scheduler.away = False
        await clock.advance(10.0)
    assert scheduler.reports == []


async def test_one_that_cannot_be_sent_does_not_end_the_others() -> None:
    scheduler, sender = Source(a_delivery(1)), Sender()
    sender.result = ValueError("a fault of ours")
    async with running(scheduler, sender) as clock:
        sender.result = DONE
        scheduler.due.append(a_delivery(2))
        await clock.advance(1.0)
    assert [result for _, result in scheduler.reports] == [Result(Outcome.FAILED, reason="internal"), DONE]


async def test_a_slow_receiver_takes_few_places_others_go_on_and_the_rest_is_given_back() -> None:
    slow = [a_delivery(number, host="slow.example") for number in range(MOST_A_RECEIVER + 4)]
    scheduler, sender = Source(*slow), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        assert len(sender.sent) == MOST_A_RECEIVER
        assert [(each, result.outcome) for each, result in scheduler.reports] == [
            (delivery, Outcome.RETURNED) for delivery in slow[MOST_A_RECEIVER:]
        ]
        theirs = a_delivery(90, host="slow.example", tenant_id=TenantId("other"))
        scheduler.due += [a_delivery(91, host="slow.example"), a_delivery(92, host="quick.example"), theirs]
        await clock.advance(1.0)
        assert scheduler.claims[-1][1] == Busy([(TenantId("acme"), "slow.example")], [])
        assert [each.job_id[-2:] for each in sender.sent[MOST_A_RECEIVER:]] == ["92", "90"]
        scheduler.reports.clear()
        sender.release.set()
        await clock.settle()  # a place that is free again is reason enough to look
    assert len(scheduler.reports) == MOST_A_RECEIVER + 3


async def test_a_tenant_with_many_receivers_leaves_places_to_others() -> None:
    due = [a_delivery(number, host=f"h{number}.example") for number in range(MOST_A_TENANT + 20)]
    scheduler, sender = Source(*due), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        assert len(sender.sent) == MOST_A_TENANT
        scheduler.due.append(a_delivery(99, tenant_id=TenantId("other")))
        await clock.advance(1.0)
        assert sender.sent[-1].tenant_id == "other"


async def test_no_more_is_claimed_than_can_be_underway() -> None:
    due = [a_delivery(number, tenant_id=TenantId(f"t{number}")) for number in range(MOST_UNDERWAY + 20)]
    scheduler, sender = Source(*due), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        await clock.advance(10.0)
        assert len(sender.sent) == MOST_UNDERWAY
        assert sum(limit for limit, _ in scheduler.claims) == MOST_UNDERWAY
        sender.release.set()
        await clock.advance(2.0)
    assert len(scheduler.reports) == MOST_UNDERWAY + 20


async def test_what_nobody_thought_of_ends_neither_claims_nor_reports() -> None:
    scheduler, sender = Source(a_delivery()), Sender()
    scheduler.broken = True
    async with running(scheduler, sender) as clock:
        scheduler.broken = False
        sender.release.clear()
        await clock.advance(8.0)
        scheduler.broken = True
        sender.release.set()
        await clock.settle()
        scheduler.broken = False
        await clock.advance(8.0)
    assert scheduler.reports == [(a_delivery(), DONE)]


async def test_what_cannot_be_read_is_reported_and_the_rest_is_sent() -> None:
    scheduler, sender = Source(a_delivery(1)), Sender()
    scheduler.unreadable = [a_delivery(2)]
    async with running(scheduler, sender):
        assert sender.sent == [a_delivery(1)]
    failed = Result(Outcome.FAILED, reason="unreadable")
    assert sorted(scheduler.reports, key=lambda told: told[0].job_id) == [
        (a_delivery(1), DONE),
        (a_delivery(2), failed),
    ]


async def test_the_last_failure_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, sender = Source(a_delivery(1)), Sender()
    scheduler.dead = True
    async with running(scheduler, sender):
        pass
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == ["webhook given up"]


async def test_who_stops_claims_no_more_and_finishes_what_is_underway() -> None:
    scheduler, sender = Source(a_delivery()), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        draining = asyncio.create_task(clock.agent.drain(60.0))
        await clock.settle()
        scheduler.due.append(a_delivery(2))
        await clock.advance(2.0)
        assert not draining.done()
        sender.release.set()
        await draining
    assert (scheduler.reports, len(scheduler.due)) == ([(a_delivery(), DONE)], 1)


async def test_what_takes_too_long_to_finish_is_given_back() -> None:
    scheduler, sender = Source(a_delivery()), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        await clock.agent.drain(0.0)
    assert scheduler.reports == [(a_delivery(), Result(Outcome.RETURNED, reason="stopped"))]
