"""Events → messages. What the payload of each kind holds stands in changes.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from darkroom.v1 import job_pb2
from libs.clients.modelserver import Progress
from libs.generation.attempt import ImageStored
from libs.ids import JobId
from libs.wire.image import image_to_pb
from services.scheduler.events.watch_inbox import Transient
from services.scheduler.forecast.estimator import QueueEstimate
from services.scheduler.job import DurableEvent, Failure
from services.scheduler.wire import failure_to_pb, progress_to_pb, queue_to_pb, stamp


def durable_to_pb(event: DurableEvent, queue: QueueEstimate | None) -> job_pb2.JobEvent:
    """Return a durable event; `queue` is where the job stands now, for a `queued` one that still holds."""
    message = job_pb2.JobEvent(job_id=event.job_id, sequence=event.seq, time=stamp(event.time))
    payload = event.payload
    match event.kind:
        case "queued":
            message.queued.CopyFrom(job_pb2.QueuedEvent(queue=queue_to_pb(queue) if queue else None))
        case "started":
            message.started.CopyFrom(job_pb2.StartedEvent(attempt=payload["attempt"], worker=payload["worker"]))
        case "image":
            message.image.CopyFrom(job_pb2.ImageEvent(image=_image(payload["image"])))
        case "completed":
            images = [_image(image) for image in payload["images"]]
            message.completed.CopyFrom(job_pb2.CompletedEvent(images=images, cost=_cost(payload)))
        case "failed":
            failure = Failure(payload["reason"], payload["message"], payload["metadata"])
            message.failed.CopyFrom(job_pb2.FailedEvent(error=failure_to_pb(failure), cost=_cost(payload)))
        case "cancelled":
            message.cancelled.CopyFrom(job_pb2.CancelledEvent(cost=_cost(payload)))
        case "expired":
            message.expired.CopyFrom(job_pb2.ExpiredEvent(waited_s=payload["waited_s"]))
        case _:
            raise ValueError(f"{event.kind!r} is not a kind of event")
    return message


def transient_to_pb(job_id: JobId, item: Transient, now: float) -> job_pb2.JobEvent:
    """Return a passing event; it has no sequence."""
    message = job_pb2.JobEvent(job_id=job_id, time=stamp(now))
    if isinstance(item, Progress):
        message.progress.CopyFrom(progress_to_pb(item))
    else:
        message.preview.CopyFrom(
            job_pb2.PreviewEvent(
                attempt=item.attempt,
                step=item.step,
                total=item.total,
                index=item.index,
                content_type=item.content_type,
                data=item.data,
            )
        )
    return message


def _image(document: Mapping[str, Any]) -> job_pb2.Image:
    return image_to_pb(ImageStored(**document))


def _cost(payload: Mapping[str, Any]) -> job_pb2.Cost:
    return job_pb2.Cost(**payload["cost"])
