"""Attempts on the wire: `ExecuteRequest` → `Order`, `Event` → `ExecuteEvent`."""

from __future__ import annotations

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest
from libs.generation.attempt import Checkpointed, FailureKind, ImageStored, StageDone
from libs.ids import JobId
from libs.wire.image import image_to_pb
from libs.wire.spec import spec_from_pb
from services.modelserver.attempt import Key, Order
from services.modelserver.engine.protocol import Tier
from services.modelserver.events import Done, Event, Failed, Preview, Progress
from services.modelserver.stockroom import Place

_KINDS = {kind: pb.AttemptFailed.Kind.Value(kind.name) for kind in FailureKind}


def order_from_pb(request: pb.ExecuteRequest) -> Order:
    """Return what to run; raises InvalidRequest when the token or the model is missing."""
    if not (request.job_id and request.attempt and request.model_version):
        raise InvalidRequest("An attempt needs job_id, attempt and model_version.")
    return Order(
        job_id=JobId(request.job_id),
        attempt=request.attempt,
        epoch=request.epoch,
        pinned=request.model_version,
        spec=spec_from_pb(request.spec),
        resume_from=request.resume_from,
        input_key=request.input_image_key,
        mask_key=request.mask_image_key,
        attach=request.attach,
    )


def key_from_pb(request: pb.CancelAttemptRequest | pb.ParkAttemptRequest | pb.ResumeAttemptRequest) -> Key:
    """Return the token of the attempt that is meant."""
    return JobId(request.job_id), request.attempt


def tier_from_pb(text: str) -> Tier:
    """Return how near a model is to be brought; raises InvalidRequest."""
    near = {"": Tier.VRAM, Tier.VRAM.value: Tier.VRAM, Tier.RAM.value: Tier.RAM}.get(text)
    if near is None:
        raise InvalidRequest("A model is brought into vram or ram.")
    return near


def place_to_pb(place: Place) -> pb.ModelResidency:
    """Return the message of where a model is."""
    return pb.ModelResidency(
        model_version=place.pinned, tier=place.tier.value, bytes=place.weight_bytes, load_share=place.load_share
    )


def event_to_pb(event: Event, attempt: int) -> pb.ExecuteEvent:
    """Return the message of an event of this attempt."""
    match event:
        case Progress(step, total, eta_s):
            progress = job_pb2.Progress(attempt=attempt, step=step, total=total, eta_s=eta_s)
            return pb.ExecuteEvent(progress=progress)
        case Preview(step, total, index, content_type, data):
            preview = job_pb2.PreviewEvent(
                attempt=attempt, step=step, total=total, index=index, content_type=content_type, data=data
            )
            return pb.ExecuteEvent(preview=preview)
        case StageDone(name, start_s, end_s):
            return pb.ExecuteEvent(stage=pb.StageDone(name=name, start_s=start_s, end_s=end_s))
        case ImageStored():
            return pb.ExecuteEvent(image=image_to_pb(event))
        case Checkpointed(ref, step, total):
            return pb.ExecuteEvent(checkpoint=pb.CheckpointSaved(ref=ref, step=step, total=total))
        case Done(gpu_ms, peak_memory_bytes):
            return pb.ExecuteEvent(done=pb.AttemptDone(gpu_ms=gpu_ms, peak_memory_bytes=peak_memory_bytes))
        case Failed(kind, reason, message, gpu_ms):
            failed = pb.AttemptFailed(kind=_KINDS[kind], reason=reason, message=message, gpu_ms=gpu_ms)
            return pb.ExecuteEvent(failed=failed)
