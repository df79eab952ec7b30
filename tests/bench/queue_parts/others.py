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

from libs.devstack.postgres import PostgresServer
from libs.devstack.process import signal_group
from libs.testing.redis import RedisServer
from tests.bench.queue_parts import ran
from tests.bench.queue_parts.timing import Took, until_counted

_RUN_S = 120.0
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
            broker = (await stack.enter_async_context(RedisServer(fsync))).url
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
async def _running(argv: tuple[str, ...], env: dict[str, str]) -> AsyncIterator[None]:
    running = await asyncio.create_subprocess_exec(
        sys.executable, *argv, env=env, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()
