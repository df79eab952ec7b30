from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import job_pb2
from darkroom.v1 import model_service_pb2 as models_pb
from darkroom.v1.generation_service_pb2_grpc import GenerationServiceStub
from darkroom.v1.model_service_pb2_grpc import ModelServiceStub
from libs import secret_files
from libs.devstack.ports import free_port
from libs.rpc.channel import open_channel
from libs.rpc.status import from_rpc_error
from libs.testing import waiting
from tests.integration.services.gateway.peers import MESH, FakeLimiter, FakeScheduler, as_caller

SECRET = "a prompt that no log may hold"


async def spawn(**environment: str) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "OTEL_"))}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.gateway",
        env={**inherited, **{f"DARKROOM_{name}": value for name, value in environment.items()}},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@asynccontextmanager
async def running(
    data: Path, failpoint: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, grpc.aio.Channel, FakeScheduler, FakeLimiter]]:
    """A gateway process that has its catalog, on two fake peers in this process."""
    secret_files.ensure(data / "secrets")
    secret_files.write_private(data / "secrets" / secret_files.MESH_TOKEN, MESH)
    scheduler, limiter, port = FakeScheduler(), FakeLimiter(), free_port()
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        servers = [await scheduler.serve(), await limiter.serve()]
        for server in servers:
            stack.push_async_callback(server.grpc.stop, 0)
        process = await spawn(
            DATA=str(data), LISTEN=f"127.0.0.1:{port}", FAILPOINT=failpoint, DRAIN_S="30",
            SCHEDULER_ADDRESS=f"127.0.0.1:{servers[0].port}", LIMITER_ADDRESS=f"127.0.0.1:{servers[1].port}",
        )  # fmt: skip
        stack.callback(lambda: process.kill() if process.returncode is None else None)
        channel = await stack.enter_async_context(open_channel(f"127.0.0.1:{port}", mesh_token=MESH))

        async def is_up() -> bool:
            try:
                await ModelServiceStub(channel).ListModels(
                    models_pb.ListModelsRequest(), metadata=as_caller(), timeout=2
                )
            except grpc.aio.AioRpcError:
                return False
            return True

        await waiting.until(is_up, within_s=30)
        yield process, channel, scheduler, limiter


async def test_a_stop_ends_open_streams_and_logs_no_prompt(tmp_path: Path) -> None:
    async with running(tmp_path) as (process, channel, scheduler, _):
        jobs = GenerationServiceStub(channel)
        health = health_pb2_grpc.HealthStub(channel)
        status = await health.Check(health_pb2.HealthCheckRequest(service="darkroom.v1.GenerationService"))
        assert status.status == health_pb2.HealthCheckResponse.SERVING
        request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt=SECRET))
        made = await jobs.CreateJob(request, metadata=as_caller())
        scheduler.hold_at = 3
        stream = jobs.StreamJobEvents(pb.StreamJobEventsRequest(id=made.id), metadata=as_caller())
        await scheduler.holding.wait()
        process.send_signal(signal.SIGTERM)
        frames = [body.data async for body in stream]
        assert not any(b"event: completed" in frame for frame in frames)
        _, log = await process.communicate()  # far within the 30 s that work has to finish: nothing is left
        scheduler.release.set()
    assert process.returncode == 0
    assert made.id in log.decode()
    assert SECRET not in log.decode()
    assert "Traceback" not in log.decode()


async def test_open_calls_end_with_their_key(tmp_path: Path) -> None:
    async with running(tmp_path) as (process, channel, scheduler, limiter):
        jobs, scheduler.hold_at = GenerationServiceStub(channel), 3
        request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt="a"))
        made = await jobs.CreateJob(request, metadata=as_caller())
        read = jobs.StreamJobEvents(pb.StreamJobEventsRequest(id=made.id), metadata=as_caller())
        watched = jobs.WatchJob(pb.WatchJobRequest(id=made.id), metadata=as_caller())
        waited = jobs.CreateJob(request, metadata=as_caller(prefer="wait=60"))
        linked = jobs.StreamJobEvents(
            pb.StreamJobEventsRequest(id=made.id, token=made.events_url.partition("token=")[2]), metadata=as_caller()
        )
        assert [(await watched.read()).sequence, (await watched.read()).sequence] == [1, 2]
        await linked.read()
        limiter.identity.ended["key_1"] = "KEY_REVOKED"
        frames = [body.data async for body in read]
        assert frames[-1].startswith(b"event: error\n")
        assert b'"KEY_REVOKED"' in frames[-1]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await watched.read()
        assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert from_rpc_error(error.value, "gateway").reason == "KEY_REVOKED"
        accepted = await waited  # it is charged already, so its id is told whatever became of the key
        assert (bool(accepted.id), accepted.state) == (True, made.state)
        scheduler.release.set()
        assert b"event: completed" in [body.data async for body in linked][-1]  # a link is a permission of its own
        process.terminate()
        await process.communicate()


async def test_the_failpoint_dies_between_reserve_and_submit(tmp_path: Path) -> None:
    async with running(tmp_path, "after_reserve") as (process, channel, scheduler, limiter):
        request = pb.CreateJobRequest(spec=job_pb2.JobSpec(prompt="a"))
        with pytest.raises(grpc.aio.AioRpcError):
            await GenerationServiceStub(channel).CreateJob(request, metadata=as_caller())
        await process.communicate()
    assert (process.returncode, len(limiter.reserved), scheduler.requests) == (9, 1, [])


async def test_bad_settings_end_it_with_status_2_naming_them() -> None:
    process = await spawn(DATA="/x", LISTEN="nowhere", SCHEDULER_ADRESS="127.0.0.1:1")
    async with asyncio.timeout(60):
        _, log = await process.communicate()
    assert process.returncode == 2
    for name in ("DARKROOM_LISTEN", "DARKROOM_SCHEDULER_ADRESS", "DARKROOM_LIMITER_ADDRESS"):
        assert name in log.decode()


async def test_an_absent_secret_ends_it_with_status_2_and_one_line(tmp_path: Path) -> None:
    process = await spawn(DATA=str(tmp_path), SCHEDULER_ADDRESS="127.0.0.1:1", LIMITER_ADDRESS="127.0.0.1:1")
    async with asyncio.timeout(60):
        _, log = await process.communicate()
    assert (process.returncode, "Traceback" in log.decode()) == (2, False)
    assert "mesh-token" in log.decode()
