"""Messages of AccountService ⇄ the domain. Every invalid field is named at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from darkroom.ratelimiter.v1 import account_service_pb2 as pb
from darkroom.ratelimiter.v1 import usage_service_pb2 as usage_pb
from libs.errors import InvalidRequest, Violation, listed
from libs.ids import KeyId, TenantId
from libs.wire.timestamp import timestamp
from services.ratelimiter.balances.refusal import Dimension
from services.ratelimiter.balances.standing import Standing
from services.ratelimiter.tenants.events import EventPlace, TenantEvent
from services.ratelimiter.tenants.own_account import OwnLimits, Reader
from services.ratelimiter.tenants.wire import event_to_pb
from services.ratelimiter.usage import wire as usage_wire
from services.ratelimiter.usage.reports import Part, Place, UsageQuery, UsageSum, day_from

_PAGE, _MOST = 50, 500
_UNITS: Mapping[Dimension, str] = {
    Dimension.REQUESTS: "requests",
    Dimension.COST: "units",
    Dimension.DAILY_UNITS: "units",
    Dimension.BALANCE: "money",
    Dimension.SPEND: "money",
}
_IMAGES = "images"  # what the other dimensions count


def reader_from_pb(message: pb.GetOwnLimitsRequest) -> Reader:
    """Return who asks. Raises InvalidRequest."""
    return Reader(_tenant(message.tenant_id), message.tier, KeyId(message.key_id), message.address)


def limits_to_pb(limits: OwnLimits) -> pb.GetOwnLimitsResponse:
    """Return limits as they travel."""
    return pb.GetOwnLimitsResponse(
        limits=[_limit(standing) for standing in limits.standings],
        max_pixels=limits.max_pixels,
        max_steps=limits.max_steps,
        running_images=limits.running_images,
    )


def query_from_pb(message: pb.ListOwnUsageRequest) -> tuple[UsageQuery, Place, int]:
    """Return what is asked for, behind which place, and the most lines. Raises InvalidRequest."""
    tenant_id = _tenant(message.tenant_id)  # without it all tenants would be read
    asked = usage_pb.ReadUsageRequest(
        tenant_id=tenant_id, from_day=message.from_day, to_day=message.to_day, by=message.by
    )
    query = usage_wire.query_from_pb(asked)
    if not query.by:
        raise _refused(Violation("by", "must name a part"))
    return query, _place(query.by, message.after), _page(message.page_size)


def usage_to_pb(lines: Sequence[UsageSum], more: bool) -> pb.ListOwnUsageResponse:
    """Return a page of usage as it travels."""
    return pb.ListOwnUsageResponse(lines=[usage_wire.line_to_pb(line) for line in lines], more=more)


def events_from_pb(message: pb.ListOwnEventsRequest) -> tuple[TenantId, EventPlace | None, int]:
    """Return whose events are asked for, before which place, and the most of them. Raises InvalidRequest."""
    before = (message.before.at_s, message.before.id) if message.HasField("before") else None
    return _tenant(message.tenant_id), before, _page(message.page_size)


def events_to_pb(events: Sequence[TenantEvent], more: bool) -> pb.ListOwnEventsResponse:
    """Return a page of events as it travels, with where it ends unless it is the last."""
    message = pb.ListOwnEventsResponse(events=[event_to_pb(event) for event in events])
    if more and events:
        at_s, event_id = events[-1].place
        message.last.CopyFrom(pb.EventPlace(at_s=at_s, id=event_id))
    return message


def _limit(standing: Standing) -> pb.OwnLimit:
    message = pb.OwnLimit(
        dimension=standing.dimension.value,
        account=standing.whose,
        unit=_UNITS.get(standing.dimension, _IMAGES),
        limit=standing.limit,
        used=standing.used,
        remaining=standing.remaining,
        per_minute=standing.per_minute,
    )
    if standing.resets_s is not None:
        message.reset_time.CopyFrom(timestamp(standing.resets_s))
    return message


def _place(by: Sequence[Part], after: Sequence[str]) -> Place:
    if after and len(after) != len(by):
        raise _refused(Violation("after", "must have one value for each part"))
    try:
        return tuple(day_from(text) if part is Part.DAY else text for part, text in zip(by, after, strict=False))
    except ValueError:
        raise _refused(Violation("after", "must name a day like 2026-11-21")) from None


def _page(asked: int) -> int:
    return min(asked or _PAGE, _MOST)


def _tenant(tenant_id: str) -> TenantId:
    if not tenant_id:
        raise _refused(Violation("tenant_id", "must be there"))
    return TenantId(tenant_id)


def _refused(wrong: Violation) -> InvalidRequest:
    return InvalidRequest(f"This cannot be read: {listed([wrong])}.", violations=[wrong])
