"""A real Redis for tests: killed and started again with the same data and the same port."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

from libs.devstack import redis
from libs.devstack.own_server import OwnServer
from libs.devstack.ports import free_port
from libs.devstack.process import Process, signal_group
from libs.testing.starting import started

_START_TIMEOUT_S = 30.0


class RedisServer(OwnServer):
    """One server on loopback, in a temporary folder, while the context lasts. `fsync` as in libs.devstack.redis."""

    def __init__(self, fsync: str = "everysec") -> None:
        self._fsync = fsync
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-redis-"))
        self._address, self._password = f"127.0.0.1:{free_port()}", secrets.token_urlsafe(16)
        self._running: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Its address for clients, with the password; the same over restarts."""
        return redis.url(self._address, self._password)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._address.rpartition(":")[2])

    async def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the end of its log if it does not."""
        self._running = await started(self._process(), _START_TIMEOUT_S)

    async def stop(self) -> None:
        """End it in order: everything is on the disk."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it like a crash; what it wrote stays."""
        await self._end(signal.SIGKILL)

    async def restart(self) -> None:
        """Kill it if it runs and start it on the same data and port."""
        await self.kill()
        await self.start()

    def freeze(self) -> None:
        """Let it answer nothing while its connections stand."""
        assert self._running is not None
        signal_group(self._running.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._running is not None
        signal_group(self._running.pid, signal.SIGCONT)

    def forget(self) -> None:
        """Drop all data of a server that was ended: the next start is empty."""
        (self._folder / "data" / "appendonly.aof").unlink(missing_ok=True)

    async def _end(self, number: signal.Signals) -> None:
        if self._running is None:
            return
        running, self._running = self._running, None
        signal_group(running.pid, number)
        await running.wait()

    async def _clean_up(self) -> None:
        await self.kill()
        shutil.rmtree(self._folder)

    def _process(self) -> Process:
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        redis.configure(data, self._password)
        return Process(
            name="redis",
            argv=redis.command(self._address, data, self._fsync),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            is_ready=redis.answers(self._address, self._password),
            log_path=self._folder / "log",
        )
