"""Whose a job or an upload is, of a caller who may be two: a visitor, and everybody at the visitor's address.

A caller without a key is handed a cookie with the first answer, and comes back as somebody else. What the first
request made is the address's, and is found by its id from there, as it is by those who keep no cookies.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import TypeVar

from libs.errors import NotFound
from libs.ids import JobId, TenantId
from services.gateway.callers.identity import Caller
from services.gateway.peers import Scheduler

T = TypeVar("T")


async def as_owner(caller: Caller, ask: Callable[[TenantId], Awaitable[T]]) -> T:
    """Ask for a job as the caller, and where it has none as the address it was before. Raises what the last one does."""
    before = at_address(caller)
    try:
        return await ask(caller.tenant_id)
    except NotFound:
        if before is None:
            raise
    return await ask(before.tenant_id)


async def owner_of_job(scheduler: Scheduler, caller: Caller, job_id: JobId) -> TenantId:
    """Return the tenant to follow a job with: the caller's, or where the job is the address's, that one."""
    before = at_address(caller)
    if before is None:
        return caller.tenant_id
    try:
        await scheduler.get_job(before.tenant_id, job_id)
    except NotFound:
        return caller.tenant_id  # of which the scheduler then says whether it has the job
    return before.tenant_id


def at_address(caller: Caller) -> Caller | None:
    """Return whom a visitor was taken for without the cookie; None for everybody else."""
    tenant_id = TenantId(f"anon:{caller.address}")
    if not caller.address or caller.key_id or tenant_id == caller.tenant_id:
        return None
    return dataclasses.replace(caller, tenant_id=tenant_id)
