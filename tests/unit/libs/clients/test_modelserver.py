"""What a worker is told of a job, and what is none of its business; a worker whose channel is closed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from libs import errors
from libs.clients.modelserver import ModelServerClient, Order, WorkerLost, WorkerRefused
from libs.generation.webhook import Webhook
from libs.ids import JobId
from libs.rpc.channel import open_channel
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
    worker = Channel()
    spec = a_spec(webhook=Webhook("https://hook.example/done?token=x", ("failed",)), labels={"customer": "zeta"})
    order = Order(JobId("job_1"), 1, 1, "shapes@1", spec)
    assert [event async for event in ModelServerClient(cast("Any", worker)).execute(order)] == []
    [sent] = worker.orders
    assert (sent.spec.HasField("webhook"), dict(sent.spec.labels), sent.spec.prompt) == (False, {}, spec.prompt)


@pytest.fixture
async def client() -> AsyncIterator[ModelServerClient]:
    """Of a worker that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        host, port = mute.getsockname()
        client = ModelServerClient(open_channel(f"{host}:{port}", mesh_token="mesh"))
        yield client
        await client.close()


async def _begun(asking: Awaitable[object]) -> asyncio.Future[object]:
    asked = asyncio.ensure_future(asking)
    for _ in range(20):
        await asyncio.sleep(0)
    return asked


ASKED: list[Callable[[ModelServerClient], Awaitable[object]]] = [
    lambda client: client.residency(),
    lambda client: client.describe_models(),
    lambda client: client.warm("shapes@1", "vram"),
    lambda client: client.evict("shapes@1"),
    lambda client: client.cancel(JobId("job_1"), 1, 1),
    lambda client: client.park(JobId("job_1"), 1, 1),
]


@pytest.mark.parametrize("ask", ASKED)
async def test_a_channel_that_is_closed_under_a_call_is_a_worker_that_went(
    client: ModelServerClient, ask: Callable[[ModelServerClient], Awaitable[object]]
) -> None:
    asked = await _begun(ask(client))
    await client.close()
    with pytest.raises(errors.Unavailable):
        await asked
    with pytest.raises(errors.Unavailable):
        await ask(client)


async def test_who_is_cancelled_while_it_asks_stays_cancelled(client: ModelServerClient) -> None:
    asked = await _begun(client.residency())
    asked.cancel()
    await client.close()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_a_channel_that_is_closed_before_an_order_is_sent_is_a_refusal(client: ModelServerClient) -> None:
    asked = await _begun(anext(client.execute(Order(JobId("job_1"), 1, 1, "shapes@1", a_spec()))))
    await client.close()
    with pytest.raises(WorkerRefused):
        await asked


class CutOff(Call):
    """A stream whose channel is closed."""

    async def __aiter__(self) -> AsyncIterator[pb.ExecuteEvent]:
        raise asyncio.CancelledError
        yield


async def test_a_channel_that_is_closed_under_an_order_is_a_lost_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Channel, "_execute", lambda *_args, **_how: CutOff())
    order = Order(JobId("job_1"), 1, 1, "shapes@1", a_spec())
    with pytest.raises(WorkerLost):
        await anext(ModelServerClient(cast("Any", Channel())).execute(order))
