"""Starts a mesh for measuring: etcd, the scheduler on SQLite or PostgreSQL, simulated workers, and a client.

Everything listens on 127.0.0.1 and ends with the context.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from libs import secret_files
from libs.clients.scheduler import SchedulerClient
from libs.devstack import probes
from libs.devstack.ports import free_port
from libs.devstack.postgres import PostgresServer
from libs.devstack.process import Process, log_tail, signal_group, spawn
from libs.errors import Unavailable
from libs.rpc.channel import open_channel
from libs.testing import waiting
from libs.testing.etcd import EtcdServer
from tests.bench.mesh_parts import workers
from tests.bench.mesh_parts.notes import Reader
from tests.bench.mesh_parts.workers import Fleet

TOKEN, OPERATOR = "m" * 32, "o" * 32
_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is started. `processes` the workers share; `profile` is where to write where the scheduler spends time."""

    count: int
    rows: int = 1
    models: int = 12
    resident: int = 3
    processes: int = 2
    postgres: bool = False
    profile: str = ""

    @property
    def names(self) -> list[str]:
        """The models' pinned names."""
        return [f"model-{number:02}@v1" for number in range(self.models)]


@dataclass(slots=True)
class Mesh:
    """What runs."""

    plan: Plan
    client: SchedulerClient
    notes: Reader
    pids: dict[int, str] = field(default_factory=dict)  # what each process is, for counting its time


@asynccontextmanager
async def running(plan: Plan, folder: Path) -> AsyncIterator[Mesh]:
    """Run a mesh whose scheduler knows every worker."""
    (folder / "secrets").mkdir()
    for name, value in ((secret_files.MESH_TOKEN, TOKEN), (secret_files.OPERATOR_TOKEN, OPERATOR)):
        secret_files.write_private(folder / "secrets" / name, value)
    async with AsyncExitStack() as stack:
        etcd = await stack.enter_async_context(EtcdServer())
        database = (await stack.enter_async_context(PostgresServer())).url if plan.postgres else ""
        notes = [folder / "scheduler.notes"]
        pids: dict[int, str] = {}
        limiter, share = "127.0.0.1:1", -(-plan.count // plan.processes)
        for first in range(0, plan.count, share):
            fleet = Fleet(etcd.endpoint, first, min(share, plan.count - first), plan.rows, plan.names, plan.resident)
            notes.append(folder / f"workers-{first}.notes")
            pid, limiter = await stack.enter_async_context(_workers(notes[-1], fleet))
            pids[pid] = "workers"
        own = {"ETCD_ENDPOINTS": etcd.endpoint, "LIMITER_ADDRESS": limiter, "DATABASE_URL": database}
        pid, address = await stack.enter_async_context(_scheduler(folder, notes[0], own, plan.profile))
        pids[pid] = "scheduler"
        channel = await stack.enter_async_context(open_channel(address, mesh_token=TOKEN, operator_token=OPERATOR))
        mesh = Mesh(plan, SchedulerClient(channel), Reader(notes), pids)
        await _until_known(mesh)
        yield mesh


@asynccontextmanager
async def _scheduler(folder: Path, notes: Path, own: Mapping[str, str], profile: str) -> AsyncIterator[tuple[int, str]]:
    address = f"127.0.0.1:{free_port()}"
    every = {"DATA": str(folder), "LISTEN": address, "LOG_LEVEL": "info", **own}
    env = {**os.environ, **{f"DARKROOM_{key}": value for key, value in every.items() if value}}
    argv = (sys.executable, "-m", "tests.bench.mesh_parts.scheduler", str(notes), *([profile] if profile else []))
    ready = probes.grpc_serving(address)
    running = await spawn(Process("scheduler", argv, env, ready, folder / "scheduler.log"))
    try:
        await waiting.until(ready, _START_S)
        yield running.pid, address
        if running.returncode is not None:
            print(log_tail(folder / "scheduler.log", 0))
    finally:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()


@asynccontextmanager
async def _workers(notes: Path, fleet: Fleet) -> AsyncIterator[tuple[int, str]]:
    argv = (sys.executable, "-m", workers.__name__, str(notes), json.dumps(dataclasses.asdict(fleet)))
    running = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    try:
        assert running.stdout is not None
        async with asyncio.timeout(_START_S):
            port = await running.stdout.readline()
        yield running.pid, f"127.0.0.1:{int(port)}"
    finally:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()


async def _until_known(mesh: Mesh) -> None:
    """Wait until the scheduler has heard from every worker what it can draw."""

    async def are_known() -> bool:
        try:
            async for catalog in mesh.client.watch_catalog():
                if {model.workers for model in catalog.models} == {mesh.plan.count}:
                    return len(catalog.models) == mesh.plan.models
        except Unavailable:  # it has much to do
            return False
        return False

    await waiting.until(are_known, _START_S)
