"""Rate limiters as processes of their own on one database and one Redis, to be killed at any moment."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc

from libs import secret_files
from libs.clients.limiter import LimiterClient
from libs.devstack.environment import inherited
from libs.devstack.ports import free_port
from libs.devstack.process import Process, signal_group
from libs.rpc.channel import open_channel
from libs.rpc.health import serves
from libs.testing.starting import started

_START_S = 60.0


class LimiterProcess:
    """One rate limiter; the data folder is its own, secrets and database are those of `shared`.

    `more` are further settings, by their names without the prefix.
    """

    def __init__(self, shared: Path, name: str, redis_url: str, tiers: Path, **more: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        """Where it listens; the same over restarts."""
        self._shared, self._name, self._redis, self._tiers = shared, name, redis_url, tiers
        self._more = more
        self._running: asyncio.subprocess.Process | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def folder(self) -> Path:
        """Its data folder."""
        return self._shared / self._name

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._running is not None
        return self._running.pid

    @property
    def client(self) -> LimiterClient:
        """Calls it."""
        assert self._channel is not None
        return LimiterClient(self._channel)

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._running = await started(self._process(), _START_S)
        self._channel = open_channel(
            self.address, mesh_token=secret_files.read_token(self._shared / "secrets", secret_files.MESH_TOKEN)
        )

    async def kill(self) -> None:
        """End it like a crash."""
        running, self._running = self._running, None
        if running is not None:
            signal_group(running.pid, signal.SIGKILL)
            await running.wait()
        if self._channel is not None:
            await self._channel.close()

    def _process(self) -> Process:
        self.folder.mkdir(exist_ok=True)
        secret_files.ensure(self._shared / "secrets")
        own = {
            "DATA": self.folder,
            "SECRETS": self._shared / "secrets",
            "LISTEN": self.address,
            "DATABASE_URL": f"sqlite+aiosqlite:///{self._shared / 'ratelimiter.db'}",
            "REDIS": self._redis,
            "REDIS_DEADLINE_S": "10",  # a loaded machine is no outage
            "TIERS": self._tiers,
            **self._more,
        }
        return Process(
            name=self._name,
            argv=(sys.executable, "-m", "services.ratelimiter"),
            env={**inherited(os.environ), **{f"DARKROOM_{key}": str(value) for key, value in own.items()}},
            is_ready=lambda: serves(self.address),
            log_path=self._shared / f"{self._name}.log",
        )
