"""Messages of AccountService about one's own account ⇄ what the gateway reads."""

from __future__ import annotations

from collections.abc import Sequence

from darkroom.v1 import account_service_pb2 as pb
from libs.clients.account import AccountLimit, AccountLimits
from libs.clients.limiter_tenants import TenantNews
from libs.clients.limiter_usage import UsageRecord
from libs.wire.timestamp import timestamp
from services.gateway.accounts.own_account import UsageAsked, UsagePage
from services.gateway.callers.identity import Caller

_MICROS = 1_000_000


def limits_to_pb(caller: Caller, limits: AccountLimits) -> pb.GetLimitsResponse:
    """Return a caller's limits; whoever has no key is not told what it is called inside."""
    return pb.GetLimitsResponse(
        account=caller.tenant_id if caller.key_id else "",
        tier=caller.tier,
        limits=[_limit(limit) for limit in limits.limits],
        max_pixels=limits.max_pixels,
        max_steps=limits.max_steps,
        running_images=limits.running_images,
    )


def usage_from_pb(message: pb.GetUsageRequest) -> UsageAsked:
    """Return what a caller wrote."""
    return UsageAsked(message.from_day, message.to_day, tuple(message.by), message.page_size, message.page_token)


def usage_to_pb(page: UsagePage) -> pb.GetUsageResponse:
    """Return a page of usage."""
    return pb.GetUsageResponse(
        from_day=page.query.from_day.isoformat(),
        to_day=page.query.to_day.isoformat(),
        by=page.query.by,
        usage=[_usage(line) for line in page.lines],
        next_page_token=page.next_token,
    )


def events_to_pb(events: Sequence[TenantNews], next_token: str) -> pb.ListEventsResponse:
    """Return a page of events."""
    told = [pb.AccountEvent(id=e.id, kind=e.kind, message=e.message, time=timestamp(e.at_s)) for e in events]
    return pb.ListEventsResponse(events=told, next_page_token=next_token)


def _limit(limit: AccountLimit) -> pb.Limit:
    message = pb.Limit(
        dimension=limit.dimension,
        account=limit.account,
        unit=limit.unit,
        limit=limit.limit,
        used=limit.used,
        remaining=limit.remaining,
        per_minute=limit.per_minute,
    )
    if limit.resets_s is not None:
        message.reset_time.CopyFrom(timestamp(limit.resets_s))
    return message


def _usage(line: UsageRecord) -> pb.Usage:
    return pb.Usage(
        day=line.day,
        model=line.model_version,
        key=line.key_id,
        jobs=line.jobs,
        succeeded=line.succeeded,
        failed=line.failed,
        cancelled=line.cancelled,
        expired=line.expired,
        images=line.images,
        gpu_ms=line.gpu_ms,
        measured_units=line.actual_units,
        charged_units=line.charged_units,
        money=line.micros / _MICROS,
    )
