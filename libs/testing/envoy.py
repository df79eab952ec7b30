"""A real Envoy for tests, in front of whatever gateway and rate limiter a test brings."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx

from libs.devstack.binaries import find_envoy
from libs.devstack.own_server import OwnServer
from libs.devstack.ports import free_port
from libs.devstack.process import Process, signal_group
from libs.testing.starting import started

_START_TIMEOUT_S = 30.0


class EnvoyServer(OwnServer):
    """Envoy with the project's own configuration while the context lasts; `address` is its door.

    `flags` are more arguments of the renderer. The bounds of one address are off unless they set them.
    """

    def __init__(
        self, *, gateway: str, ratelimiter: str, mesh_token: str, otlp: str = "", flags: Sequence[str] = ()
    ) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-envoy-"))
        self._upstreams = ("--gateway", gateway, "--ratelimiter", ratelimiter, "--otlp", otlp)
        self._flags = ("--bursts", "off", *flags)
        self._mesh_token = mesh_token
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._admin = f"127.0.0.1:{free_port(taken=(port,))}"
        self._running: asyncio.subprocess.Process | None = None

    @property
    def log(self) -> str:
        """What it has written, the access log among it."""
        return (self._folder / "log").read_text(errors="replace")

    async def start(self) -> None:
        """Render its configuration, start it and wait until it is live."""
        await self._render()
        self._running = await started(self._process(), _START_TIMEOUT_S)

    async def _clean_up(self) -> None:
        if self._running is not None:
            signal_group(self._running.pid, signal.SIGKILL)
            await self._running.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _render(self) -> None:
        command = (sys.executable, "-m", "services.gateway.envoy", "--listen", self.address, "--admin", self._admin)
        with (self._folder / "envoy.yaml").open("wb") as file:
            renderer = await asyncio.create_subprocess_exec(*command, *self._upstreams, *self._flags, stdout=file)
            if await renderer.wait() != 0:
                raise RuntimeError("the configuration could not be rendered")

    async def _live(self) -> bool:
        try:
            async with httpx.AsyncClient(timeout=1.0) as client:
                return (await client.get(f"http://{self._admin}/ready")).text.strip() == "LIVE"
        except httpx.TransportError:
            return False

    def _process(self) -> Process:
        config = str(self._folder / "envoy.yaml")
        flags = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
        soon = ("--file-flush-interval-msec", "50")  # a test reads the access log
        argv = (find_envoy(), *flags, *soon, "-c", config)
        env = {**os.environ, "DARKROOM_MESH_TOKEN": self._mesh_token}
        return Process("envoy", argv, env, self._live, self._folder / "log")
