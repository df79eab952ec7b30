"""What callers read of their own account, page by page: always the tenant that the door named, never another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.clients.account import AccountLimits, UsageWanted
from libs.clients.limiter_tenants import TenantNews
from libs.clients.limiter_usage import UsageRecord
from libs.clock import Clock
from libs.signing import Signer
from services.gateway.accounts import usage_query
from services.gateway.accounts.usage_query import UsageQuery
from services.gateway.callers.identity import Caller
from services.gateway.peers import Account
from services.gateway.reading.page_tokens import PageTokens, page_size


@dataclass(frozen=True, slots=True)
class UsageAsked:
    """What a caller wrote; empty leaves open."""

    from_text: str = ""
    to_text: str = ""
    by: tuple[str, ...] = ()
    size: int = 0
    token: str = ""

    @property
    def filter(self) -> tuple[str, ...]:
        """What a page's token is bound to."""
        return self.from_text, self.to_text, ",".join(self.by)


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Lines of usage; `next_token` is empty on the last page."""

    query: UsageQuery
    lines: Sequence[UsageRecord]
    next_token: str


class OwnAccount:
    """Reads for callers. Every method may raise Unavailable."""

    def __init__(self, account: Account, signer: Signer, clock: Clock) -> None:
        self._account, self._clock = account, clock
        self._usage_pages, self._event_pages = PageTokens(signer, "usage-page"), PageTokens(signer, "event-page")

    async def limits(self, caller: Caller) -> AccountLimits:
        """Return every limit of the caller."""
        return await self._account.limits(caller.tenant_id, caller.tier, caller.key_id, caller.address)

    async def usage(self, caller: Caller, asked: UsageAsked) -> UsagePage:
        """Return a page of usage. The days of the first page are those of all: midnight may come between them."""
        place = self._usage_pages.read(asked.token, caller.tenant_id, asked.filter)
        if place:
            query = usage_query.continued(place[0], place[1], asked.by)
        else:
            query = usage_query.read(asked.from_text, asked.to_text, asked.by, self._clock.now())
        first, last = query.from_day.isoformat(), query.to_day.isoformat()
        wanted = UsageWanted(first, last, query.by, place[2:], page_size(asked.size))
        lines, more = await self._account.usage(caller.tenant_id, wanted)
        following = (first, last, *_place(lines[-1], query.by)) if more and lines else ()
        token = self._usage_pages.make(caller.tenant_id, asked.filter, following) if following else ""
        return UsagePage(query, lines, token)

    async def events(self, caller: Caller, size: int, token: str) -> tuple[Sequence[TenantNews], str]:
        """Return a page of events, newest first, and the token of the next one, empty on the last."""
        place = self._event_pages.read(token, caller.tenant_id, ())
        before = (float(place[0]), place[1]) if place else None
        found, last = await self._account.events(caller.tenant_id, before, page_size(size))
        following = self._event_pages.make(caller.tenant_id, (), (repr(last[0]), last[1])) if last else ""
        return found, following


def _place(line: UsageRecord, by: Sequence[str]) -> tuple[str, ...]:
    parts = {"day": line.day, "model": line.model_version, "key": line.key_id}
    return tuple(parts[part] for part in by)
