"""Many simulated model servers in one process: `python -m … NOTES SETTINGS`.

Each has a port of its own, a record and a lease of its own in etcd, and answers as services/modelserver does: Execute
with steps, stages, a picture and an outcome; attaching, cancelling, warming, evicting, parking. What it draws takes the
seconds that the prompt says, nothing is computed. It notes X when an order has come. Tokens are not checked.

SETTINGS is JSON: etcd (host:port), first and count (its workers' numbers), rows, models, resident, build.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import uvloop

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as pb_grpc
from darkroom.ratelimiter.v1 import limiter_service_pb2, limiter_service_pb2_grpc
from darkroom.v1 import job_pb2
from libs.clock import SystemClock
from libs.coordination.client import EtcdClient
from libs.coordination.etcd_registry import EtcdRegistry
from libs.fleet.announce import Announcer
from libs.fleet.record import WorkerRecord
from libs.generation.model import Model
from libs.ids import WorkerId
from libs.wire.model import model_to_pb
from tests.bench.mesh_parts.notes import Notebook

CLOCK = SystemClock()
STEPS = 8
WEIGHT_BYTES = 6 * 2**30
LEASE_TTL_S = 15  # the model server has 5; hundreds in one process on a busy machine would lose theirs
_MEMORY_BYTES = 24 * 2**30


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the workers of a process are like."""

    etcd: str
    first: int
    count: int
    rows: int
    models: list[str]
    resident: int  # models that fit on a device
    build: str = "bench"


@dataclass(slots=True)
class _Run:
    events: list[pb.ExecuteEvent] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    cancelled: bool = False


class Worker(pb_grpc.ModelServerServiceServicer):
    """One device, simulated."""

    def __init__(self, record: WorkerRecord, fleet: Fleet, announcer: Announcer, book: Notebook) -> None:
        self._name, self._fleet, self._announcer, self._book = record.worker_id, fleet, announcer, book
        self._resident = list(record.resident)
        self._runs: dict[tuple[str, int], _Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def Execute(self, request: pb.ExecuteRequest, context: Any) -> AsyncIterator[pb.ExecuteEvent]:
        key = (request.job_id, request.attempt)
        if key not in self._runs:
            if request.attach:
                await context.abort(grpc.StatusCode.NOT_FOUND, "not known here")
            self._book.add("X", request.job_id, self._name)
            self._runs[key] = run = _Run()
            task = asyncio.create_task(self._draw(request, run))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        run, told = self._runs[key], 0
        while True:
            while told < len(run.events):
                yield run.events[told]
                told += 1
            if run.over:
                return
            run.more.clear()
            await run.more.wait()

    async def CancelAttempt(self, request: pb.CancelAttemptRequest, _context: Any) -> pb.CancelAttemptResponse:
        run = self._runs.get((request.job_id, request.attempt))
        if run is not None:
            run.cancelled = True
        return pb.CancelAttemptResponse(found=run is not None)

    async def DescribeModels(self, _request: Any, _context: Any) -> pb.DescribeModelsResponse:
        models = [Model(pinned.partition("@")[0], pinned.partition("@")[2], "Pipe") for pinned in self._fleet.models]
        return pb.DescribeModelsResponse(models=[model_to_pb(model) for model in models])

    async def WarmModel(self, request: pb.WarmModelRequest, _context: Any) -> pb.WarmModelResponse:
        self._load(request.model_version)
        return pb.WarmModelResponse()

    async def EvictModel(self, request: pb.EvictModelRequest, _context: Any) -> pb.EvictModelResponse:
        there = request.model_version in self._resident
        if there:
            self._resident.remove(request.model_version)
            self._announce()
        return pb.EvictModelResponse(evicted=there)

    async def GetResidency(self, _request: Any, _context: Any) -> pb.GetResidencyResponse:
        places = [
            pb.ModelResidency(
                model_version=pinned, tier="vram" if pinned in self._resident else "disk", bytes=WEIGHT_BYTES
            )
            for pinned in self._fleet.models
        ]
        return pb.GetResidencyResponse(models=places, memory_bytes=_MEMORY_BYTES)

    async def ParkAttempt(self, _request: Any, _context: Any) -> pb.ParkAttemptResponse:
        return pb.ParkAttemptResponse(parked=False)

    async def ResumeAttempt(self, _request: Any, _context: Any) -> pb.ResumeAttemptResponse:
        return pb.ResumeAttemptResponse(resumed=False)

    async def _draw(self, request: pb.ExecuteRequest, run: _Run) -> None:
        draws_s = float(request.spec.prompt)
        self._load(request.model_version)
        self._announce()
        for step in range(1, STEPS + 1 if draws_s else 1):  # one that takes no time has no steps
            await CLOCK.sleep(draws_s / STEPS)
            left_s = draws_s * (STEPS - step) / STEPS
            progress = job_pb2.Progress(attempt=request.attempt, step=step, total=STEPS, eta_s=left_s)
            run.events.append(pb.ExecuteEvent(progress=progress))
            run.more.set()
        run.events += _outcome(request, run.cancelled, draws_s)
        run.over = True
        run.more.set()
        del self._runs[request.job_id, request.attempt]
        self._announce()

    def _load(self, pinned: str) -> None:
        if pinned not in self._resident:
            self._resident = [*self._resident, pinned][-self._fleet.resident :]
            self._announce()

    def _announce(self) -> None:
        used = len(self._runs)
        record = replace(
            self._announcer.record,
            resident=tuple(self._resident),
            residency=tuple((pinned, "vram") for pinned in self._resident),
            rows_in_use=used,
            load_share=round(used / self._fleet.rows, 2),
        )
        self._announcer.publish(record)


class Limiter(limiter_service_pb2_grpc.LimiterServiceServicer):
    """Takes every confirmation and settlement."""

    async def Confirm(self, _request: Any, _context: Any) -> limiter_service_pb2.ConfirmResponse:
        return limiter_service_pb2.ConfirmResponse()

    async def Settle(self, _request: Any, _context: Any) -> limiter_service_pb2.SettleResponse:
        return limiter_service_pb2.SettleResponse(applied=True)


def _outcome(request: pb.ExecuteRequest, cancelled: bool, draws_s: float) -> list[pb.ExecuteEvent]:
    gpu_ms = 1000 * draws_s
    if cancelled:
        return [pb.ExecuteEvent(failed=pb.AttemptFailed(kind=pb.AttemptFailed.CANCELLED, gpu_ms=gpu_ms))]
    sha256 = hashlib.sha256(request.job_id.encode()).hexdigest()
    image = job_pb2.Image(index=0, sha256=sha256, content_type="image/png", width=512, height=512, seed=7, size_bytes=5)
    return [
        *(pb.ExecuteEvent(stage=pb.StageDone(name=name, start_s=1.0, end_s=2.0)) for name in ("denoise", "decode")),
        pb.ExecuteEvent(image=image),
        pb.ExecuteEvent(done=pb.AttemptDone(gpu_ms=gpu_ms)),
    ]


async def _serve(servicer: Any, add: Any) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=(("grpc.keepalive_permit_without_calls", 1),))
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    return server, port


