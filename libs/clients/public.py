"""The public API over gRPC, as the CLI uses it: the same door and the same keys as everybody's."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.api import httpbody_pb2

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import generation_service_pb2_grpc as rpc
from darkroom.v1 import (
    job_pb2,
    model_pb2,
    model_service_pb2,
    model_service_pb2_grpc,
    upload_service_pb2,
    upload_service_pb2_grpc,
)
from libs.backoff import Backoff
from libs.clock import Clock, SystemClock
from libs.errors import Unavailable
from libs.rpc import deadlines
from libs.rpc.channel import ended
from libs.rpc.status import translated

PEER = "Darkroom server"
_MOST_TRIES = 40
_PART_BYTES = 1024 * 1024


class PublicClient:
    """Calls with one key (empty: anonymous). Every failure is a DarkroomError."""

    def __init__(self, channel: grpc.aio.Channel, key: str, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._jobs = rpc.GenerationServiceStub(channel)
        self._uploads = upload_service_pb2_grpc.UploadServiceStub(channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(channel)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()

    async def create(self, spec: job_pb2.JobSpec, request_id: str) -> job_pb2.Job:
        """Create a job; the same `request_id` leads to the same job."""
        request = pb.CreateJobRequest(spec=spec, request_id=request_id)
        with translated(PEER):
            return await self._jobs.CreateJob(request, metadata=self._metadata, timeout=deadlines.COMMIT_S)

    async def get(self, job_id: str) -> job_pb2.Job:
        """Read one job."""
        with translated(PEER):
            return await self._jobs.GetJob(
                pb.GetJobRequest(id=job_id), metadata=self._metadata, timeout=deadlines.READ_S
            )

    async def list_jobs(self, limit: int, state: str) -> list[job_pb2.Job]:
        """List up to `limit` jobs, newest first; `state` is a name of the public enum or empty."""
        wanted, token = job_pb2.Job.State.Value(state or "UNSPECIFIED"), ""
        found: list[job_pb2.Job] = []
        while len(found) < limit:
            request = pb.ListJobsRequest(page_size=min(limit - len(found), 200), page_token=token, state=wanted)
            with translated(PEER):
                page = await self._jobs.ListJobs(request, metadata=self._metadata, timeout=deadlines.READ_S)
            found += page.jobs
            token = page.next_page_token
            if not token:
                break
        return found

    async def cancel(self, job_id: str) -> job_pb2.Job:
        """Cancel a job and return what became of it."""
        with translated(PEER):
            return await self._jobs.CancelJob(
                pb.CancelJobRequest(id=job_id), metadata=self._metadata, timeout=deadlines.COMMIT_S
            )

    async def delete(self, job_id: str) -> None:
        """Remove a job's prompt and pictures."""
        with translated(PEER):
            await self._jobs.DeleteJob(
                pb.DeleteJobRequest(id=job_id), metadata=self._metadata, timeout=deadlines.COMMIT_S
            )

    async def watch(self, job_id: str) -> AsyncIterator[job_pb2.JobEvent]:
        """Yield a job's events to its end; a broken connection is taken up after the last one seen.

        Raises Unavailable when 40 tries, about a minute, brought nothing.
        """
        sequence, failures, backoff = 0, 0, Backoff()
        while True:
            try:
                async for event in self._watched(job_id, sequence):
                    sequence = max(sequence, event.sequence)
                    yield event
                    failures, backoff = 0, Backoff()
                return
            except Unavailable:
                failures += 1
                if failures >= _MOST_TRIES:
                    raise
            await self._clock.sleep(backoff.next_s())

    async def _watched(self, job_id: str, after_sequence: int) -> AsyncIterator[job_pb2.JobEvent]:
        request = pb.WatchJobRequest(id=job_id, after_sequence=after_sequence)
        call = self._jobs.WatchJob(request, metadata=self._metadata, timeout=deadlines.STREAM_S)
        with translated(PEER), ended(call):
            async for event in call:
                yield event

    async def download(self, job_id: str, index: int) -> bytes:
        """Return the bytes of a picture."""
        request = pb.DownloadImageRequest(id=job_id, index=index)
        call = self._jobs.DownloadImage(request, metadata=self._metadata, timeout=deadlines.BLOB_S)
        with translated(PEER):
            return b"".join([part.data async for part in call])

    async def upload(self, data: bytes) -> upload_service_pb2.Upload:
        """Send a picture that requests may start from."""
        parts = (httpbody_pb2.HttpBody(data=data[at : at + _PART_BYTES]) for at in range(0, len(data), _PART_BYTES))
        with translated(PEER):
            return await self._uploads.UploadImage(parts, metadata=self._metadata, timeout=deadlines.UPLOAD_S)

    async def models(self) -> list[model_pb2.Model]:
        """List every model."""
        request = model_service_pb2.ListModelsRequest()
        with translated(PEER):
            answer = await self._models.ListModels(request, metadata=self._metadata, timeout=deadlines.READ_S)
        return list(answer.data)
