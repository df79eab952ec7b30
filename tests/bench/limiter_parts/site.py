"""What the bench of the limiter measures, each in a process of its own: rate limiters, a bare echo, a Redis, Envoys."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from libs import secret_files
from libs.clients.limiter_admin import LimiterAdminClient
from libs.devstack.binaries import find_envoy
from libs.devstack.ports import free_port
from libs.devstack.process import signal_group
from libs.ids import TenantId
from libs.rpc.channel import open_channel
from libs.testing import waiting
from libs.testing.limiter import LimiterProcess
from libs.testing.redis import RedisServer
from services.gateway.envoy.bootstrap import Edge, render

_START_S = 60.0
_PLAIN = ("envoy.filters.http.grpc_json_transcoder", "envoy.filters.http.router")
_ASKING = ("envoy.filters.http.ext_authz", *_PLAIN)
# Every call is admitted: the bench measures decisions, and a denial writes nothing.
_TIERS = "".join(
    f"[{tier}]\nrequests_per_minute = 1e9\nrequests_burst = 1e9\nunits_per_minute = 1e12\nunits_burst = 1e12\n"
    f"in_flight_images = 1000000\ndaily_images = 1000000000\ndaily_units = 1e15\n"
    for tier in ("enterprise", "pro", "payg", "free", "anonymous")
)


@dataclass(frozen=True, slots=True)
class Site:
    """Everything at once; nobody is busy but whoever is measured. `plain` and `asking` are URLs of Envoys."""

    memory: LimiterProcess
    shared: LimiterProcess
    redis: RedisServer
    echo: str
    plain: str
    asking: str
    key: str


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Site]:
    """Start all of it."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(RedisServer())
        memory = await _limiter(stack, folder / "memory", "")
        shared = await _limiter(stack, folder / "redis", redis.url)
        echo = f"127.0.0.1:{free_port()}"
        await _child(stack, (sys.executable, "-m", "tests.bench.echo", echo), {})
        token = secret_files.read_token(folder / "memory" / "secrets", secret_files.MESH_TOKEN)
        plain = await _envoy(stack, folder, (echo, memory.address), _PLAIN, token)
        asking = await _envoy(stack, folder, (echo, memory.address), _ASKING, token)
        yield Site(memory, shared, redis, echo, plain, asking, await _key(folder / "memory", memory.address))


async def _limiter(stack: AsyncExitStack, folder: Path, redis_url: str) -> LimiterProcess:
    # Nobody confirms what the bench reserves: giving it back would be measured too.
    process = LimiterProcess(folder, "limiter", redis_url, _tiers(folder), RESERVATION_TTL_S="3600")
    stack.push_async_callback(process.kill)
    await process.start()
    return process


def _tiers(folder: Path) -> Path:
    folder.mkdir()
    tiers = folder / "tiers.toml"
    tiers.write_text(_TIERS)
    return tiers


async def _envoy(
    stack: AsyncExitStack, folder: Path, behind: tuple[str, str], kept: tuple[str, ...], token: str
) -> str:
    listen, admin = (f"127.0.0.1:{free_port()}" for _ in range(2))
    edge = Edge(listen=listen, admin=admin, gateway=behind[0], ratelimiter=behind[1], bursts=None)
    config: dict[str, Any] = dict(render(edge).to_dict())
    manager = config["staticResources"]["listeners"][0]["filterChains"][0]["filters"][0]["typedConfig"]
    manager["httpFilters"] = [each for each in manager["httpFilters"] if each["name"] in kept]
    for extra in ("accessLog", "localReplyConfig"):
        manager.pop(extra)
    file = folder / f"envoy-{len(kept)}.yaml"
    file.write_text(yaml.safe_dump(config))
    flags = ("--disable-hot-restart", "--concurrency", "1", "--log-level", "error", "-c", str(file))
    await _child(stack, (find_envoy(), *flags), {"DARKROOM_MESH_TOKEN": token})
    await waiting.until(lambda: _is_ready(f"http://{admin}/ready"), _START_S)
    return f"http://{listen}"


async def _key(folder: Path, address: str) -> str:
    mesh, operator = (
        secret_files.read_token(folder / "secrets", name)
        for name in (secret_files.MESH_TOKEN, secret_files.OPERATOR_TOKEN)
    )
    async with open_channel(address, mesh_token=mesh, operator_token=operator) as channel:
        return (await LimiterAdminClient(channel).create_key(TenantId("bench"), "pro", "bench")).secret


async def _child(stack: AsyncExitStack, argv: tuple[str, ...], env: dict[str, str]) -> None:
    running = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env}, start_new_session=True)

    async def end() -> None:
        signal_group(running.pid, signal.SIGKILL)
        await running.wait()

    stack.push_async_callback(end)


async def _is_ready(url: str) -> bool:
    try:
        async with httpx.AsyncClient() as client:
            return "LIVE" in (await client.get(url)).text
    except httpx.TransportError:
        return False
