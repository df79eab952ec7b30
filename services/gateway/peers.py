"""What the gateway needs of the other services; `libs.clients` keeps these promises, tests have their own fakes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from darkroom.v1 import job_pb2
from libs.clients.account import AccountLimits, EventPlace, UsageWanted
from libs.clients.endpoints import Endpoint, EventFate
from libs.clients.identity import Holder, KeyPage, KeyPlace
from libs.clients.limiter import Decision, Reservation
from libs.clients.limiter_admin import ApiKey, NewApiKey, RotatedApiKey
from libs.clients.limiter_tenants import TenantNews
from libs.clients.limiter_usage import UsageRecord
from libs.clients.scheduler import Catalog, FoundJob, JobPage, Submission, Submitted
from libs.ids import EndpointId, JobId, KeyId, TenantId


class Scheduler(Protocol):
    """The authority for jobs. Every method may raise Unavailable when it does not answer."""

    async def submit(self, submission: Submission) -> Submitted:
        """Commit a job; when this returns it is durable."""
        ...

    async def find_job(self, tenant_id: TenantId, request_id: str) -> FoundJob | None:
        """Return the job that an idempotency key led to in the last 24 hours."""
        ...

    async def get_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        """Read a job; raises NotFound for another tenant's."""
        ...

    async def list_jobs(
        self, tenant_id: TenantId, page_size: int, before_id: str, state: job_pb2.Job.State.ValueType
    ) -> JobPage:
        """Return jobs with ids below `before_id`; an empty one means from the newest."""
        ...

    async def cancel_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        """Ask for a job's end and return it as it is then."""
        ...

    async def delete_job(self, tenant_id: TenantId, job_id: JobId) -> None:
        """Remove a job's prompt and pictures."""
        ...

    def watch_job(
        self, tenant_id: TenantId, job_id: JobId, after_sequence: int
    ) -> AsyncGenerator[job_pb2.JobEvent, None]:
        """Yield durable events after a sequence, then what happens; ends after the final event."""
        ...

    def watch_catalog(self) -> AsyncGenerator[Catalog, None]:
        """Yield the catalog at once and again after every change."""
        ...

    async def estimate_wait(self, tier: str, model_version: str, units: float) -> job_pb2.QueueStatus:
        """Return where a job submitted now would stand."""
        ...


class Limiter(Protocol):
    """The authority for what a tenant may still spend. Every method may raise Unavailable(LIMITER_DEGRADED)."""

    async def reserve(self, reservation: Reservation, prompt_simhash: int | None = None) -> Decision:
        """Take requests and units in one decision; a denial takes nothing. Of strangers it is told of the prompt."""
        ...

    async def release(self, tenant_id: TenantId, reservation_id: JobId) -> bool:
        """Give a reservation back whose job never came to be."""
        ...

    async def peek(self, wanted: Reservation) -> Decision:
        """Say what `reserve` would decide, whatever the id; takes nothing."""
        ...


class Endpoints(Protocol):
    """The authority for where an account's events are sent. Every method may raise Unavailable."""

    async def create(self, tenant_id: TenantId, url: str, events: Sequence[str]) -> Endpoint:
        """Make an endpoint; raises PreconditionFailed for too many."""
        ...

    async def list(self, tenant_id: TenantId) -> Sequence[Endpoint]:
        """Return the endpoints of an account, oldest first."""
        ...

    async def get(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Endpoint:
        """Return one; raises NotFound for another account's."""
        ...

    async def delete(self, tenant_id: TenantId, endpoint_id: EndpointId) -> None:
        """Remove one; raises NotFound for another account's."""
        ...

    async def deliveries(self, tenant_id: TenantId, endpoint_id: EndpointId) -> Sequence[EventFate]:
        """Return what was and is to be sent to one, newest event first."""
        ...


class Identity(Protocol):
    """The authority for accounts and keys. Every method may raise Unavailable."""

    async def sign_up(self, address: str, invite: str, name: str) -> NewApiKey:
        """Make a free account; raises PermissionDenied where that is off."""
        ...

    async def list_keys(self, holder: Holder, most: int, after: KeyPlace | None = None) -> KeyPage:
        """Return a page of the keys of a tenant, oldest first; those behind a place where it is given."""
        ...

    async def create_key(self, holder: Holder, name: str, asked: Sequence[str], lifetime_s: float | None) -> NewApiKey:
        """Make a key that may do no more than its holder."""
        ...

    async def rotate_key(self, holder: Holder, key_id: KeyId, overlap_s: float | None) -> RotatedApiKey:
        """Make a key in the place of one."""
        ...

    async def revoke_key(self, holder: Holder, key_id: KeyId) -> ApiKey:
        """Withdraw a key."""
        ...


class Account(Protocol):
    """The authority for what a caller may spend and has spent. Every method may raise Unavailable."""

    async def limits(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str) -> AccountLimits:
        """Return every limit of a caller."""
        ...

    async def usage(self, tenant_id: TenantId, wanted: UsageWanted) -> tuple[Sequence[UsageRecord], bool]:
        """Return a page of a tenant's usage, and whether there is more behind it."""
        ...

    async def events(
        self, tenant_id: TenantId, before: EventPlace | None, most: int
    ) -> tuple[Sequence[TenantNews], EventPlace | None]:
        """Return a page of a tenant's events, newest first, and where it ends unless it is the last."""
        ...
