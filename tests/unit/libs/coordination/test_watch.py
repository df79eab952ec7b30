"""A watch over scripted connections: the messages are etcd's own, only the wire is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

import grpc
import pytest
from aetcd.rpc import kv_pb2, rpc_pb2

from libs.coordination.errors import CoordinationUnavailable
from libs.coordination.replies import KeyValue, Listing
from libs.coordination.streams import WatchStream
from libs.coordination.watch import watch_prefix

Reply = Any


SILENCE = None


class ScriptedCall:
    """A watch call that reads out its replies and then ends; at SILENCE it stays open and says no more."""

    def __init__(self, replies: Iterable[Reply]) -> None:
        self._replies = iter(replies)

    async def write(self, request: Any) -> None:
        return None

    async def read(self) -> Reply:
        reply = next(self._replies, grpc.aio.EOF)
        if reply is SILENCE:
            await asyncio.Event().wait()
        return reply

    def cancel(self) -> None:
        return None


class ScriptedClient:
    """Answers each list and each watch with the next of its script; notes where watches start."""

    def __init__(self, listings: list[Listing], calls: list[list[Reply]]) -> None:
        self._listings = listings
        self._calls = calls
        self.started_at: list[int] = []

    async def list_prefix(self, prefix: str) -> Listing:
        if not self._listings:
            raise CoordinationUnavailable("down")
        return self._listings.pop(0)

    async def watch(self, key: str, *, start_revision: int, prefix: bool = False) -> WatchStream:
        assert prefix
        self.started_at.append(start_revision)
        if not self._calls:
            raise CoordinationUnavailable("down")
        stream = WatchStream(ScriptedCall(self._calls.pop(0)), lambda: None)
        await stream.start(None, timeout_s=1.0)
        return stream


class InstantClock:
    """Time is always 7 and no wait takes any."""

    def now(self) -> float:
        return 7.0

    def monotonic(self) -> float:
        return 7.0

    async def sleep(self, seconds: float) -> None:
        return None


def listing(revision: int, **values: bytes) -> Listing:
    return Listing({key: KeyValue(key, value, 1, 1, 0) for key, value in values.items()}, revision)


def created(store_revision: int) -> Reply:
    return rpc_pb2.WatchResponse(header=rpc_pb2.ResponseHeader(revision=store_revision), created=True)


def put(key: str, value: bytes, revision: int) -> Reply:
    pair = kv_pb2.KeyValue(key=key.encode(), value=value, mod_revision=revision)
    return rpc_pb2.WatchResponse(events=[kv_pb2.Event(type=kv_pb2.Event.PUT, kv=pair)])


def deleted(key: str, revision: int) -> Reply:
    pair = kv_pb2.KeyValue(key=key.encode(), mod_revision=revision)
    return rpc_pb2.WatchResponse(events=[kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=pair)])


async def states(client: ScriptedClient, count: int) -> list[tuple[dict[str, bytes], float | None]]:
    """Return the first states of a watch as (values, stale since)."""
    async with asyncio.timeout(5), aclosing(watch_prefix(client, "", InstantClock())) as watch:
        snapshots = [await anext(watch) for _ in range(count)]
    return [(dict(snapshot.values), snapshot.stale_since) for snapshot in snapshots]


async def test_it_goes_on_after_the_last_event_and_not_after_the_stores_revision() -> None:
    """The first reply tells the store's revision, 50: going on from there would skip the event of 12."""
    client = ScriptedClient(
        [listing(10, a=b"1")],
        [[created(50), put("b", b"2", 11)], [created(50), put("c", b"3", 12)]],
    )
    assert await states(client, 5) == [
        ({"a": b"1"}, None),
        ({"a": b"1", "b": b"2"}, None),
        ({"a": b"1", "b": b"2"}, 7.0),  # the stream ended
        ({"a": b"1", "b": b"2"}, None),
        ({"a": b"1", "b": b"2", "c": b"3"}, None),
    ]
    assert client.started_at == [11, 12]


@pytest.mark.parametrize(
    "told",
    [
        [rpc_pb2.WatchResponse(canceled=True, compact_revision=30)],
        [created(40), rpc_pb2.WatchResponse(canceled=True, compact_revision=30)],
        [created(3)],
    ],
    ids=["compacted at once", "compacted after created", "an older store"],
)
async def test_it_lists_anew_when_history_is_gone(told: list[Reply]) -> None:
    client = ScriptedClient(
        [listing(10, a=b"1", b=b"1"), listing(41, b=b"2")],
        [[created(10)], told, [created(41), deleted("b", 42)]],
    )
    seen = await states(client, 5 if len(told) == 2 else 4)
    assert seen[:2] == [({"a": b"1", "b": b"1"}, None), ({"a": b"1", "b": b"1"}, 7.0)]
    assert seen[-2:] == [({"b": b"2"}, None), ({}, None)]
    assert client.started_at == [11, 11, 42]


async def test_a_cancelled_watch_is_opened_again() -> None:
    """Etcd leaves the stream open for other watches, so no end of it tells."""
    cancelled = rpc_pb2.WatchResponse(canceled=True, cancel_reason="no leader")
    client = ScriptedClient([listing(10)], [[created(10), cancelled, SILENCE], [created(10), put("a", b"1", 11)]])
    assert (await states(client, 4))[-1] == ({"a": b"1"}, None)
    assert client.started_at == [11, 11]


async def test_without_any_answer_it_says_so_once_and_empty() -> None:
    client = ScriptedClient([], [])
    assert await states(client, 1) == [({}, 7.0)]


async def test_events_of_one_reply_are_one_state() -> None:
    both = rpc_pb2.WatchResponse(events=[*put("a", b"1", 11).events, *deleted("old", 12).events])
    client = ScriptedClient([listing(10, old=b"")], [[created(10), both], []])
    assert await states(client, 2) == [({"old": b""}, None), ({"a": b"1"}, None)]
