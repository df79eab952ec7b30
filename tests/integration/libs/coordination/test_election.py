"""Two candidates for one key on a real etcd."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.election import Election
from libs.coordination.lease import Session
from libs.testing.etcd import EtcdServer

CLOCK = SystemClock()
KEY = "/darkroom/leader"


class Candidate:
    """A session, its election, and a way to die without a farewell: its client is cut off first."""

    def __init__(self, endpoint: str, name: str, lease_ttl_s: int) -> None:
        self.client = EtcdClient([endpoint], timeout_s=1.0)
        self.session = Session(self.client, lease_ttl_s=lease_ttl_s, clock=CLOCK)
        self.election = Election(self.client, self.session, key=KEY, candidate=name, clock=CLOCK)
        self._task = asyncio.create_task(self.session.run())

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Candidate, Candidate]]:
    async with EtcdServer() as server, AsyncExitStack() as stack:
        candidates = [Candidate(server.endpoint, name, lease_ttl_s=2) for name in ("one", "two")]
        for candidate in candidates:
            stack.push_async_callback(candidate.stop)
        yield candidates[0], candidates[1]


async def test_when_the_holders_lease_dies_the_other_wins_with_a_greater_revision(
    pair: tuple[Candidate, Candidate],
) -> None:
    holder, waiting = pair
    async with asyncio.timeout(30):
        first = await holder.election.campaign()
        campaign = asyncio.create_task(waiting.election.campaign())
        lease = await holder.session.lease()
        await waiting.client.revoke(lease.lease_id)  # what an expiry is to everybody
        second = await campaign
        assert second > first
        await holder.election.lost.wait()
        assert not waiting.election.lost.is_set()


async def test_a_campaign_waits_until_the_holder_resigns(pair: tuple[Candidate, Candidate]) -> None:
    holder, waiting = pair
    async with asyncio.timeout(30):
        first = await holder.election.campaign()
        assert await holder.election.campaign() == first  # winning is told again, not fought for again
        campaign = asyncio.create_task(waiting.election.campaign())
        held = await waiting.client.get(KEY)
        assert held is not None
        assert held.value == b"one"
        assert not campaign.done()
        await holder.election.resign()
        assert holder.election.lost.is_set()
        assert await campaign > first


async def test_a_leader_learns_that_its_key_was_deleted(pair: tuple[Candidate, Candidate]) -> None:
    holder, other = pair
    async with asyncio.timeout(30):
        await holder.election.campaign()
        watched = asyncio.create_task(holder.election.until_lost())
        await other.client.delete(KEY)
        await watched
        assert holder.election.lost.is_set()


async def test_resigning_late_leaves_the_new_leader_alone(pair: tuple[Candidate, Candidate]) -> None:
    late, leader = pair
    async with asyncio.timeout(30):
        await late.election.campaign()
        await leader.client.delete(KEY)
        revision = await leader.election.campaign()
        await late.election.resign()
        held = await leader.client.get(KEY)
        assert held is not None
        assert held.create_revision == revision
