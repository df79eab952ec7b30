"""Connections to workers that leave and come back."""

from __future__ import annotations

import asyncio

from tests.unit.services.scheduler.fakes import Bench, FakeModelServer, record


class Slow(FakeModelServer):
    """Takes its time to close."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self._gate = gate

    async def close(self) -> None:
        self.closed = True
        await self._gate.wait()


async def test_who_is_back_before_its_connection_was_closed_keeps_it() -> None:
    bench, gate = Bench(), asyncio.Event()
    one, two = record("w1"), record("w2")
    for worker in (one, two):
        bench.servers[worker.address] = Slow(gate)
    async with bench.running():
        await bench.workers(one, two)
        await bench.workers()
        assert sorted(server.closed for server in bench.servers.values()) == [False, True]
        await bench.workers(one, two)
        gate.set()
        await bench.clock.settle()
        assert sorted(server.closed for server in bench.servers.values()) == [False, True]