def _first_record(number: int, fleet: Fleet) -> WorkerRecord:
    resident = [fleet.models[(number + other) % len(fleet.models)] for other in range(fleet.resident)]
    return WorkerRecord(
        worker_id=WorkerId(f"worker-{number:04}"),
        incarnation=f"i{number}",
        address="127.0.0.1:1",
        device=f"GPU-{number}",
        memory_bytes=_MEMORY_BYTES,
        models=tuple(fleet.models),
        resident=tuple(resident),
        rows=fleet.rows,
        rows_in_use=0,
        started_at=1.0,
        residency=tuple((pinned, "vram") for pinned in resident),
        engine_build=fleet.build,
    )


async def main(notes: Path, fleet: Fleet) -> None:
    """Serve until told to stop; prints the limiter's port once all workers serve."""
    logging.disable()
    book, stop = Notebook(notes), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    limiter, limiter_port = await _serve(Limiter(), limiter_service_pb2_grpc.add_LimiterServiceServicer_to_server)
    servers = [limiter]
    async with EtcdClient([fleet.etcd], timeout_s=10.0) as etcd:
        registry = EtcdRegistry(etcd, CLOCK)
        tasks = [asyncio.create_task(book.run())]
        for number in range(fleet.first, fleet.first + fleet.count):
            record = _first_record(number, fleet)
            announcer = Announcer(registry, record, lease_ttl_s=LEASE_TTL_S, clock=CLOCK)
            worker = Worker(record, fleet, announcer, book)
            server, port = await _serve(worker, pb_grpc.add_ModelServerServiceServicer_to_server)
            announcer.publish(replace(record, address=f"127.0.0.1:{port}"))
            servers.append(server)
            tasks.append(asyncio.create_task(announcer.run()))
        print(limiter_port, flush=True)
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    book.flush()
    await asyncio.gather(*(server.stop(0) for server in servers))


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), Fleet(**json.loads(sys.argv[2]))))
