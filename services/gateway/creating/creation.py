"""A creating call from end to end: admission, `Prefer: wait`, links, status and headers of the answer."""

from __future__ import annotations

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.errors import InvalidRequest, Violation
from libs.rpc import headers
from services.gateway.callers.identity import Caller
from services.gateway.creating.admission import Admission
from services.gateway.creating.drafts import Draft
from services.gateway.creating.parsing import parse_draft
from services.gateway.reading.presentation import Presenter, is_final, job_headers, poll_after_s
from services.gateway.reading.waiting import Waiting, preferred_wait_s
from services.gateway.uploads.uploads import Uploads


class Creation:
    """Creates jobs for the typed and the REST form."""

    def __init__(self, admission: Admission, uploads: Uploads, waiting: Waiting, presenter: Presenter) -> None:
        self._admission = admission
        self._uploads = uploads
        self._waiting = waiting
        self._presenter = presenter

    async def from_message(self, caller: Caller, request: pb.CreateJobRequest, given: dict[str, str]) -> job_pb2.Job:
        """Create the job of a typed request; `given` is the metadata of the call."""
        return await self._create(caller, Draft(request.spec, request.request_id), given)

    async def from_json(self, caller: Caller, body: bytes, given: dict[str, str]) -> job_pb2.Job:
        """Create the job of a JSON body; `given` are the headers of the call."""
        job = await self._create(caller, parse_draft(body), given)
        headers.add(_rest_headers(job))
        return job

    async def _create(self, caller: Caller, draft: Draft, given: dict[str, str]) -> job_pb2.Job:
        caller = await self._uploads.bringer(caller, (draft.spec.input_image, draft.spec.mask_image))
        admitted = await self._admission.admit(caller, keyed(draft, given.get("idempotency-key", "")))
        if admitted.replayed:
            headers.add([("idempotent-replayed", "true")])
        wait_s = preferred_wait_s(given.get("prefer", ""))
        job = await self._waiting.finished(caller, admitted.job, wait_s)
        if wait_s:
            headers.add([("preference-applied", f"wait={wait_s}")])
        headers.add(job_headers(job))
        return self._presenter.created(job, caller.tenant_id)


def keyed(draft: Draft, key: str) -> Draft:
    """Return the draft with the idempotency key of the header; raises InvalidRequest when the body names another."""
    if not key or key == draft.request_id:
        return draft
    if draft.request_id:
        told = "The Idempotency-Key header and request_id in the body differ; send one of them. Nothing was charged."
        raise InvalidRequest(told, violations=[Violation("request_id", "differs from the Idempotency-Key header")])
    return Draft(draft.spec, key, draft.problems)


def _rest_headers(job: job_pb2.Job) -> list[tuple[str, str]]:
    """Return status and headers: 200 for a job that is finished or was only checked, else 202."""
    if not job.id:
        return [("x-http-code", "200")]
    location = ("location", f"/v1/jobs/{job.id}")
    if is_final(job):
        return [("x-http-code", "200"), location]
    return [("x-http-code", "202"), location, ("retry-after", str(poll_after_s(job)))]
