"""What the gateway adds to a job on its way out: signed links, and the headers of answers about one job."""

from __future__ import annotations

import math

from google.protobuf.timestamp_pb2 import Timestamp

from darkroom.v1 import job_pb2
from libs.ids import JobId, TenantId
from services.gateway.reading.links import Links

RESULT_LIFE_S = 24 * 3600  # of a link in an event, which does not say when the job's pictures are removed
FINAL_STATES = frozenset(
    {job_pb2.Job.SUCCEEDED, job_pb2.Job.FAILED, job_pb2.Job.CANCELLED, job_pb2.Job.EXPIRED}
)  # no further change
FINAL_EVENTS = frozenset({"completed", "failed", "cancelled", "expired"})
_POLL_MOST_S = 60


class Presenter:
    """Decorates messages in place and returns them."""

    def __init__(self, links: Links) -> None:
        self._links = links

    def job(self, job: job_pb2.Job) -> job_pb2.Job:
        """Give every picture its link."""
        expires_at = _expiry(job)
        for image in job.images:
            self._link(image, expires_at)
        return job

    def created(self, job: job_pb2.Job, tenant_id: TenantId) -> job_pb2.Job:
        """Give a create answer its links and the token of its event stream."""
        if job.id:
            job.events_url = self._links.events_path(JobId(job.id), tenant_id, _expiry(job))
        return self.job(job)

    def event(self, event: job_pb2.JobEvent) -> job_pb2.JobEvent:
        """Give every picture of an event its link."""
        kind = event.WhichOneof("event")
        expires_at = event.time.seconds + RESULT_LIFE_S
        images = [event.image.image] if kind == "image" else event.completed.images if kind == "completed" else []
        for image in images:
            self._link(image, expires_at)
        return event

    def _link(self, image: job_pb2.Image, expires_at: int) -> None:
        image.url = self._links.blob_path(image.sha256, image.content_type, expires_at)


def is_final(job: job_pb2.Job) -> bool:
    """Whether nothing more will happen to the job."""
    return job.state in FINAL_STATES


def job_headers(job: job_pb2.Job) -> list[tuple[str, str]]:
    """Return the headers of every answer about one job."""
    headers = [("x-model-version", job.model_version), ("x-cost-estimated", f"{job.cost.estimated_units:g}")]
    if job.cache:
        headers.append(("x-cache", job.cache.lower()))
    if job.state == job_pb2.Job.QUEUED:
        headers.append(("x-queue-position", str(job.queue.position)))
        headers.append(("x-estimated-wait", str(math.ceil(job.queue.wait_p50_s))))
    return headers


def poll_after_s(job: job_pb2.Job) -> int:
    """Return when it is worth asking for a job again, in whole seconds: its wait, then its run."""
    running_s = job.progress.eta_s or job.cost.estimated_units / 1000
    waiting_s = job.queue.wait_p50_s if job.state == job_pb2.Job.QUEUED else 0.0
    return min(_POLL_MOST_S, max(1, math.ceil(waiting_s + running_s)))


def _expiry(job: job_pb2.Job) -> int:
    """Return when links to a job's pictures end, in Unix seconds."""
    if job.HasField("expire_time"):
        return job.expire_time.seconds
    known: Timestamp = job.end_time if job.HasField("end_time") else job.create_time
    return known.seconds + RESULT_LIFE_S
