"""A real etcd for tests: killed and started again with the same data and the same ports."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from pathlib import Path

from libs.coordination.client import EtcdClient
from libs.coordination.errors import CoordinationUnavailable
from libs.devstack.binaries import find_etcd
from libs.devstack.own_server import OwnServer
from libs.devstack.ports import free_port
from libs.devstack.process import Process, signal_group
from libs.testing.starting import started

_START_TIMEOUT_S = 30.0


class EtcdServer(OwnServer):
    """One member on loopback, in a temporary folder, while the context lasts.

    Its ticks are short, so that it elects itself quickly and grants leases from one second up.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="darkroom-etcd-"))
        self._client_port = free_port()
        self._peer_port = free_port(taken=(self._client_port,))
        self._running: asyncio.subprocess.Process | None = None

    @property
    def endpoint(self) -> str:
        """host:port for clients; the same over restarts."""
        return f"127.0.0.1:{self._client_port}"

    async def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError with the end of its log if it does not."""
        self._running = await started(self._process(), _START_TIMEOUT_S)

    async def kill(self) -> None:
        """End it like a crash; its data stays."""
        if self._running is None:
            return
        signal_group(self._running.pid, signal.SIGKILL)
        await self._running.wait()
        self._running = None

    async def restart(self) -> None:
        """Kill it if it runs and start it on the same data and ports."""
        await self.kill()
        await self.start()

    def forget(self) -> None:
        """Drop all data of a killed server: the next start is another, empty store."""
        shutil.rmtree(self._folder / "data")

    async def _clean_up(self) -> None:
        await self.kill()
        shutil.rmtree(self._folder)

    async def _answers(self) -> bool:
        async with EtcdClient([self.endpoint], timeout_s=1.0) as client:
            try:
                await client.version()
            except CoordinationUnavailable:
                return False
        return True

    def _process(self) -> Process:
        clients, peers = f"http://127.0.0.1:{self._client_port}", f"http://127.0.0.1:{self._peer_port}"
        flags = {
            "--data-dir": str(self._folder / "data"),
            "--name": "test",
            "--listen-client-urls": clients,
            "--advertise-client-urls": clients,
            "--listen-peer-urls": peers,
            "--initial-advertise-peer-urls": peers,
            "--initial-cluster": f"test={peers}",
            "--heartbeat-interval": "50",
            "--election-timeout": "500",
        }
        return Process(
            name="etcd",
            argv=(find_etcd(), *(part for flag in flags.items() for part in flag)),
            env={"PATH": os.environ.get("PATH", os.defpath)},
            is_ready=self._answers,
            log_path=self._folder / "log",
        )
