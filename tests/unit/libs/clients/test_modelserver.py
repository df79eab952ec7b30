"""What a worker is told of a job, and what is none of its business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from libs.clients.modelserver import ModelServerClient, Order
from libs.generation.webhook import Webhook
from libs.ids import JobId
from tests.contract.job_store.samples import a_spec


class Call:
    """A stream that ends at once."""

    async def __aiter__(self) -> AsyncIterator[pb.ExecuteEvent]:
        return
        yield

    def cancel(self) -> None:
        pass


class Channel:
    """A channel to a worker that keeps its orders."""

    def __init__(self) -> None:
        self.orders: list[pb.ExecuteRequest] = []

    async def channel_ready(self) -> None:
        pass

    def unary_stream(self, _method: str, **_how: Any) -> Any:
        return self._execute

    def unary_unary(self, _method: str, **_how: Any) -> Any:
        return None

    def _execute(self, order: pb.ExecuteRequest, timeout: float) -> Call:
        self.orders.append(order)
        return Call()


async def test_an_order_says_nothing_of_who_is_told_and_how_it_is_labelled() -> None:
    channel = Channel()
    spec = a_spec(webhook=Webhook("https://hook.example/done?token=x", ("failed",)), labels={"customer": "zeta"})
    order = Order(JobId("job_1"), 1, 1, "shapes@1", spec)
    assert [event async for event in ModelServerClient(cast("Any", channel)).execute(order)] == []
    [sent] = channel.orders
    assert (sent.spec.HasField("webhook"), dict(sent.spec.labels), sent.spec.prompt) == (False, {}, spec.prompt)
