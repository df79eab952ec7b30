"""What accounts are answered about where they are told of things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider

from darkroom.v1 import webhook_service_pb2 as pb
from libs import scopes
from libs.clients.deliveries import Delivery, Outcome, Result
from libs.clients.endpoints import Endpoint, EventFate
from libs.clients.limiter import Denial
from libs.errors import InvalidRequest, LimitExceeded, NotFound, Unavailable
from libs.ids import EndpointId, TenantId
from libs.testing.clock import ManualClock
from services.gateway.callers.request_count import RequestCount
from services.gateway.webhooks.destinations import PUBLIC_ONLY
from services.gateway.webhooks.measures import WebhookMeasures
from services.gateway.webhooks.places import Places
from services.gateway.webhooks.servicer import WebhookServicer
from services.gateway.webhooks.trials import Trials
from tests.unit.services.gateway.fakes import FakeLimiter
from tests.unit.services.gateway.webhooks.deliveries import an_event

URL = "https://hook.example/events"
SPENT = Denial("requests", 3.0, 0.0, 60.0)


class FakeEndpoints:
    """Keeps what is made; all of it belongs to acme."""

    def __init__(self) -> None:
        self.kept: dict[str, Endpoint] = {}

    async def create(self, tenant_id: TenantId, url: str, events: Sequence[str]) -> Endpoint:
        made = Endpoint(EndpointId(f"wh_{len(self.kept) + 1}"), url, tuple(events), 5.0)
        self.kept[made.id] = made
        return made

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        return list(self.kept.values())

    async def get(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint:
        if tenant_id != "acme" or endpoint_id not in self.kept:
            raise NotFound("none", reason="WEBHOOK_NOT_FOUND")
        return self.kept[endpoint_id]

    async def delete(self, tenant_id: TenantId, endpoint_id: EndpointId) -> None:
        del self.kept[(await self.get(tenant_id, endpoint_id)).id]

    async def deliveries(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Sequence[EventFate]:
        await self.get(tenant_id, endpoint_id)
        return [EventFate("evt_1", "usage_spike", 5.0, "WAITING", 2, 500, "refused", 9.5)]


class FakeSender:
    """Answers every try alike and notes it."""

    def __init__(self) -> None:
        self.result = Result(Outcome.DELIVERED, 204)
        self.sent: list[Delivery] = []

    async def send(self, delivery: Delivery) -> Result:
        self.sent.append(delivery)
        return self.result


class Bench:
    """A servicer with all that it asks."""

    def __init__(self) -> None:
        self.endpoints, self.sender, self.limiter, self.places = (
            FakeEndpoints(),
            FakeSender(),
            FakeLimiter(),
            Places(9, 9, 2),
        )
        measures = WebhookMeasures(NoOpMeterProvider().get_meter("x")).of("tests")
        trials = Trials(self.sender, self.places, measures, ManualClock())
        requests = RequestCount(self.limiter)
        self.servicer: Any = WebhookServicer(
            self.endpoints, PUBLIC_ONLY, lambda at: f"secret of {at}", trials, requests
        )

    async def create(self, url: str = URL, *events: str) -> pb.NewWebhookEndpoint:
        made: pb.NewWebhookEndpoint = await self.servicer.CreateWebhookEndpoint(
            pb.CreateWebhookEndpointRequest(url=url, events=events), Call()
        )
        return made

    async def test(self, endpoint_id: str = "wh_1") -> pb.TestWebhookEndpointResponse:
        answer: pb.TestWebhookEndpointResponse = await self.servicer.TestWebhookEndpoint(
            pb.TestWebhookEndpointRequest(id=endpoint_id), Call()
        )
        return answer


class Call:
    """A call as the door hands it on."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        told = {"tenant": "acme", "tier": "pro", "key-id": "key_1", "scopes": scopes.text(scopes.EVERY)}
        return [(f"x-darkroom-{name}", value) for name, value in told.items()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_a_secret_is_shown_when_it_is_made_and_never_again(bench: Bench):
    made = await bench.create(URL, "usage_spike")
    assert (made.endpoint.id, made.endpoint.url, list(made.endpoint.events)) == ("wh_1", URL, ["usage_spike"])
    assert made.secret == "secret of wh_1"
    listed = await bench.servicer.ListWebhookEndpoints(pb.ListWebhookEndpointsRequest(), Call())
    assert [each.id for each in listed.endpoints] == ["wh_1"]
    assert "secret" not in str(listed)


@pytest.mark.parametrize(
    ("url", "events", "fields"),
    [
        ("http://hook.example/", [], ["url"]),
        ("https://127.0.0.1/", [], ["url"]),
        ("https://169.254.169.254/", ["usage_spike", "completed"], ["url", "events"]),
        (URL, ["usage_spike"] * 5, ["events"]),
    ],
)
async def test_all_that_is_wrong_is_told_at_once_and_nothing_is_made(
    bench: Bench, url: str, events: list[str], fields: list[str]
):
    with pytest.raises(InvalidRequest, match="No endpoint was made") as caught:
        await bench.create(url, *events)
    assert [problem.field for problem in caught.value.violations] == fields
    assert (bench.endpoints.kept, bench.limiter.reserved) == ({}, [])


async def test_making_and_trying_are_a_request_each_and_looking_and_removing_are_none(bench: Bench):
    await bench.create()
    await bench.test()
    assert len({each.reservation_id for each in bench.limiter.reserved}) == 2
    bench.limiter.denial = SPENT
    for call in (bench.create(), bench.test()):
        with pytest.raises(LimitExceeded, match="requests of this minute"):
            await call
    assert len(bench.sender.sent) == 1
    await bench.servicer.ListWebhookDeliveries(pb.ListWebhookDeliveriesRequest(id="wh_1"), Call())
    await bench.servicer.DeleteWebhookEndpoint(pb.DeleteWebhookEndpointRequest(id="wh_1"), Call())
    assert bench.endpoints.kept == {}


async def test_a_test_tells_what_was_answered(bench: Bench):
    await bench.create()
    answer = await bench.test()
    assert (answer.delivered, answer.status, answer.reason) == (True, 204, "")
    [sent] = bench.sender.sent
    assert (sent.url, sent.host, sent.tenant_id) == (URL, "hook.example", "acme")
    bench.sender.result = Result(Outcome.FAILED, 301, "redirected")
    answer = await bench.test()
    assert (answer.delivered, answer.status, answer.reason) == (False, 301, "redirected")
    assert len({each.id for each in bench.sender.sent}) == 2
    with pytest.raises(NotFound):
        await bench.test("wh_9")


async def test_a_test_takes_a_place_and_waits_for_none(bench: Bench):
    await bench.create()
    assert bench.places.take(an_event(1))
    await bench.test()
    assert bench.places.take(an_event(99))  # the place of the test was given back
    with pytest.raises(Unavailable, match="Try again"):
        await bench.test()
    bench.places.leave(an_event(99))
    bench.sender.result = Result(Outcome.RETURNED, reason="no_place")
    with pytest.raises(Unavailable, match="Try again"):
        await bench.test()


async def test_the_log_says_what_became_of_each_event(bench: Bench):
    await bench.create()
    answer = await bench.servicer.ListWebhookDeliveries(pb.ListWebhookDeliveriesRequest(id="wh_1"), Call())
    [sent] = answer.deliveries
    assert (sent.event_id, sent.event, sent.tries, sent.status, sent.reason) == (
        "evt_1",
        "usage_spike",
        2,
        500,
        "refused",
    )
    assert (sent.fate, sent.next_try_time.ToMilliseconds()) == (pb.WebhookDelivery.WAITING, 9500)
