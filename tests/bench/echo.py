"""The bare things to measure against: a grpc.aio echo in a process of its own, and the same behind a bare transcoder."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import yaml

from darkroom.v1 import generation_service_pb2_grpc as rpc
from darkroom.v1 import job_pb2
from libs.devstack.binaries import find_envoy
from libs.devstack.ports import free_port
from libs.devstack.process import signal_group
from libs.testing import waiting
from services.gateway.envoy.bootstrap import Edge, render

_START_S = 30.0


class Echo(rpc.GenerationServiceServicer):
    """Answers at once with a job."""

    async def CreateJob(self, _request, _context):
        return job_pb2.Job(id="job_echo", state=job_pb2.Job.QUEUED)

    async def CreateJobJson(self, _request, _context):
        return job_pb2.Job(id="job_echo", state=job_pb2.Job.QUEUED)


@dataclass(frozen=True, slots=True)
class Running:
    """Where the echoes listen."""

    grpc: str
    rest: str


async def serve(address: str) -> None:
    """Serve the echo until the process is ended."""
    server = grpc.aio.server()
    rpc.add_GenerationServiceServicer_to_server(Echo(), server)
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def bare_transcoder(listen: str, admin: str, upstream: str) -> dict[str, object]:
    """Return the product's Envoy configuration with nothing but transcoder and router left in it."""
    config = render(Edge(listen=listen, admin=admin, gateway=upstream, ratelimiter=upstream)).to_dict()
    manager = config["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0]["typedConfig"]
    kept = ("envoy.filters.http.grpc_json_transcoder", "envoy.filters.http.router")
    manager["httpFilters"] = [f for f in manager["httpFilters"] if f["name"] in kept]
    for extra in ("accessLog", "localReplyConfig"):
        manager.pop(extra)
    return dict(config)


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    """Start both."""
    ports = [free_port() for _ in range(3)]
    upstream, listen, admin = (f"127.0.0.1:{port}" for port in ports)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "envoy.yaml"
        config.write_text(yaml.safe_dump(bare_transcoder(listen, admin, upstream)))
        envoy = (find_envoy(), "--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "-c", str(config))
        commands = ((sys.executable, "-m", "tests.bench.echo", upstream), envoy)
        environ = {**os.environ, "DARKROOM_MESH_TOKEN": "unused"}
        children = [await asyncio.create_subprocess_exec(*c, env=environ, start_new_session=True) for c in commands]
        try:
            await waiting.until(lambda: _answers(f"http://{listen}"), _START_S)
            yield Running(upstream, f"http://{listen}")
        finally:
            for child in children:
                signal_group(child.pid, signal.SIGKILL)
                await child.wait()


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=url) as client:
            return (await client.post("/v1/jobs", content=b"{}")).status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
