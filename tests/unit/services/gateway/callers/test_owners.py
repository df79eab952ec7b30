"""What a first request made without a cookie is found by whoever comes back with one."""

from __future__ import annotations

import pytest

from darkroom.v1 import job_pb2
from libs.blobs.memory import MemoryBlobs
from libs.blobs.uploads import upload_key
from libs.errors import NotFound
from libs.ids import JobId, KeyId, TenantId, UploadId, new_upload_id
from libs.testing.clock import ManualClock
from services.gateway.callers.identity import Caller
from services.gateway.callers.owners import as_owner, at_address, owner_of_job
from services.gateway.uploads.uploads import Uploads
from tests.unit.services.gateway.fakes import FakeLimiter

ADDRESS = "203.0.113.7"
VISITOR = Caller(TenantId("anon:20000-" + "v" * 22), "anonymous", address=ADDRESS)
WITHOUT = Caller(TenantId(f"anon:{ADDRESS}"), "anonymous", address=ADDRESS)
KEYED = Caller(TenantId("acme"), "pro", KeyId("key_1"), address=ADDRESS)
JOB = JobId("job_1")


class OneJob:
    """A scheduler with one job."""

    def __init__(self, owner: TenantId) -> None:
        self._owner = owner
        self.asked_as: list[TenantId] = []

    async def get_job(self, tenant_id: TenantId, job_id: JobId) -> job_pb2.Job:
        self.asked_as.append(tenant_id)
        if (tenant_id, job_id) != (self._owner, JOB):
            raise NotFound("no such job", reason="JOB_NOT_FOUND")
        return job_pb2.Job(id=job_id)


@pytest.mark.parametrize(
    ("owner", "caller", "asked_with"),
    [
        (WITHOUT, VISITOR, WITHOUT),
        (VISITOR, VISITOR, VISITOR),
        (WITHOUT, WITHOUT, WITHOUT),
        (KEYED, VISITOR, VISITOR),
        (WITHOUT, KEYED, KEYED),
    ],
)
async def test_a_job_of_the_address_is_found_with_and_without_a_cookie(
    owner: Caller, caller: Caller, asked_with: Caller
) -> None:
    found = await owner_of_job(OneJob(owner.tenant_id), caller, JOB)  # type: ignore[arg-type]
    assert found == asked_with.tenant_id


@pytest.mark.parametrize(
    ("owner", "caller", "asked_as"),
    [
        (VISITOR, VISITOR, [VISITOR]),
        (WITHOUT, VISITOR, [VISITOR, WITHOUT]),
        (WITHOUT, WITHOUT, [WITHOUT]),
        (KEYED, KEYED, [KEYED]),
    ],
)
async def test_whose_own_job_it_is_asks_once(owner: Caller, caller: Caller, asked_as: list[Caller]) -> None:
    scheduler = OneJob(owner.tenant_id)
    job = await as_owner(caller, lambda tenant_id: scheduler.get_job(tenant_id, JOB))
    assert (job.id, scheduler.asked_as) == (JOB, [one.tenant_id for one in asked_as])


@pytest.mark.parametrize(("caller", "asked_as"), [(VISITOR, [VISITOR, WITHOUT]), (KEYED, [KEYED])])
async def test_a_job_of_somebody_else_is_not_found(caller: Caller, asked_as: list[Caller]) -> None:
    scheduler = OneJob(TenantId("another"))
    with pytest.raises(NotFound) as refused:
        await as_owner(caller, lambda tenant_id: scheduler.get_job(tenant_id, JOB))
    assert (refused.value.reason, scheduler.asked_as) == ("JOB_NOT_FOUND", [one.tenant_id for one in asked_as])


def test_only_a_visitor_was_somebody_else_before() -> None:
    assert at_address(VISITOR) == WITHOUT
    assert [at_address(caller) for caller in (WITHOUT, KEYED, Caller(TenantId("acme"), "pro"))] == [None] * 3


async def test_what_was_uploaded_without_a_cookie_makes_the_job_the_address_s() -> None:
    clock, blobs = ManualClock(), MemoryBlobs()
    uploads, upload_id = Uploads(blobs, FakeLimiter(), clock), new_upload_id(clock.now())
    await blobs.put(upload_key(WITHOUT.tenant_id, upload_id), b"png", "image/png")
    assert await uploads.bringer(VISITOR, (upload_id, "")) == WITHOUT
    assert await uploads.bringer(KEYED, (upload_id, "")) == KEYED
    other = new_upload_id(clock.now())
    for named in (("", ""), (upload_id, other), (UploadId("../" + upload_id), ""), ("upl_\0", "")):
        assert await uploads.bringer(VISITOR, named) == VISITOR
