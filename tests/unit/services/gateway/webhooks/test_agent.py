"""Claiming and reporting, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from opentelemetry.metrics import NoOpMeterProvider

from libs.clients.deliveries import Claimed, Delivery, Outcome, Result
from libs.errors import Unavailable
from libs.testing.clock import ManualClock
from services.gateway.webhooks.agent import BATCH, MOST_A_HOST, MOST_UNDERWAY, WebhookAgent, WebhookMeasures
from tests.unit.services.gateway.webhooks.deliveries import a_delivery

DONE = Result(Outcome.DELIVERED, 200)


class Scheduler:
    """Gives what is due once and keeps what it is told; away while `away`."""

    def __init__(self, *due: Delivery) -> None:
        self.due = list(due)
        self.reports: list[tuple[Delivery, Result]] = []
        self.claims: list[tuple[int, list[str]]] = []
        self.away = False

    async def claim(self, limit: int, lease_s: float, busy_hosts: Collection[str]) -> Claimed:
        self._check()
        self.claims.append((limit, sorted(busy_hosts)))
        given = [delivery for delivery in self.due if delivery.host not in busy_hosts][:limit]
        self.due = [delivery for delivery in self.due if delivery not in given]
        return Claimed(tuple(given), len(given))

    async def report(self, delivery: Delivery, result: Result) -> None:
        self._check()
        self.reports.append((delivery, result))

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the scheduler is away")


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


@asynccontextmanager
async def running(scheduler: Scheduler, sender: Sender) -> AsyncIterator[ManualClock]:
    clock = ManualClock()
    agent = WebhookAgent(scheduler, sender, WebhookMeasures(NoOpMeterProvider().get_meter("x")), clock)
    task = asyncio.create_task(agent.run())
    await clock.settle()
    yield clock
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_due_is_sent_and_reported() -> None:
    scheduler, sender = Scheduler(a_delivery()), Sender()
    async with running(scheduler, sender) as clock:
        assert scheduler.reports == [(a_delivery(), DONE)]
        scheduler.due.append(a_delivery(2))
        await clock.advance(1.0)
    assert [delivery.job_id[-1] for delivery, _ in scheduler.reports] == ["1", "2"]


async def test_the_scheduler_may_be_away_at_every_moment() -> None:
    scheduler, sender = Scheduler(a_delivery()), Sender()
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
    scheduler, sender = Scheduler(a_delivery()), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        scheduler.away = True
        sender.release.set()
        await clock.advance(80.0)
        scheduler.away = False
        await clock.advance(10.0)
    assert scheduler.reports == []


async def test_one_that_cannot_be_sent_does_not_end_the_others() -> None:
    scheduler, sender = Scheduler(a_delivery(1)), Sender()
    sender.result = ValueError("a fault of ours")
    async with running(scheduler, sender) as clock:
        sender.result = DONE
        scheduler.due.append(a_delivery(2))
        await clock.advance(1.0)
    assert [result for _, result in scheduler.reports] == [Result(Outcome.FAILED, reason="internal"), DONE]


async def test_a_slow_host_takes_few_places_and_others_go_on() -> None:
    slow = [a_delivery(number, host="slow.example") for number in range(MOST_A_HOST + 4)]
    scheduler, sender = Scheduler(*slow), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        assert len(sender.sent) == MOST_A_HOST
        scheduler.due += [a_delivery(90, host="slow.example"), a_delivery(91, host="quick.example")]
        await clock.advance(1.0)
        assert scheduler.claims[-1] == (BATCH, ["slow.example"])
        assert [delivery.host for delivery in sender.sent[MOST_A_HOST:]] == ["quick.example"]
        sender.release.set()
        await clock.advance(2.0)
    assert len(scheduler.reports) == MOST_A_HOST + 6


async def test_what_waited_too_long_for_its_host_is_left_to_the_next_claim() -> None:
    slow = [a_delivery(number, host="slow.example") for number in range(MOST_A_HOST + 1)]
    scheduler, sender = Scheduler(*slow), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        await clock.advance(50.0)
        sender.release.set()
        await clock.settle()
    assert len(sender.sent) == len(scheduler.reports) == MOST_A_HOST


async def test_no_more_is_claimed_than_can_be_underway() -> None:
    due = [a_delivery(number, host=f"h{number}.example") for number in range(MOST_UNDERWAY + 20)]
    scheduler, sender = Scheduler(*due), Sender()
    sender.release.clear()
    async with running(scheduler, sender) as clock:
        await clock.advance(10.0)
        assert len(sender.sent) == MOST_UNDERWAY
        assert sum(limit for limit, _ in scheduler.claims) == MOST_UNDERWAY
        sender.release.set()
        await clock.advance(2.0)
    assert len(scheduler.reports) == MOST_UNDERWAY + 20
