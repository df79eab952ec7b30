"""What callers read of their own account, asked of the rate limiter on behalf of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from darkroom.ratelimiter.v1 import account_service_pb2 as pb
from darkroom.ratelimiter.v1 import account_service_pb2_grpc as rpc
from libs.clients.limiter_tenants import TenantNews, news_from_pb
from libs.clients.limiter_usage import UsageRecord, record_from_pb
from libs.ids import KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated
from libs.wire.timestamp import seconds

_PEER = "rate limiter"

EventPlace: TypeAlias = tuple[float, str]
"""Where an event stands in the list: when it was, in Unix seconds, and its id."""


@dataclass(frozen=True, slots=True)
class AccountLimit:
    """One limit, by the name it has in refusals; `account` is `tenant`, `key`, `address` or `newcomers`.

    `unit` is what it counts, `per_minute` what comes back steadily, `resets_s` (Unix seconds) when all is there again.
    """

    dimension: str
    account: str
    unit: str
    limit: float
    used: float
    remaining: float
    per_minute: float | None
    resets_s: float | None


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """What a caller may spend; None is no limit."""

    limits: Sequence[AccountLimit]
    max_pixels: int | None = None
    max_steps: int | None = None
    running_images: int | None = None


@dataclass(frozen=True, slots=True)
class UsageWanted:
    """Which usage, and what to add it up by: some of `day`, `key`, `model`. Days of UTC like `2026-11-21`.

    `after` is the place behind which the page begins: one value for each part, empty for the beginning.
    """

    from_day: str
    to_day: str
    by: tuple[str, ...]
    after: tuple[str, ...] = ()
    most: int = 50


class AccountClient:
    """Typed calls with a deadline. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._account: rpc.AccountServiceAsyncStub = rpc.AccountServiceStub(channel)

    async def limits(self, tenant_id: TenantId, tier: str, key_id: KeyId, address: str) -> AccountLimits:
        """Return every limit of a caller."""
        request = pb.GetOwnLimitsRequest(tenant_id=tenant_id, tier=tier, key_id=key_id, address=address)
        with translated(_PEER):
            answer = await self._account.GetOwnLimits(request, timeout=deadlines.LIMITER_S)
        return AccountLimits(
            [_limit(limit) for limit in answer.limits],
            answer.max_pixels if answer.HasField("max_pixels") else None,
            answer.max_steps if answer.HasField("max_steps") else None,
            answer.running_images if answer.HasField("running_images") else None,
        )

    async def usage(self, tenant_id: TenantId, wanted: UsageWanted) -> tuple[Sequence[UsageRecord], bool]:
        """Return a page of a tenant's usage in the order of the parts, and whether there is more behind it."""
        request = pb.ListOwnUsageRequest(
            tenant_id=tenant_id,
            from_day=wanted.from_day,
            to_day=wanted.to_day,
            by=wanted.by,
            page_size=wanted.most,
            after=wanted.after,
        )
        with translated(_PEER):
            answer = await self._account.ListOwnUsage(request, timeout=deadlines.READ_S)
        return [record_from_pb(line) for line in answer.lines], answer.more

    async def events(
        self, tenant_id: TenantId, before: EventPlace | None, most: int
    ) -> tuple[Sequence[TenantNews], EventPlace | None]:
        """Return a page of what happened to a tenant, newest first, and where it ends unless it is the last."""
        request = pb.ListOwnEventsRequest(tenant_id=tenant_id, page_size=most)
        if before is not None:
            request.before.CopyFrom(pb.EventPlace(at_s=before[0], id=before[1]))
        with translated(_PEER):
            answer = await self._account.ListOwnEvents(request, timeout=deadlines.READ_S)
        last = (answer.last.at_s, answer.last.id) if answer.HasField("last") else None
        return [news_from_pb(event) for event in answer.events], last


def _limit(message: pb.OwnLimit) -> AccountLimit:
    return AccountLimit(
        message.dimension,
        message.account,
        message.unit,
        message.limit,
        message.used,
        message.remaining,
        message.per_minute if message.HasField("per_minute") else None,
        seconds(message.reset_time) if message.HasField("reset_time") else None,
    )
