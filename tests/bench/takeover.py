"""How long dispatch stands still when the leading scheduler is killed or stands still: `make bench/takeover`.

Two scheduler processes on one PostgreSQL and one etcd; this process plays the model servers. One job runs, others wait.
Measured from the signal: until the standby has attached to what runs, and until it has begun a job that waits.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from libs import secret_files
from libs.clients.scheduler import SchedulerClient
from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.devstack import probes
from libs.devstack.ports import free_port
from libs.devstack.postgres import PostgresServer
from libs.devstack.process import Process, signal_group, spawn
from libs.rpc.channel import open_channel
from libs.testing import waiting
from libs.testing.etcd import EtcdServer
from services.scheduler.storage.sql_store import open_store
from tests.integration.services.scheduler.asking import submission
from tests.integration.services.scheduler.peers import OPERATOR, TOKEN, Worker, announced, silent

LEASE_S = 5
WITHIN_S = 60.0


class Timed(Worker):
    """Holds every attempt, and notes when each order came."""

    def __init__(self) -> None:
        super().__init__(silent)
        self.came: list[tuple[float, bool]] = []  # monotonic, whether it attaches

    async def Execute(self, request: pb.ExecuteRequest, context: object) -> AsyncIterator[pb.ExecuteEvent]:
        self.came.append((time.monotonic(), request.attach))
        async for event in super().Execute(request, context):
            yield event

    async def first_after(self, moment: float, *, attach: bool) -> float:
        """Return the seconds from a moment to the first order of a kind after it."""

        async def is_there() -> bool:
            return any(at > moment and attaches is attach for at, attaches in self.came)

        await waiting.until(is_there, WITHIN_S)
        return min(at for at, attaches in self.came if at > moment and attaches is attach) - moment


@asynccontextmanager
async def scheduler(folder: Path, name: str, database: str, etcd: str) -> AsyncIterator[tuple[int, str]]:
    """Run a scheduler; gives its process id and address."""
    address = f"127.0.0.1:{free_port()}"
    own = {
        "DATA": str(folder), "LISTEN": address, "DATABASE_URL": database, "ETCD_ENDPOINTS": etcd,
        "LIMITER_ADDRESS": "127.0.0.1:1", "LEASE_TTL_S": str(LEASE_S),
    }  # fmt: skip
    env = {**os.environ, **{f"DARKROOM_{key}": value for key, value in own.items()}}
    argv = (sys.executable, "-m", "services.scheduler")
    ready = probes.grpc_serving(address)
    running = await spawn(Process(name, argv, env, ready, folder / f"{name}.log"))
    try:
        await waiting.until(ready, WITHIN_S)
        yield running.pid, address
    finally:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()


async def one_round(number: signal.Signals, postgres: PostgresServer, etcd: EtcdServer, folder: Path) -> list[float]:
    """Return the seconds until the attempt was attached to and until another was begun."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(EtcdClient([etcd.endpoint]))
        worker, spare = Timed(), Timed()
        await stack.enter_async_context(announced(worker, EtcdRegistry(client, SystemClock())))
        pid, address = await stack.enter_async_context(scheduler(folder, "first", postgres.url, etcd.endpoint))
        await leads(postgres, address)
        _, other = await stack.enter_async_context(scheduler(folder, "second", postgres.url, etcd.endpoint))
        channel = await stack.enter_async_context(open_channel(other, mesh_token=TOKEN, operator_token=OPERATOR))
        jobs = SchedulerClient(channel)
        await jobs.submit(submission())
        async with asyncio.timeout(WITHIN_S):
            await worker.holding.wait()
        signal_group(pid, number)
        at = time.monotonic()
        await jobs.submit(submission())
        registry = EtcdRegistry(client, SystemClock())
        await stack.enter_async_context(announced(spare, registry, name="modelserver-1"))
        seconds = [await worker.first_after(at, attach=True), await spare.first_after(at, attach=False)]
        begun = [attaches for _, attaches in worker.came].count(False)
        if begun != 1:
            raise AssertionError(f"the attempt that ran was begun {begun} times")
        return seconds


async def leads(postgres: PostgresServer, address: str) -> None:
    """Wait until the scheduler at an address has the lead."""
    store = open_store(postgres.url)

    async def is_so() -> bool:
        return (await store.leader()).claim.address == address

    await waiting.until(is_so, WITHIN_S)
    await store.close()


async def main(rounds: int) -> None:
    """Print a table."""
    logging.disable()  # of the model servers here: they do not answer all that they are asked
    print(f"lease {LEASE_S} s, {rounds} rounds; seconds from the signal, median (most)")
    print("| the leader is sent | attached to what runs | began what waits |\n|---|---|---|")
    for number in (signal.SIGKILL, signal.SIGSTOP):
        seconds = []
        for _ in range(rounds):
            async with PostgresServer() as postgres, EtcdServer() as etcd:
                with tempfile.TemporaryDirectory() as folder:
                    secrets = Path(folder) / "secrets"
                    secrets.mkdir()
                    for name, value in ((secret_files.MESH_TOKEN, TOKEN), (secret_files.OPERATOR_TOKEN, OPERATOR)):
                        secret_files.write_private(secrets / name, value)
                    seconds.append(await one_round(number, postgres, etcd, Path(folder)))
        cells = [f"{statistics.median(column):.1f} ({max(column):.1f})" for column in zip(*seconds, strict=True)]
        print(f"| {number.name} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asyncio.run(main(parser.parse_args().rounds))
