"""Tenants and their keys. `sql_accounts` keeps the promise on SQLite and PostgreSQL; one contract suite checks both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from libs import scopes
from libs.ids import KeyId, TenantId
from libs.scopes import Scopes


@dataclass(frozen=True, slots=True)
class Key:
    """An API key without its secret; times in Unix seconds, None for what has not happened."""

    id: KeyId
    tenant_id: TenantId
    tier: str
    prefix: str
    name: str
    created_s: float
    revoked_s: float | None = None
    last_used_s: float | None = None
    scopes: Scopes = scopes.USUAL
    expires_s: float | None = None
    replaced_by: KeyId | None = None
    """The key that was made in its place; this one works until it expires."""


KeyPlace: TypeAlias = tuple[float, KeyId]
"""When a key was made, in Unix seconds, and its id: where it stands in a list."""


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A key and the SHA-256 of its secret."""

    key: Key
    digest: bytes


class Accounts(Protocol):
    """Keeps tenants and keys. Raises Unavailable when it cannot be reached."""

    async def add(self, kept: KeptKey) -> None:
        """Add a key, and its tenant when it is new.

        Raises PreconditionFailed when the tenant exists with another tier.
        """
        ...

    async def admit(self, tenant_id: TenantId, tier: str, now_s: float) -> str:
        """Return the tier of a tenant, which is made with `tier` when it is new."""
        ...

    async def find(self, digest: bytes) -> KeptKey | None:
        """Return the key with this hash, revoked or not."""
        ...

    async def get(self, key_id: KeyId) -> Key:
        """Return a key. Raises NotFound."""
        ...

    async def named(self, key_ids: Sequence[KeyId]) -> Sequence[Key]:
        """Return those of these keys that there are."""
        ...

    async def list(self, tenant_id: TenantId | None) -> Sequence[Key]:
        """Return keys of a tenant, or of all for None, oldest first; of very many, those that work or ended last."""
        ...

    async def page(self, tenant_id: TenantId, most: int, after: KeyPlace | None) -> Sequence[Key]:
        """Return keys of a tenant, oldest first, `most` of them; those behind a place where it is given."""
        ...

    async def working(self, tenant_id: TenantId, now_s: float) -> int:
        """Return how many keys of a tenant work, those among them that were replaced and go on for a while."""
        ...

    async def forget_ended(self, before_s: float) -> int:
        """Remove some of the keys that were withdrawn or expired before a moment; returns how many, 0 when none is left."""
        ...

    async def revoke(self, key_id: KeyId, now_s: float) -> Key:
        """Withdraw a key; one that was withdrawn keeps its time. Raises NotFound."""
        ...

    async def replace(self, key_id: KeyId, kept: KeptKey, until_s: float) -> Key:
        """Add a key in the place of one that works, which goes on until `until_s` at most; return that one.

        Raises NotFound, and PreconditionFailed for one that was withdrawn, replaced or expired at `kept`'s creation.
        """
        ...

    async def mark_used(self, used_s: Mapping[KeyId, float]) -> None:
        """Write when keys were last used; an older time never replaces a newer one."""
        ...
