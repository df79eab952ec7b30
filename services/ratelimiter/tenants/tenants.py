"""What operators say of tenants: tier, limits of their own and of their keys, whether they are verified, their money."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from libs.clock import Clock
from libs.errors import InvalidRequest, NotFound, Violation
from libs.ids import KeyId, TenantId
from services.ratelimiter.keys.accounts import Accounts
from services.ratelimiter.strangers.ages import PREFIX
from services.ratelimiter.tenants.wallets import Credit, Wallet, Wallets
from services.ratelimiter.tiers import fields as tier_fields
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers import sense as tier_sense
from services.ratelimiter.tiers.agreed import Agreements
from services.ratelimiter.tiers.tariffs import NO_KEY, Agreement, Tariffs

logger = logging.getLogger(__name__)

AS_THE_TIER, NO_LIMIT = "tier", "none"  # what may stand in the place of a value


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant; Unix seconds."""

    id: TenantId
    tier: str
    created_s: float


@dataclass(frozen=True, slots=True)
class TenantView:
    """A tenant with all that is agreed with it, and its money."""

    tenant: Tenant
    own: Agreement
    keys: Sequence[Agreement]
    wallet: Wallet


@dataclass(frozen=True, slots=True)
class Change:
    """What to say otherwise; None and empty leave it. `limits` are texts: a value, `none` or `tier`.

    They are for the key `key_id`, or for the whole tenant. A `cap_micros` below 0 takes the cap away.
    """

    tenant_id: TenantId
    tier: str = ""
    verified: bool | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    key_id: KeyId = NO_KEY
    cap_micros: int | None = None


class TenantBook(Protocol):
    """Keeps tenants. Raises Unavailable when it cannot be reached."""

    async def find(self, tenant_id: TenantId) -> Tenant | None:
        """Return a tenant."""
        ...

    async def list(self, after: str, most: int) -> Sequence[Tenant]:
        """Return tenants by id, those behind `after`."""
        ...

    async def among(self, tenant_ids: Sequence[TenantId]) -> Sequence[Tenant]:
        """Return those of the named that there are."""
        ...

    async def put(self, tenant: Tenant) -> None:
        """Make a tenant, or give one that is there another tier."""
        ...


