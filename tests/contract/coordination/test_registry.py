"""The promises of `Registry`, on every adapter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.coordination.memory import MemoryRegistry
from libs.coordination.registry import Presence, Registry, Snapshot
from libs.testing.clock import ManualClock
from libs.testing.etcd import EtcdServer

LEASE_TTL_S = 30  # nothing here may depend on an expiry


@pytest.fixture(params=["memory", "etcd"])
async def registry(request: pytest.FixtureRequest) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    async with EtcdServer() as server, EtcdClient([server.endpoint]) as client:
        yield EtcdRegistry(client, SystemClock())


@asynccontextmanager
async def running(presence: Presence) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(presence.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(watch: AsyncGenerator[Snapshot, None], wanted: Callable[[dict[str, bytes]], bool]) -> Snapshot:
    async with asyncio.timeout(20):
        async for snapshot in watch:
            assert snapshot.stale_since is None
            if wanted(dict(snapshot.values)):
                return snapshot
    raise AssertionError("a watch must not end")


async def test_keys_come_change_and_leave_with_their_presence(registry: Registry) -> None:
    presence = registry.announce(LEASE_TTL_S)
    presence.put("/w/one", b"early")
    async with aclosing(registry.watch("/w/")) as watch:
        empty = await until(watch, lambda values: not values)
        async with running(presence):
            first = await until(watch, lambda values: values == {"/w/one": b"early"})
            presence.put("/w/one", b"late")
            presence.put("/w/two", b"2")
            last = await until(watch, lambda values: values == {"/w/one": b"late", "/w/two": b"2"})
            presence.remove("/w/two")
            await until(watch, lambda values: values == {"/w/one": b"late"})
        gone = await until(watch, lambda values: not values)
    assert empty.revision < first.revision < last.revision < gone.revision


async def test_the_value_put_last_is_the_one_that_stays(registry: Registry) -> None:
    presence, clock = registry.announce(LEASE_TTL_S), ManualClock()
    async with running(presence), aclosing(registry.watch("/w/")) as watch:
        for number in range(50):
            presence.put("/w/one", b"%d" % number)
            await clock.settle()  # lets a write start between two puts
        await until(watch, lambda values: values == {"/w/one": b"49"})
        presence.put("/w/end", b"")  # written after everything before it
        assert (await until(watch, lambda values: "/w/end" in values)).values["/w/one"] == b"49"


async def test_a_watch_starts_with_what_is_there_and_keeps_to_its_prefix(registry: Registry) -> None:
    presence = registry.announce(LEASE_TTL_S)
    for key in ("/w/in", "/w", "/wx/out", "/v/out"):
        presence.put(key, b"")
    async with running(presence):
        async with aclosing(registry.watch("/")) as everything:
            await until(everything, lambda values: len(values) == 4)
        async with aclosing(registry.watch("/w/")) as watch:
            assert set((await anext(watch)).values) == {"/w/in"}


async def test_a_key_taken_over_stays_when_its_first_owner_leaves(registry: Registry) -> None:
    first, second = registry.announce(LEASE_TTL_S), registry.announce(LEASE_TTL_S)
    async with aclosing(registry.watch("/w/")) as watch, running(second):
        async with running(first):
            first.put("/w/one", b"first")
            first.put("/w/mark", b"")
            await until(watch, lambda values: len(values) == 2)
            second.put("/w/one", b"second")
            await until(watch, lambda values: values["/w/one"] == b"second")
        await until(watch, lambda values: values == {"/w/one": b"second"})


async def test_cancelling_a_presence_ends_it_as_cancelled(registry: Registry) -> None:
    presence = registry.announce(LEASE_TTL_S)
    presence.put("/w/one", b"")
    async with aclosing(registry.watch("/w/")) as watch, running(presence) as task:
        await until(watch, lambda values: "/w/one" in values)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(watch, lambda values: not values)
