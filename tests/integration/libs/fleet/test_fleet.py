"""Announcers and a directory on a real etcd: a worker that is killed, one that leaves, an etcd that dies."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.fleet.announce import Announcer
from libs.fleet.directory import Directory
from libs.fleet.record import WorkerRecord
from libs.ids import WorkerId
from libs.testing.etcd import EtcdServer

CLOCK = SystemClock()
WORKER = WorkerId("w")
RECORD = WorkerRecord(WORKER, "i", "127.0.0.1:20001", "cpu", 0, ("shapes@1",), (), 4, 0, started_at=1.0)
PROCESS = Path(__file__).with_name("announcing_process.py")


@pytest.fixture
async def server() -> AsyncIterator[EtcdServer]:
    async with EtcdServer() as server:
        yield server


@pytest.fixture
async def registry(server: EtcdServer) -> AsyncIterator[EtcdRegistry]:
    async with EtcdClient([server.endpoint], timeout_s=1.0) as client:
        yield EtcdRegistry(client, CLOCK)


@asynccontextmanager
async def running(part: Announcer | Directory) -> AsyncIterator[None]:
    task = asyncio.create_task(part.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_killed_worker_disappears_within_its_lease(server: EtcdServer, registry: EtcdRegistry) -> None:
    directory = Directory(registry)
    process = await asyncio.create_subprocess_exec(sys.executable, str(PROCESS), server.endpoint, "1")
    try:
        async with running(directory), asyncio.timeout(30):
            await directory.wait_for(lambda: WORKER in directory.workers())
            process.kill()
            await process.wait()
            await directory.wait_for(lambda: not directory.workers())
            assert directory.stale_since is None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_worker_changes_and_leaves_at_once(registry: EtcdRegistry) -> None:
    """Its lease of an hour shows that leaving does not wait for one."""
    directory = Directory(registry)
    announcer = Announcer(registry, RECORD, lease_ttl_s=3600, clock=CLOCK)
    async with running(directory), asyncio.timeout(30):
        async with running(announcer):
            await directory.wait_for(lambda: directory.workers() == {WORKER: RECORD})
            busy = replace(RECORD, rows_in_use=3, resident=("shapes@1",), draining=True)
            announcer.publish(busy)
            await directory.wait_for(lambda: directory.workers() == {WORKER: busy})
        await directory.wait_for(lambda: not directory.workers())


async def test_the_fleet_outlives_etcd_and_comes_back_even_to_an_empty_one(
    server: EtcdServer, registry: EtcdRegistry
) -> None:
    directory = Directory(registry)
    announcer = Announcer(registry, RECORD, lease_ttl_s=1, clock=CLOCK)
    async with running(directory), running(announcer), asyncio.timeout(60):
        await directory.wait_for(lambda: WORKER in directory.workers())
        await server.kill()
        await directory.wait_for(lambda: directory.stale_since is not None)
        assert directory.workers() == {WORKER: RECORD}
        server.forget()
        busy = replace(RECORD, rows_in_use=2)
        announcer.publish(busy)
        await server.start()
        await directory.wait_for(lambda: directory.stale_since is None and directory.workers() == {WORKER: busy})
