"""MAIN PATH: from a request to a durable job.

find by idempotency key → check and price → look up uploads → reserve → submit
             │                                                  │         ├─ surely not committed → release
             └ used before: answer its job                      │         ├─ lost the race on the key → release,
                                                                │         │  answer the winner
                                                                │         └─ outcome unknown → leave it: a
                                                                │            tentative reservation expires
                                                                └ refused: the error says what fits
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from darkroom.v1 import job_pb2
from libs.clients.limiter import Decision, Denial
from libs.clients.scheduler import FoundJob, Submission, Submitted
from libs.clock import Clock
from libs.errors import (
    DarkroomError,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PreconditionFailed,
    Unauthenticated,
    Unavailable,
)
from libs.ids import JobId, new_job_id
from libs.rpc import headers
from libs.telemetry.logs import fingerprint
from libs.wire.spec import request_digest, spec_to_pb
from services.gateway.callers.identity import Caller
from services.gateway.catalog import CatalogView
from services.gateway.creating import courtesy
from services.gateway.creating.cheaper import Option, Room, cheaper
from services.gateway.creating.denials import denied
from services.gateway.creating.drafts import Draft, Priced, price, text_problems
from services.gateway.creating.likeness import simhash
from services.gateway.creating.reserving import reservation, room
from services.gateway.peers import Limiter, Scheduler
from services.gateway.uploads.uploads import Uploads
from services.gateway.webhooks.destinations import PUBLIC_ONLY, Destinations, check_caller

logger = logging.getLogger(__name__)

DUE_S = 1.0  # a place that is free by then may be that of a job that has ended
SETTLING_S = (0.15, 0.35)  # waits for its settlement, which comes within a quarter of a second
_REFUSALS = (InvalidRequest, LimitExceeded, NotFound, PermissionDenied, PreconditionFailed, Unauthenticated)
_REFUSING_REASONS = frozenset({"QUEUE_FULL", "DRAINING", "NO_CAPACITY"})


@dataclass(frozen=True, slots=True)
class Admitted:
    """The job that answers a request; `replayed` when its idempotency key had led to it before."""

    job: job_pb2.Job
    replayed: bool = False


class Admission:
    """Takes requests in. `after_reserve` is called between Reserve and Submit: the place of a fault test."""

    def __init__(
        self,
        scheduler: Scheduler,
        limiter: Limiter,
        catalog: CatalogView,
        uploads: Uploads,
        clock: Clock,
        after_reserve: Callable[[], None] = lambda: None,
        destinations: Destinations = PUBLIC_ONLY,
    ) -> None:
        self._scheduler = scheduler
        self._limiter = limiter
        self._catalog = catalog
        self._uploads = uploads
        self._clock = clock
        self._after_reserve = after_reserve
        self._destinations = destinations

    async def admit(self, caller: Caller, draft: Draft) -> Admitted:
        """Return the job of a request, durable; or, for `validate_only`, what it would be."""
        check_caller(caller, draft.spec)
        known = await self._find(caller, draft)
        if known is not None:
            return _replay(known, draft)
        priced = price(draft, self._catalog, self._destinations)
        await self._uploads.check(caller.tenant_id, priced.spec)
        if draft.spec.validate_only:
            return Admitted(_unborn(draft, priced))
        courtesy.meet(caller)
        job_id = new_job_id(self._clock.now())
        reserved = await self._reserve(caller, job_id, priced)
        self._after_reserve()
        submitted = await self._submit(caller, _submission(caller, job_id, draft, priced, reserved), draft)
        if submitted.existing:
            await self._release(caller, job_id)
            return _replay(FoundJob(submitted.job, submitted.request_digest), draft)
        told = {"job_id": job_id, "tenant_id": caller.tenant_id, "prompt": fingerprint(priced.spec.prompt)}
        logger.info("job accepted", extra=told)
        return Admitted(submitted.job)

    async def _find(self, caller: Caller, draft: Draft) -> FoundJob | None:
        if not draft.request_id or draft.spec.validate_only:
            return None
        if draft.problems or text_problems(draft):
            return None  # it is refused in a moment; a key that no store can keep must not be looked up
        return await self._scheduler.find_job(caller.tenant_id, draft.request_id)

    async def _reserve(self, caller: Caller, job_id: JobId, priced: Priced) -> Decision:
        decision = await self._decision(caller, job_id, priced)
        headers.add(decision.headers)
        if decision.denial is None:
            return decision
        fitting = room(decision)
        smaller = [] if fitting is None else self._smaller(priced, fitting, decision.denial)
        raise denied(decision.denial, priced, smaller, caller.tier, caller.sign_up)

    def _smaller(self, priced: Priced, fitting: Room, denial: Denial) -> list[Option]:
        never = denial.dimension == "tier"  # a form that is far from it is better than waiting in vain
        return cheaper(priced.spec, priced.model, self._catalog.costs, fitting, far=never)

    async def _decision(self, caller: Caller, job_id: JobId, priced: Priced) -> Decision:
        """Ask the limiter; again after a moment where a place in flight is due: that of a job whose end was told a moment
        ago is free as soon as its settlement has arrived, and its caller comes at once with the next."""
        prompt = simhash(priced.spec.prompt) if caller.address else None
        wanted = reservation(caller, priced, job_id)
        decision = await self._limiter.reserve(wanted, prompt)
        for wait_s in SETTLING_S:
            denial = decision.denial
            if denial is None or denial.dimension != "in_flight" or denial.retry_after_s > DUE_S:
                break
            await self._clock.sleep(wait_s)
            decision = await self._limiter.reserve(wanted, prompt)
        return decision

    async def _submit(self, caller: Caller, submission: Submission, draft: Draft) -> Submitted:
        try:
            return await self._scheduler.submit(submission)
        except DarkroomError as error:
            if isinstance(error, _REFUSALS) or error.reason in _REFUSING_REASONS:
                await self._release(caller, submission.job_id)
            elif isinstance(error, Unavailable):
                raise _unsure(error, draft) from error
            raise

    async def _release(self, caller: Caller, job_id: JobId) -> None:
        try:
            await self._limiter.release(caller.tenant_id, job_id)
        except DarkroomError as error:  # it is tentative and expires by itself
            told = {"job_id": job_id, "tenant_id": caller.tenant_id, "reason": error.reason}
            logger.warning("a reservation could not be given back", extra=told)


def _submission(caller: Caller, job_id: JobId, draft: Draft, priced: Priced, reserved: Decision) -> Submission:
    return Submission(
        job_id=job_id,
        tenant_id=caller.tenant_id,
        tier=caller.tier,
        key_id=caller.key_id,
        spec=priced.spec,
        model=draft.spec.model or priced.model.id,
        model_version=priced.model.pinned,
        estimated_units=priced.units,
        request_id=draft.request_id,
        request_digest=request_digest(priced.request),
        tenant_weight=reserved.weight * courtesy.weight(caller),
        running_images=reserved.running_images,
        address=caller.address,
    )


def _replay(known: FoundJob, draft: Draft) -> Admitted:
    if known.request_digest != request_digest(draft.request):
        raise PreconditionFailed(
            f"The idempotency key was used for another request, which led to {known.job.id}. "
            "Nothing was charged; use a new key for a new request.",
            reason="IDEMPOTENCY_KEY_REUSED",
            metadata={"job_id": known.job.id},
        )
    return Admitted(known.job, replayed=True)


def _unsure(error: Unavailable, draft: Draft) -> Unavailable:
    """Return the error of a job that may be durable or not: the answer was lost, perhaps not the request."""
    again = "the same request again" if draft.request_id else "requests with an Idempotency-Key to be sure of one job"
    told = (
        f"Whether the job was accepted is not known: its answer was lost. Send {again}; GET /v1/jobs lists what runs."
    )
    return Unavailable(told, reason=error.reason, metadata=error.metadata, retry_after_s=error.retry_after_s)


def _unborn(draft: Draft, priced: Priced) -> job_pb2.Job:
    return job_pb2.Job(
        model=draft.spec.model or priced.model.id,
        model_version=priced.model.pinned,
        spec=spec_to_pb(priced.spec),
        cost=job_pb2.Cost(estimated_units=priced.units),
        labels=dict(priced.spec.labels),
    )
