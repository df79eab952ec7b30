"""Sessions and watches against a real etcd that is killed, replaced and compacted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

import pytest

from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.errors import CoordinationUnavailable, HistoryGone, LeaseGone
from libs.coordination.lease import Session
from libs.coordination.registry import Snapshot
from libs.coordination.streams import WatchStream
from libs.coordination.watch import watch_prefix
from libs.devstack.ports import free_port
from libs.testing.etcd import EtcdServer

CLOCK = SystemClock()


@pytest.fixture
async def server() -> AsyncIterator[EtcdServer]:
    async with EtcdServer() as server:
        yield server


@pytest.fixture
async def client(server: EtcdServer) -> AsyncIterator[EtcdClient]:
    async with EtcdClient([server.endpoint], timeout_s=1.0) as client:
        yield client


@asynccontextmanager
async def running(session: Session) -> AsyncIterator[None]:
    task = asyncio.create_task(session.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(watch: AsyncGenerator[Snapshot, None], wanted: Callable[[Snapshot], bool]) -> Snapshot:
    async with asyncio.timeout(30):
        async for snapshot in watch:
            if wanted(snapshot):
                return snapshot
    raise AssertionError("a watch must not end")


async def test_session_outlives_etcd(server: EtcdServer, client: EtcdClient) -> None:
    """Its lease is given up while etcd is gone, and its key is written again under a new one."""
    session = Session(client, lease_ttl_s=2, clock=CLOCK)
    session.put("/w/one", b"1")
    async with running(session), aclosing(watch_prefix(client, "/w/", CLOCK)) as watch:
        before = await until(watch, lambda seen: "/w/one" in seen.values)
        lease = await session.lease()
        await server.kill()
        stale = await until(watch, lambda seen: seen.stale_since is not None)
        assert stale.values == before.values
        async with asyncio.timeout(10):
            await lease.lost.wait()
        assert lease.left_s() == 0
        session.put("/w/two", b"2")  # while nothing can be written
        await server.restart()
        await until(watch, lambda seen: seen.stale_since is None and "/w/two" in seen.values)
        async with asyncio.timeout(10):
            after = await session.lease()
            kept = await client.get("/w/one")
        assert kept is not None
        assert kept.lease_id == after.lease_id != lease.lease_id


async def test_watch_sees_what_happened_while_it_was_cut_off(server: EtcdServer, client: EtcdClient) -> None:
    await client.put("/w/stays", b"")
    await client.put("/w/goes", b"")
    async with aclosing(watch_prefix(client, "/w/", CLOCK)) as watch:
        await until(watch, lambda seen: len(seen.values) == 2)
        await server.restart()
        await client.delete("/w/goes")
        await client.put("/w/comes", b"")
        final = await until(watch, lambda seen: set(seen.values) == {"/w/stays", "/w/comes"})
        assert final.stale_since is None


async def test_watch_lists_anew_when_the_store_is_another_one(server: EtcdServer, client: EtcdClient) -> None:
    """A store that lost its data is at an early revision again: events of later ones would never come."""
    for number in range(5):
        await client.put(f"/w/{number}", b"")
    async with aclosing(watch_prefix(client, "/w/", CLOCK)) as watch:
        await until(watch, lambda seen: len(seen.values) == 5)
        await server.kill()
        server.forget()
        await server.start()
        await until(watch, lambda seen: not seen.values)
        await client.put("/w/new", b"")
        await until(watch, lambda seen: set(seen.values) == {"/w/new"})


class HeldBackClient(EtcdClient):
    """Starts watches only while `open` is set, so that history can be compacted away under one; notes their starts."""

    def __init__(self, endpoint: str) -> None:
        super().__init__([endpoint], timeout_s=1.0)
        self.open = asyncio.Event()
        self.open.set()
        self.started_at: list[int] = []

    async def watch(self, key: str, *, start_revision: int, prefix: bool = False) -> WatchStream:
        await self.open.wait()
        self.started_at.append(start_revision)
        return await super().watch(key, start_revision=start_revision, prefix=prefix)


async def test_watch_lists_anew_after_compaction(server: EtcdServer, client: EtcdClient) -> None:
    async with HeldBackClient(server.endpoint) as watcher:
        await client.put("/w/old", b"")
        async with aclosing(watch_prefix(watcher, "/w/", CLOCK)) as watch:
            seen = await until(watch, lambda seen: "/w/old" in seen.values)
            watcher.open.clear()
            await server.restart()
            await client.delete("/w/old")
            compacted = await client.put("/w/new", b"")
            await client.compact(compacted)
            watcher.open.set()
            await until(watch, lambda seen: set(seen.values) == {"/w/new"})
        assert watcher.started_at[1] == seen.revision + 1  # first it tries to go on, which compaction forbids
        assert watcher.started_at[-1] == compacted + 1


async def test_compacted_history_is_refused_by_number(client: EtcdClient) -> None:
    start = await client.put("/w/a", b"")
    await client.compact(await client.put("/w/b", b""))
    with pytest.raises(HistoryGone, match="compacted"):
        async with asyncio.timeout(10), await client.watch("/w/", start_revision=start, prefix=True) as stream:
            await stream.changes()


async def test_a_lease_that_is_gone_is_named(client: EtcdClient) -> None:
    grant = await client.grant(30)
    await client.revoke(grant.lease_id)
    with pytest.raises(LeaseGone):
        await client.put("/w/a", b"", grant.lease_id)
    with pytest.raises(LeaseGone):
        await client.revoke(grant.lease_id)
    with pytest.raises(LeaseGone):
        async with client.keep_alive() as stream:
            await stream.refresh(grant.lease_id, timeout_s=10)


async def test_a_dead_endpoint_is_passed_over(server: EtcdServer) -> None:
    async with EtcdClient([f"127.0.0.1:{free_port()}", server.endpoint], timeout_s=2.0) as client:
        with pytest.raises(CoordinationUnavailable):
            await client.put("/w/a", b"1")  # a write is tried once; the next call goes to the next member
        await client.put("/w/a", b"2")
        held = await client.get("/w/a")
        assert held is not None
        assert held.value == b"2"


async def test_a_read_tries_every_endpoint(server: EtcdServer) -> None:
    async with EtcdClient([f"127.0.0.1:{free_port()}", server.endpoint], timeout_s=2.0) as client:
        assert await client.get("/w/a") is None
