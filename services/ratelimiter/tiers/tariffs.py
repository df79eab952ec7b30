"""The limits in force of every tenant: its tier's, with what was agreed with the tenant, and with a key of it.

All of it stands in memory, so a decision waits for nothing: `tiers_file` brings the tiers, `agreed` the agreements.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from libs.errors import InvalidRequest, Violation
from libs.ids import KeyId, TenantId
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.policy import Limits, Policy

NO_KEY = KeyId("")
_MERGED = 100_000  # tenants and keys whose limits are kept ready; beyond that they are put together anew


@dataclass(frozen=True, slots=True)
class Agreement:
    """What holds for one tenant, or for one key of it, beside its tier: fields of `tiers.toml`, checked.

    None as a value takes the tier's limit away. `verified` is the tenant's; Unix seconds.
    """

    tenant_id: TenantId
    key_id: KeyId = NO_KEY
    fields: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    verified: bool = False
    changed_s: float = 0.0


class Tariffs:
    """Answers from memory. Both parts are exchanged while it answers."""

    def __init__(self, tiers: Policy) -> None:
        self._policy = tiers
        self._agreements: dict[tuple[TenantId, KeyId], Agreement] = {}
        self._merged: dict[tuple[TenantId, str, KeyId], Limits] = {}

    @property
    def policy(self) -> Policy:
        """The tiers in force."""
        return self._policy

    @property
    def window_s(self) -> float:
        """After this long without use every bucket is empty again, debts aside."""
        own = (self.of(a.tenant_id, tier) for a in self._agreements.values() if a.fields for tier in self._policy.tiers)
        windows = (max(limits.requests.window_s, limits.units.window_s) for limits in own)
        return max(self._policy.window_s, *windows, 0.0)

    def of(self, tenant_id: TenantId, tier: str, key_id: KeyId = NO_KEY) -> Limits:
        """Return the limits of a tenant, or of one key of it. Raises InvalidRequest for a tier that there is not."""
        limits = self._tier(tier)
        if not self._agreements:
            return limits
        place = (tenant_id, tier, key_id)
        merged = self._merged.get(place)
        if merged is None:
            merged = self._merge(limits, tenant_id, key_id)
            if len(self._merged) < _MERGED:
                self._merged[place] = merged
        return merged

    def has_own(self, tenant_id: TenantId, key_id: KeyId) -> bool:
        """Whether a key has limits of its own, beside its tenant's."""
        agreement = self._agreements.get((tenant_id, key_id)) if key_id else None
        return agreement is not None and bool(agreement.fields)

    def is_verified(self, tenant_id: TenantId) -> bool:
        """Whether an operator has verified the tenant."""
        agreement = self._agreements.get((tenant_id, NO_KEY))
        return agreement is not None and agreement.verified

    def take_tiers(self, tiers: Policy) -> None:
        """Have other tiers from now on."""
        self._policy = tiers
        self._merged.clear()

    def take_agreements(self, agreements: Iterable[Agreement]) -> None:
        """Take agreements that are new or have changed."""
        for agreement in agreements:
            self._agreements[agreement.tenant_id, agreement.key_id] = agreement
        self._merged.clear()

    def _merge(self, limits: Limits, tenant_id: TenantId, key_id: KeyId) -> Limits:
        places = [(tenant_id, NO_KEY)] if key_id == NO_KEY else [(tenant_id, NO_KEY), (tenant_id, key_id)]
        for place in places:
            agreement = self._agreements.get(place)
            if agreement is not None and agreement.fields:
                limits = policy.overridden(limits, agreement.fields)
        return limits

    def _tier(self, tier: str) -> Limits:
        try:
            return self._policy.of(tier)
        except KeyError:
            known = ", ".join(self._policy.tiers)
            violation = Violation("tier", f"there is no tier {tier!r}; known are {known}")
            raise InvalidRequest(f"There is no tier {tier!r}; known are {known}.", violations=[violation]) from None
