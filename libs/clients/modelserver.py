"""A model server as the scheduler calls it: typed orders in, typed events out.

What may go wrong with `execute` is told apart here, because it decides whose attempt it was:

    WorkerRefused   the worker took nothing (busy, draining, or it cannot be reached): no attempt was burned
    WorkerLost      the order was sent and the stream broke: nobody knows how far it came
    other errors    the worker answered with this error instead of events
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import grpc

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as pb_grpc
from libs import errors
from libs.blobs.uploads import upload_key
from libs.clients.device_state import DeviceTime, ModelPlace
from libs.generation.attempt import Checkpointed, FailureKind, ImageStored, StageDone
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec
from libs.ids import JobId, TenantId, UploadId
from libs.rpc import deadlines
from libs.rpc.channel import ended
from libs.rpc.status import translated
from libs.wire.image import image_from_pb
from libs.wire.model import model_from_pb
from libs.wire.spec import spec_to_pb

PEER = "model server"
_REFUSALS = ("WORKER_BUSY", "DRAINING")


class WorkerRefused(errors.Unavailable):
    """The worker did not take the order; nothing runs there because of it."""

    reason = "WORKER_BUSY"


class WorkerLost(errors.Unavailable):
    """The stream of an order broke before its last event."""

    reason = "WORKER_LOST"


@dataclass(frozen=True, slots=True)
class Order:
    """One attempt at one job; (job, attempt) is its token. `model_version` is pinned, `id@version`.

    `resume_from` is the `ref` of the checkpoint to go on from, or empty. `tenant_id` is whose uploads the spec names.
    `attach`: follow it if it is known there, and never begin it.
    """

    job_id: JobId
    attempt: int
    epoch: int
    model_version: str
    spec: GenerationSpec
    resume_from: str = ""
    tenant_id: TenantId = TenantId("")
    attach: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """Denoising steps done, 1 to `total`; `eta_s` seconds until the pictures are ready."""

    attempt: int
    step: int
    total: int
    eta_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """A rough picture of image `index`."""

    attempt: int
    step: int
    total: int
    index: int
    content_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class AttemptDone:
    """The attempt ended well, having used `gpu_ms` milliseconds of the device."""

    gpu_ms: float
    peak_memory_bytes: float = 0.0


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """The attempt ended without its pictures."""

    kind: FailureKind
    reason: str
    message: str
    gpu_ms: float = 0.0


AttemptEvent = Progress | Preview | StageDone | ImageStored | Checkpointed | AttemptDone | AttemptFailed


class ModelServer(Protocol):
    """One worker process. It refuses (EPOCH_STALE) a leader's `epoch` that is lower than one it has heard."""

    def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
        """Run an attempt, or follow it; the last event is AttemptDone or AttemptFailed. Raises DarkroomError.

        To follow one that it does not know raises NotFound (ATTEMPT_UNKNOWN).
        """
        ...

    async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Stop an attempt at its next step; False when it does not run there. Raises DarkroomError."""
        ...

    async def describe_models(self) -> list[Model]:
        """Return every model it found, the default one first. Raises DarkroomError."""
        ...

    async def warm(self, pinned: str, tier: str) -> None:
        """Begin to bring a model, `id@version`, into `vram` or `ram`. Raises DarkroomError."""
        ...

    async def evict(self, pinned: str) -> bool:
        """Let a model's weights go; False when it draws or was not in memory. Raises DarkroomError."""
        ...

    async def residency(self) -> list[ModelPlace]:
        """Return where every usable model's weights are. Raises DarkroomError."""
        ...

    async def device_time(self) -> DeviceTime:
        """Return what the device's time went into since its process began. Raises DarkroomError."""
        ...

    async def park(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Take an attempt off the device, its state into memory; False when it cannot be. Raises DarkroomError."""
        ...

    async def resume(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Let a parked attempt go on; False when it is not parked there. Raises DarkroomError."""
        ...

    async def close(self) -> None:
        """Give the connection back."""
        ...


class ModelServerClient:
    """A ModelServer over gRPC; owns its channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub = pb_grpc.ModelServerServiceStub(channel)

    async def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
        """Run an attempt. An order is sent only once the worker is reached, so that unreachable is not lost."""
        await self._reach()
        call = self._stub.Execute(_order_to_pb(order), timeout=deadlines.EXECUTE_S)
        with _told_apart(), ended(call):
            async for message in call:
                event = event_from_pb(message)
                if event is not None:
                    yield event

    async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Stop an attempt at its next step."""
        request = pb.CancelAttemptRequest(job_id=job_id, attempt=attempt, epoch=epoch)
        with translated(PEER):
            answer = await self._stub.CancelAttempt(request, timeout=deadlines.CONTROL_S)
        return bool(answer.found)

    async def describe_models(self) -> list[Model]:
        """Return every model it found."""
        request = pb.DescribeModelsRequest()
        with translated(PEER):
            answer = await self._stub.DescribeModels(request, timeout=deadlines.DESCRIBE_S, wait_for_ready=True)
        return [model_from_pb(model) for model in answer.models]

    async def warm(self, pinned: str, tier: str) -> None:
        """Begin to bring a model into memory."""
        request = pb.WarmModelRequest(model_version=pinned, tier=tier)
        with translated(PEER):
            await self._stub.WarmModel(request, timeout=deadlines.CONTROL_S)

    async def evict(self, pinned: str) -> bool:
        """Let a model's weights go."""
        request = pb.EvictModelRequest(model_version=pinned)
        with translated(PEER):
            return bool((await self._stub.EvictModel(request, timeout=2 * deadlines.CONTROL_S)).evicted)

    async def residency(self) -> list[ModelPlace]:
        """Return where every usable model's weights are."""
        with translated(PEER):
            answer = await self._stub.GetResidency(pb.GetResidencyRequest(), timeout=deadlines.CONTROL_S)
        return [
            ModelPlace(m.model_version, m.tier, m.bytes, m.load_share if m.HasField("load_share") else None)
            for m in answer.models
        ]

    async def device_time(self) -> DeviceTime:
        """Return what the device's time went into since its process began."""
        with translated(PEER):
            answer = await self._stub.GetDeviceTime(pb.GetDeviceTimeRequest(), timeout=deadlines.CONTROL_S)
        return DeviceTime(answer.busy_ms, answer.loading_ms, answer.idle_ms, answer.failed_ms, answer.stopped_ms)

    async def park(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Take an attempt off the device, its state into memory; False when it cannot be."""
        request = pb.ParkAttemptRequest(job_id=job_id, attempt=attempt, epoch=epoch)
        with translated(PEER):
            return bool((await self._stub.ParkAttempt(request, timeout=deadlines.CONTROL_S)).parked)

    async def resume(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Let a parked attempt go on; False when it is not parked there."""
        request = pb.ResumeAttemptRequest(job_id=job_id, attempt=attempt, epoch=epoch)
        with translated(PEER):
            return bool((await self._stub.ResumeAttempt(request, timeout=deadlines.CONTROL_S)).resumed)

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()

    async def _reach(self) -> None:
        try:
            async with asyncio.timeout(deadlines.CONTROL_S):
                await self._channel.channel_ready()
        except (TimeoutError, grpc.aio.UsageError) as error:  # the channel was closed
            raise WorkerRefused("The worker cannot be reached.", reason="UNAVAILABLE") from error


def event_from_pb(event: pb.ExecuteEvent) -> AttemptEvent | None:
    """Return the event; None for a kind that is newer than this code."""
    match event.WhichOneof("event"):
        case "progress":
            p = event.progress
            return Progress(p.attempt, p.step, p.total, p.eta_s)
        case "preview":
            v = event.preview
            return Preview(v.attempt, v.step, v.total, v.index, v.content_type, v.data)
        case "stage":
            return StageDone(event.stage.name, event.stage.start_s, event.stage.end_s)
        case "image":
            return image_from_pb(event.image)
        case "checkpoint":
            c = event.checkpoint
            return Checkpointed(c.ref, c.step, c.total)
        case "done":
            return AttemptDone(event.done.gpu_ms, event.done.peak_memory_bytes)
        case "failed":
            return _failed_from_pb(event.failed)
        case _:
            return None


def _order_to_pb(order: Order) -> pb.ExecuteRequest:
    return pb.ExecuteRequest(
        job_id=order.job_id,
        attempt=order.attempt,
        epoch=order.epoch,
        model_version=order.model_version,
        spec=spec_to_pb(dataclasses.replace(order.spec, webhook=None, labels={})),  # no worker needs them
        resume_from=order.resume_from,
        input_image_key=_upload_key(order, order.spec.input_image),
        mask_image_key=_upload_key(order, order.spec.mask_image),
        attach=order.attach,
    )


def _upload_key(order: Order, upload_id: str) -> str:
    return upload_key(order.tenant_id, UploadId(upload_id)) if upload_id else ""


def _failed_from_pb(failed: pb.AttemptFailed) -> AttemptFailed:
    kind = FailureKind.__members__.get(pb.AttemptFailed.Kind.Name(failed.kind), FailureKind.TRANSIENT)
    return AttemptFailed(kind, failed.reason, failed.message, failed.gpu_ms)


@contextmanager
def _told_apart() -> Iterator[None]:
    try:
        with translated(PEER):
            yield
    except errors.DarkroomError as known:
        if known.reason in _REFUSALS:
            raise WorkerRefused(known.message, reason=known.reason) from known
        if isinstance(known, errors.Unavailable):
            raise WorkerLost(f"The worker stopped answering: {known.message}") from known
        raise
