"""What sends webhooks, put together: jobs, events and tests of endpoints leave room for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from darkroom.v1 import webhook_service_pb2 as pb
from libs.clients.deliveries import Busy, Claimed, Delivery, Outcome, Result
from libs.clients.event_deliveries import EventDelivery
from libs.clients.job_deliveries import JobDelivery
from libs.ids import TenantId
from libs.testing.clock import ManualClock
from services.gateway.callers.request_count import RequestCount
from services.gateway.webhooks import delivering
from services.gateway.webhooks.delivering import Delivering
from services.gateway.webhooks.destinations import PUBLIC_ONLY
from services.gateway.webhooks.places import MOST_UNDERWAY
from tests.unit.services.gateway.fakes import FakeLimiter
from tests.unit.services.gateway.webhooks.deliveries import a_delivery, an_event
from tests.unit.services.gateway.webhooks.test_servicer import Call, FakeEndpoints


class Endless:
    """Always has more for everybody who is not busy, but no more than `most` in all; `made` makes them by number."""

    def __init__(self, made: Callable[[int], Delivery], most: int = 10_000) -> None:
        self._made, self._most, self._numbers = made, most, 0

    async def claim(self, limit: int, _lease_s: float, busy: Busy) -> Claimed[Any]:
        given: list[Delivery] = []
        for _ in range(limit):
            one = self._made(self._numbers)
            if self._numbers >= self._most or one.tenant_id in busy.tenants:
                break
            if (one.tenant_id, one.host) not in busy.receivers:
                given.append(one)
            self._numbers += 1
        return Claimed(tuple(given), len(given))

    async def report(self, _delivery: Delivery, _result: Result) -> bool:
        return False


class Sender:
    """Never ends a try of a job or an event; a test of an endpoint is delivered at once."""

    def __init__(self, *_given: object) -> None:
        self.jobs: list[JobDelivery] = []
        self.events: list[EventDelivery] = []

    async def send(self, delivery: Delivery) -> Result:
        if isinstance(delivery, JobDelivery):
            self.jobs.append(delivery)
        elif isinstance(delivery, EventDelivery) and delivery.kind != "test":
            self.events.append(delivery)
        else:
            return Result(Outcome.DELIVERED, 200)
        await asyncio.Event().wait()
        raise AssertionError


class Bench:
    """Everything that sends, over sources and a sender of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.sender = ManualClock(), Sender()
        monkeypatch.setattr(delivering, "Sender", lambda *_: self.sender)
        for name in ("JobDeliveryClient", "EventDeliveryClient"):
            monkeypatch.setattr(delivering, name, lambda source: source)
        self._delivering = Delivering(PUBLIC_ONLY, "s" * 32, self.clock)

    @asynccontextmanager
    async def running(self, jobs: Endless, events: Endless) -> AsyncIterator[None]:
        """Deliver inside the block, the jobs first."""
        async with self._delivering.running(jobs, events):  # type: ignore[arg-type]
            await self.clock.advance(5.0)
            yield

    async def test_of_an_endpoint(self) -> bool:
        endpoints: Any = FakeEndpoints()
        servicer: Any = self._delivering.servicer(endpoints, RequestCount(FakeLimiter()))
        made = await endpoints.create(TenantId("acme"), "https://hook.example/events", ())
        answer = await servicer.TestWebhookEndpoint(pb.TestWebhookEndpointRequest(id=made.id), Call())
        return bool(answer.delivered)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def _of_tenants(number: int) -> JobDelivery:
    return a_delivery(number, tenant_id=TenantId(f"t{number % 16}"), host=f"h{number % 7}.example")


def _of_acme(number: int) -> JobDelivery:
    return a_delivery(number)


@pytest.mark.parametrize(("made", "held"), [(_of_tenants, MOST_UNDERWAY), (_of_acme, 8)])
async def test_webhooks_of_jobs_without_end_leave_room_for_events_and_tests(
    bench: Bench, made: Callable[[int], Delivery], held: int
) -> None:
    async with bench.running(Endless(made), Endless(an_event, most=1)):
        assert len(bench.sender.jobs) == held
        assert [event.id for event in bench.sender.events] == ["evt_0"]
        assert await bench.test_of_an_endpoint()


@pytest.mark.parametrize(
    ("made", "held"),
    [
        (an_event, 2),
        (lambda number: an_event(number, host=f"h{number}.example"), 8),
        (lambda number: an_event(number, tenant_id=TenantId(f"t{number}")), 32),
    ],
)
async def test_events_without_end_hold_a_few_places_of_their_own(
    bench: Bench, made: Callable[[int], Delivery], held: int
) -> None:
    async with bench.running(Endless(_of_tenants), Endless(made)):
        assert len(bench.sender.events) == held
        assert len(bench.sender.jobs) == MOST_UNDERWAY