class Tenants:
    """Shows and changes tenants; a change holds here at once and on every replica within seconds."""

    def __init__(
        self,
        book: TenantBook,
        accounts: Accounts,
        agreements: Agreements,
        wallets: Wallets,
        tariffs: Tariffs,
        clock: Clock,
    ) -> None:
        self._book, self._accounts, self._agreements = book, accounts, agreements
        self._wallets, self._tariffs, self._clock = wallets, tariffs, clock

    async def list(self, after: str, most: int) -> Sequence[TenantView]:
        """Return tenants by id, those behind `after`."""
        found = await self._book.list(after, most)
        agreed = await self._agreements.of([tenant.id for tenant in found])
        return [await self._view(tenant, [a for a in agreed if a.tenant_id == tenant.id]) for tenant in found]

    async def get(self, tenant_id: TenantId) -> TenantView:
        """Return one tenant. Raises NotFound."""
        tenant = await self._known(tenant_id)
        return await self._view(tenant, await self._agreements.of([tenant_id]))

    async def set(self, change: Change) -> TenantView:
        """Say something otherwise. Raises NotFound for an unknown tenant without a tier, and InvalidRequest."""
        tenant = await self._changed(change)
        agreement = await self._agreement(change, tenant)
        await self._book.put(tenant)
        if change.limits or change.verified is not None:
            await self._agreements.put(agreement)
            self._tariffs.take_agreements([agreement])
        if change.cap_micros is not None:
            cap = change.cap_micros if change.cap_micros >= 0 else None
            await self._wallets.cap(tenant.id, cap, self._clock.now())
        logger.info("changed a tenant", extra={"tenant_id": tenant.id, "tier": tenant.tier, "limits": change.limits})
        return await self.get(tenant.id)

    async def credit(self, credit: Credit) -> TenantView:
        """Add a payment, once. Raises NotFound."""
        await self._known(credit.tenant_id)
        await self._wallets.credit(credit, self._clock.now())
        told = {"tenant_id": credit.tenant_id, "credit_id": credit.id, "micros": credit.micros}
        logger.info("credited a tenant", extra=told)
        return await self.get(credit.tenant_id)

    async def tier_of(self, tenant_id: TenantId) -> str:
        """Return the tier of a tenant, also of callers without a key. Raises NotFound."""
        return policy.ANONYMOUS if tenant_id.startswith(PREFIX) else (await self._known(tenant_id)).tier

    async def _changed(self, change: Change) -> Tenant:
        if change.tier and change.tier not in self._tariffs.policy.tiers:
            told = f"must be one of {', '.join(self._tariffs.policy.tiers)}"
            raise InvalidRequest(f"The tier {told}. Nothing was changed.", violations=[Violation("tier", told)])
        known = await self._book.find(change.tenant_id)
        if known is not None:
            return replace(known, tier=change.tier or known.tier)
        if change.tier:
            return Tenant(change.tenant_id, change.tier, self._clock.now())
        raise _unknown(change.tenant_id)

    async def _agreement(self, change: Change, tenant: Tenant) -> Agreement:
        """Return what holds after the change. Raises InvalidRequest naming every field that is wrong."""
        agreed = {agreement.key_id: agreement for agreement in await self._agreements.of([tenant.id])}
        own = agreed.get(NO_KEY, Agreement(tenant.id))
        if change.key_id:
            await self._check_key(tenant.id, change.key_id)
        before = agreed.get(change.key_id, Agreement(tenant.id, change.key_id))
        fields = _fields_after(before.fields, change.limits)
        base = self._tariffs.policy.of(tenant.tier)
        said = policy.fields_of(policy.overridden(base, own.fields) if change.key_id else base)
        _check(fields, said, whole_tenant=not change.key_id)
        verified = own.verified if change.verified is None else change.verified
        return replace(before, fields=fields, verified=verified and not change.key_id, changed_s=self._clock.now())

    async def _check_key(self, tenant_id: TenantId, key_id: KeyId) -> None:
        told = f"Tenant {tenant_id} has no key {key_id}; `darkroom keys list --tenant {tenant_id}` shows them."
        missing = NotFound(told, reason="KEY_NOT_FOUND")
        try:
            found = await self._accounts.get(key_id)
        except NotFound:
            raise missing from None
        if found.tenant_id != tenant_id:
            raise missing

    async def _known(self, tenant_id: TenantId) -> Tenant:
        tenant = await self._book.find(tenant_id)
        if tenant is None:
            raise _unknown(tenant_id)
        return tenant

    async def _view(self, tenant: Tenant, agreed: Sequence[Agreement]) -> TenantView:
        own = next((agreement for agreement in agreed if not agreement.key_id), Agreement(tenant.id))
        keys = [agreement for agreement in agreed if agreement.key_id and agreement.fields]
        return TenantView(tenant, own, keys, await self._wallets.find(tenant.id, self._clock.now()))


def _fields_after(before: Mapping[str, Any], limits: Mapping[str, str]) -> dict[str, Any]:
    fields = dict(before)
    for name, text in limits.items():
        fields[name] = None if text == NO_LIMIT else tier_fields.read(text)
        if text == AS_THE_TIER:
            del fields[name]
    return fields


def _check(fields: Mapping[str, Any], said: Mapping[str, Any], *, whole_tenant: bool) -> None:
    """Refuse what is wrong in itself, and beside what the tier says."""
    merged = {name: value for name, value in {**said, **fields}.items() if value is not None}
    wrong = tier_fields.problems(merged)
    if not wrong and whole_tenant:
        wrong = tier_sense.problems(merged)
    if wrong:
        violations = [Violation("limits", problem) for problem in wrong]
        raise InvalidRequest(f"Nothing was changed: {'; '.join(wrong)}.", violations=violations)


def _unknown(tenant_id: TenantId) -> NotFound:
    told = f"There is no tenant {tenant_id}; `darkroom tenants list` shows them, and naming a tier makes it."
    return NotFound(told, reason="TENANT_NOT_FOUND")
