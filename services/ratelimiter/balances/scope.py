"""The accounts that one reservation touches together, each with the limits in force there.

The tenant always; its key where the key has limits of its own; the address of a caller without a key where the tier
has a ceiling for addresses, and of IPv6 the network around it. Who came to an address today, with a new cookie or none,
shares one day's pictures with all others who did: a cookie thrown away is no new day.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType, Protocol

from libs.ids import KeyId, TenantId
from services.ratelimiter.balances.bucket import UNLIMITED
from services.ratelimiter.strangers.addresses import network_of
from services.ratelimiter.strangers.ages import came_today
from services.ratelimiter.tiers.policy import Limits

AccountId = NewType("AccountId", str)


class LimitsInForce(Protocol):
    """Who knows the limits of now: `tariffs`, and `outage_share` those of an outage."""

    def of(self, tenant_id: TenantId, tier: str, key_id: KeyId = KeyId("")) -> Limits:
        """Return the limits of a tenant, or of one key of it. Raises InvalidRequest for a tier that there is not."""
        ...

    def has_own(self, tenant_id: TenantId, key_id: KeyId) -> bool:
        """Whether a key has limits of its own, beside its tenant's."""
        ...


class Kind(enum.Enum):
    """Whose account it is; values are the words of the wire."""

    TENANT = "tenant"  # all keys of a tenant together
    KEY = "key"  # one key
    ADDRESS = "address"  # everybody without a key behind one address or in one network, however many cookies


@dataclass(frozen=True, slots=True)
class Scope:
    """One account and its limits."""

    account: AccountId
    kind: Kind
    limits: Limits

    @property
    def whose(self) -> str:
        """Say whose it is, as its owner is told: the kind, but of an address `newcomers` for those who came today,
        and `network` for all in the network around it.
        """
        return self.account.partition(":")[0]


def scopes_of(
    tenant_id: TenantId,
    limits: Limits,
    address: str = "",
    key: tuple[KeyId, Limits] | None = None,
    *,
    new: bool = False,
) -> tuple[Scope, ...]:
    """Return what a caller's reservation touches; the tenant comes first. `new` is a caller who came today."""
    found = [Scope(AccountId(f"tenant:{tenant_id}"), Kind.TENANT, limits)]
    if key is not None:
        found.append(Scope(AccountId(f"key:{key[0]}"), Kind.KEY, key[1]))
    if address and limits.address_daily_images is not None:
        found.append(_ceiling(f"address:{address}", limits.tier, limits.address_daily_images))
    if network_of(address) and limits.network_images is not None:
        found.append(_ceiling(f"network:{network_of(address)}", limits.tier, limits.network_images))
    if address and new and limits.daily_images is not None:
        found.append(_ceiling(f"newcomers:{address}", limits.tier, limits.daily_images))
    return tuple(found)


def in_force(
    tariffs: LimitsInForce, tenant_id: TenantId, tier: str, key_id: KeyId, address: str, now_s: float
) -> tuple[Scope, ...]:
    """Return what a caller's reservation touches, with the limits of now. Raises InvalidRequest for an unknown tier."""
    key = (key_id, tariffs.of(tenant_id, tier, key_id)) if tariffs.has_own(tenant_id, key_id) else None
    new = bool(address) and came_today(tenant_id, now_s)
    return scopes_of(tenant_id, tariffs.of(tenant_id, tier), address, key, new=new)


def _ceiling(account: str, tier: str, daily_images: int) -> Scope:
    return Scope(AccountId(account), Kind.ADDRESS, Limits(tier, UNLIMITED, UNLIMITED, daily_images=daily_images))
