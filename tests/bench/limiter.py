"""Decisions of the rate limiter beside a bare grpc.aio echo and the same Redis answering INCR: `make bench/limiter`.

    python -m tests.bench.limiter [--calls 2000] [--rounds 3] [--tenants 1000 10000 100000] [--quick]

Everything runs in a process of its own and is measured in turn by the same client process, round after round, so that
a change of the machine's speed hits all of them. A decision is one Reserve of a new job that is admitted: requests,
units, places in flight and the day. Then the same with more and more tenants that have spent something, and what asking
the rate limiter costs a REST request behind Envoy, beside an Envoy that only transcodes. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import platform
import random
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import httpx
from redis.asyncio import Redis

from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as rpc
from libs.clients.limiter import LimiterClient, Reservation
from libs.ids import JobId, TenantId
from tests.bench.calls import Call, Extent, measured, side_by_side
from tests.bench.limiter_parts import site as sites
from tests.bench.limiter_parts.site import Site

IN_FLIGHT = (1, 16, 64)
TENANTS = 10_000


def reserving(client: LimiterClient, tenants: int, ids: Iterator[int]) -> Call:
    """Return a decision over one of so many tenants."""
    chosen = random.Random(7)

    async def call() -> None:
        tenant = TenantId(f"tenant_{chosen.randrange(tenants)}")
        decision = await client.reserve(Reservation(JobId(f"job_{next(ids)}"), tenant, "pro", 100.0, 1))
        assert decision.denial is None
        assert ("x-ratelimit-degraded", "1") not in decision.headers

    return call


def echoing(channel: grpc.aio.Channel) -> Call:
    """Return a call of the bare echo."""
    stub, request = rpc.GenerationServiceStub(channel), api.CreateJobRequest()
    return lambda: stub.CreateJob(request, timeout=10)


def posting(client: httpx.AsyncClient) -> Call:
    """Return a REST request that the echo answers."""

    async def call() -> None:
        answer = await client.post("/v1/jobs", content=b'{"prompt": "a red circle"}')
        assert answer.status_code == 200, answer.text

    return call


async def decisions(site: Site, options: argparse.Namespace, ids: Iterator[int]) -> None:
    """Print decisions beside the bare things."""
    print("| what | in flight | p50 ms | p99 ms | calls/s | p50 against bare echo |\n|---|---|---|---|---|---|")
    async with grpc.aio.insecure_channel(site.echo) as channel, Redis.from_url(site.redis.url) as redis:
        await channel.channel_ready()
        calls = {
            "bare grpc.aio echo": echoing(channel),
            "the same Redis, INCR": lambda: redis.incr("bench"),
            "Reserve, ledger in memory": reserving(site.memory.client, TENANTS, ids),
            "Reserve, ledger in Redis": reserving(site.shared.client, TENANTS, ids),
        }
        for call in calls.values():
            await measured(call, 200, 4)
        for in_flight in IN_FLIGHT:
            await side_by_side(calls, "bare grpc.aio echo", Extent(options.rounds, options.calls), in_flight)


async def growth(site: Site, options: argparse.Namespace, ids: Iterator[int]) -> None:
    """Print decisions with more and more tenants that have spent something."""
    print("\n| ledger | tenants | p50 ms | p99 ms | decisions/s | memory MiB |\n|---|---|---|---|---|---|")
    for name, process in (("memory", site.memory), ("Redis", site.shared)):
        known = 0
        for tenants in options.tenants:
            new = iter(range(known, tenants))
            await asyncio.gather(*(_fill(process.client, new, ids) for _ in range(64)))
            known = tenants
            sample = await measured(reserving(process.client, tenants, ids), options.calls, 16)
            used = await _redis_mib(site) if process is site.shared else _resident_mib(process.pid)
            p50, p99, rate = sample.figures
            print(f"| {name} | {tenants} | {p50:.2f} | {p99:.2f} | {rate:.0f} | {used:.0f} |", flush=True)


async def _fill(client: LimiterClient, new: Iterator[int], ids: Iterator[int]) -> None:
    for number in new:
        tenant = TenantId(f"tenant_{number}")
        await client.reserve(Reservation(JobId(f"job_{next(ids)}"), tenant, "pro", 100.0, 1))


async def _redis_mib(site: Site) -> float:
    async with Redis.from_url(site.redis.url) as redis:
        return float((await redis.info("memory"))["used_memory"]) / 2**20


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


async def door(site: Site, options: argparse.Namespace) -> None:
    """Print what asking costs a request behind Envoy; a fourth of the calls, for they are slow."""
    print(
        "\n| Envoy | in flight | p50 ms | p99 ms | calls/s | p50 against transcoding only |\n|---|---|---|---|---|---|"
    )
    keyed = {"authorization": f"Bearer {site.key}"}
    async with AsyncExitStack() as stack:
        plain, asking = [
            await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=keyed, timeout=30, trust_env=False))
            for url in (site.plain, site.asking)
        ]
        calls = {"transcodes only": posting(plain), "asks the rate limiter (ext_authz)": posting(asking)}
        for call in calls.values():
            await measured(call, 100, 4)
        for in_flight in IN_FLIGHT[:2]:
            await side_by_side(calls, "transcodes only", Extent(options.rounds, options.calls // 4), in_flight)


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tenants", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.calls, options.rounds, options.tenants = 200, 1, [200, 400]
    ids = itertools.count()
    print(
        f"{platform.machine()}, Python {platform.python_version()}, {options.rounds} rounds of {options.calls} calls\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        async with sites.running(Path(folder)) as site:
            await decisions(site, options, ids)
            await door(site, options)
            await growth(site, options, ids)


if __name__ == "__main__":
    asyncio.run(main())
