"""The accounts that one reservation touches together, each with the limits in force there.

The tenant always; its key where the key has limits of its own; the address of a caller without a key where the tier
has a ceiling for addresses.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

from libs.ids import KeyId, TenantId
from services.ratelimiter.bucket import UNLIMITED
from services.ratelimiter.policy import Limits
from services.ratelimiter.tariffs import Tariffs

AccountId = NewType("AccountId", str)


class Kind(enum.Enum):
    """Whose account it is; values are the words of the wire."""

    TENANT = "tenant"  # all keys of a tenant together
    KEY = "key"  # one key
    ADDRESS = "address"  # everybody without a key behind one address, however many cookies


@dataclass(frozen=True, slots=True)
class Scope:
    """One account and its limits."""

    account: AccountId
    kind: Kind
    limits: Limits


def scopes_of(
    tenant_id: TenantId, limits: Limits, address: str = "", key: tuple[KeyId, Limits] | None = None
) -> tuple[Scope, ...]:
    """Return what a caller's reservation touches; the tenant comes first."""
    found = [Scope(AccountId(f"tenant:{tenant_id}"), Kind.TENANT, limits)]
    if key is not None:
        found.append(Scope(AccountId(f"key:{key[0]}"), Kind.KEY, key[1]))
    if address and limits.address_daily_images is not None:
        ceiling = Limits(limits.tier, UNLIMITED, UNLIMITED, daily_images=limits.address_daily_images)
        found.append(Scope(AccountId(f"address:{address}"), Kind.ADDRESS, ceiling))
    return tuple(found)


def in_force(tariffs: Tariffs, tenant_id: TenantId, tier: str, key_id: KeyId, address: str) -> tuple[Scope, ...]:
    """Return what a caller's reservation touches, with the limits of now. Raises InvalidRequest for an unknown tier."""
    key = (key_id, tariffs.of(tenant_id, tier, key_id)) if tariffs.has_own(tenant_id, key_id) else None
    return scopes_of(tenant_id, tariffs.of(tenant_id, tier), address, key)
