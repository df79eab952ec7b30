"""A session on a scripted client and a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Self, cast

import pytest

from libs.coordination.client import EtcdClient
from libs.coordination.errors import CoordinationUnavailable, LeaseGone
from libs.coordination.lease import Session
from libs.coordination.replies import Grant
from libs.testing.clock import ManualClock

TTL_S = 10


class ScriptedEtcd:
    """Grants numbered leases and notes what is written; each way of failing is a switch."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.leases = 0
        self.reachable = True
        self.answers_refreshes = True
        self.gone: set[int] = set()
        self.written: list[tuple[str, bytes, int]] = []
        self.deleted: list[str] = []
        self.revoked: list[int] = []
        self.slow_grant_s = 0.0
        self.on_refresh: Callable[[], object] = lambda: None  # once

    async def grant(self, ttl_s: int) -> Grant:
        self._check()
        if self.slow_grant_s:
            await self._clock.sleep(self.slow_grant_s)
        self.leases += 1
        return Grant(self.leases, ttl_s)

    async def put(self, key: str, value: bytes, lease_id: int = 0) -> int:
        self._check()
        if lease_id in self.gone:
            raise LeaseGone("gone")
        self.written.append((key, value, lease_id))
        return len(self.written)

    async def delete(self, key: str) -> bool:
        self._check()
        self.deleted.append(key)
        return True

    async def revoke(self, lease_id: int) -> None:
        self._check()
        self.revoked.append(lease_id)

    def keep_alive(self) -> ScriptedEtcd:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *unused: object) -> None:
        return None

    async def refresh(self, lease_id: int, timeout_s: float) -> int:
        self._check()
        happens, self.on_refresh = self.on_refresh, lambda: None
        happens()
        if not self.answers_refreshes:
            await asyncio.Event().wait()
        if lease_id in self.gone:
            raise LeaseGone("gone")
        return TTL_S

    def _check(self) -> None:
        if not self.reachable:
            raise CoordinationUnavailable("down")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def etcd(clock: ManualClock) -> ScriptedEtcd:
    return ScriptedEtcd(clock)


@pytest.fixture
async def session(etcd: ScriptedEtcd, clock: ManualClock) -> AsyncIterator[Session]:
    session = Session(cast("EtcdClient", etcd), lease_ttl_s=TTL_S, clock=clock)
    task = asyncio.create_task(session.run())
    yield session
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_refreshed_lease_is_kept(session: Session, etcd: ScriptedEtcd, clock: ManualClock) -> None:
    await clock.advance(20 * TTL_S)
    assert etcd.leases == 1
    assert not (await session.lease()).lost.is_set()


async def test_a_lease_nobody_answers_for_is_lost_before_the_server_expires_it(
    session: Session, etcd: ScriptedEtcd, clock: ManualClock
) -> None:
    etcd.answers_refreshes = False
    lease = await session.lease()
    told = asyncio.Event()
    lease.tell(told)
    await clock.advance(0.75 * TTL_S)
    assert not told.is_set()
    assert lease.left_s() == pytest.approx(0.05 * TTL_S)
    await clock.advance(0.1 * TTL_S)
    assert lease.lost.is_set()
    assert told.is_set()
    assert (await session.lease()).lease_id == 2


async def test_the_deadline_counts_from_when_the_request_was_sent(etcd: ScriptedEtcd, clock: ManualClock) -> None:
    etcd.slow_grant_s, etcd.answers_refreshes = 3.0, False
    session = Session(cast("EtcdClient", etcd), lease_ttl_s=TTL_S, clock=clock)
    task = asyncio.create_task(session.run())
    await clock.advance(3.0)
    assert (await session.lease()).left_s() == pytest.approx(0.8 * TTL_S - 3.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_kept_keys_move_to_the_next_lease_and_the_old_one_is_dropped(
    session: Session, etcd: ScriptedEtcd, clock: ManualClock
) -> None:
    session.put("/a", b"1")
    session.put("/b", b"2")
    session.put("/b", b"3")
    session.remove("/a")
    await clock.settle()
    assert etcd.written == [("/b", b"3", 1)]
    assert etcd.deleted == ["/a"]
    etcd.gone.add(1)
    await clock.advance(TTL_S / 3)
    assert etcd.written[1:] == [("/b", b"3", 2)]
    assert etcd.revoked == [1]


async def test_a_write_refused_for_its_lease_gets_a_new_lease(
    session: Session, etcd: ScriptedEtcd, clock: ManualClock
) -> None:
    await session.lease()
    etcd.gone.add(1)
    session.put("/a", b"1")
    await clock.settle()
    assert etcd.written == [("/a", b"1", 2)]


async def test_what_changes_during_an_outage_is_written_after_it(
    session: Session, etcd: ScriptedEtcd, clock: ManualClock
) -> None:
    session.put("/a", b"1")
    session.put("/b", b"1")
    await clock.settle()
    etcd.reachable = False
    session.put("/a", b"2")
    session.remove("/b")
    await clock.advance(3 * TTL_S)
    assert len(etcd.written) == 2
    etcd.reachable = True
    await clock.advance(TTL_S)
    assert etcd.written[2:] == [("/a", b"2", 2)]
    assert etcd.deleted == ["/b"]


async def test_whoever_asks_in_the_moment_of_loss_waits_for_the_next_lease(
    session: Session,
) -> None:
    lease = await session.lease()
    lease.lose()  # as its guard does; the session learns of it a few steps of the loop later
    assert (await session.lease()).lease_id == 2  # once it asked on and on here, and nobody else had a turn again


async def test_closing_loses_the_lease_and_revokes_it(etcd: ScriptedEtcd, clock: ManualClock) -> None:
    session = Session(cast("EtcdClient", etcd), lease_ttl_s=TTL_S, clock=clock)
    task = asyncio.create_task(session.run())
    lease = await session.lease()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert lease.left_s() == 0
    assert etcd.revoked == [1]


async def test_a_cancellation_in_the_moment_of_loss_is_not_swallowed(etcd: ScriptedEtcd, clock: ManualClock) -> None:
    session = Session(cast("EtcdClient", etcd), lease_ttl_s=TTL_S, clock=clock)
    task = asyncio.create_task(session.run())
    await session.lease()
    etcd.gone.add(1)
    etcd.on_refresh = task.cancel
    await clock.advance(TTL_S / 3)
    assert task.cancelled()
