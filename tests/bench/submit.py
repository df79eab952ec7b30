"""Submitting over REST, beside a bare grpc.aio echo and a bare Envoy-transcoded echo, in one run.

    make bench

The three are measured in turn, round after round, by the same client process, so that a change of the machine's
speed hits all of them. The model server is paused: only accepting is measured, never drawing. Every accepted job is
committed to SQLite with synchronous=FULL before it is acknowledged. Prints a Markdown table.
"""

from __future__ import annotations

import asyncio
import platform
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import httpx

from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as rpc
from darkroom.v1 import job_pb2
from libs.testing.stack import RunningStack
from tests.bench import echo
from tests.bench.calls import Call, Extent, measured, side_by_side

ROUNDS, CALLS = 3, 400
CONCURRENCY = (1, 16)
BODY = b'{"prompt": "a red circle left of a blue square"}'


def posting(client: httpx.AsyncClient, status: int) -> Call:
    """Return a call that submits over REST."""

    async def call() -> None:
        answer = await client.post("/v1/jobs", content=BODY)
        assert answer.status_code == status, answer.text

    return call


def echoing(channel: grpc.aio.Channel) -> Call:
    """Return a call of the bare echo over gRPC."""
    stub = rpc.GenerationServiceStub(channel)
    request = api.CreateJobRequest(spec=job_pb2.JobSpec(prompt="a red circle left of a blue square"))

    async def call() -> None:
        await stub.CreateJob(request, timeout=10)

    return call


@asynccontextmanager
async def darkroom() -> AsyncIterator[httpx.AsyncClient]:
    """Start the whole mesh with its model server paused."""
    with tempfile.TemporaryDirectory() as folder:
        stack = RunningStack(Path(folder) / "data")
        await asyncio.to_thread(stack.start)
        paused = stack.pid("modelserver-0")
        stack.kill("modelserver-0", signal.SIGSTOP)
        try:
            headers = {"authorization": f"Bearer {stack.key}"}
            async with httpx.AsyncClient(base_url=stack.base_url, headers=headers, timeout=30) as client:
                yield client
        finally:
            if stack.pid("modelserver-0") == paused:
                stack.kill("modelserver-0", signal.SIGCONT)
            await asyncio.to_thread(stack.stop)


async def main() -> None:
    """Measure and print."""
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(echo.running())
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.grpc))
        transcoded = await stack.enter_async_context(httpx.AsyncClient(base_url=running.rest, timeout=30))
        product = await stack.enter_async_context(darkroom())
        calls = {
            "bare grpc.aio echo": echoing(channel),
            "bare Envoy-transcoded echo": posting(transcoded, 200),
            "Darkroom, REST submit": posting(product, 202),
        }
        for call in calls.values():
            await measured(call, CALLS, 4)
        print(f"{platform.machine()}, Python {platform.python_version()}, {ROUNDS} rounds of {CALLS} calls each\n")
        print(
            "| what | in flight | p50 ms | p99 ms | calls/s | p50 against transcoded echo |\n|---|---|---|---|---|---|"
        )
        for concurrency in CONCURRENCY:
            await side_by_side(calls, "bare Envoy-transcoded echo", Extent(ROUNDS, CALLS), concurrency)


if __name__ == "__main__":
    asyncio.run(main())
