"""Tenants and keys in SQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from libs import scopes
from libs.errors import NotFound, PreconditionFailed
from libs.ids import KeyId, TenantId
from libs.sql.inserts import insert_if_absent
from services.ratelimiter import schema
from services.ratelimiter.keys.accounts import KeptKey, Key, KeyPlace
from services.ratelimiter.sql_database import Database

_LISTED = 5_000  # keys in one answer, which has at most 4 MB
_AT_ONCE = 1_000  # keys removed in one transaction
_NEVER_S = 1e15


class SqlAccounts:
    """Keeps the promises of `accounts.Accounts`."""

    def __init__(self, database: Database) -> None:
        tables = schema.build().tables
        self._database, self._tenants, self._keys = database, tables["tenants"], tables["api_keys"]

    async def add(self, kept: KeptKey) -> None:
        """Add a key, and its tenant when it is new."""
        await self._database.write(lambda connection: self.add_within(connection, kept))

    async def add_within(self, connection: AsyncConnection, kept: KeptKey) -> None:
        """Do it as a part of somebody's transaction."""
        key = kept.key
        tenant = {"id": key.tenant_id, "tier": key.tier, "created_at": key.created_s}
        await insert_if_absent(connection, self._tenants, tenant)
        asked = select(self._tenants.c.tier).where(self._tenants.c.id == key.tenant_id)
        tier = (await connection.execute(asked)).scalar_one()
        if tier != key.tier:
            raise _other_tier(key, tier)
        await connection.execute(insert(self._keys).values(_row(kept)))

    async def admit(self, tenant_id: TenantId, tier: str, now_s: float) -> str:
        """Return the tier of a tenant, which is made with `tier` when it is new."""
        asked = select(self._tenants.c.tier).where(self._tenants.c.id == tenant_id)
        known = await self._database.rows(asked)
        if known:
            return str(known[0].tier)
        tenant = {"id": tenant_id, "tier": tier, "created_at": now_s}

        async def write(connection: AsyncConnection) -> str:
            await insert_if_absent(connection, self._tenants, tenant)
            return str((await connection.execute(asked)).scalar_one())

        return await self._database.write(write)

    async def find(self, digest: bytes) -> KeptKey | None:
        """Return the key with this hash, revoked or not."""
        rows = await self._database.rows(self._select().where(self._keys.c.sha256 == digest))
        return KeptKey(_key(rows[0]), bytes(rows[0].sha256)) if rows else None

    async def get(self, key_id: KeyId) -> Key:
        """Return a key."""
        rows = await self._database.rows(self._select().where(self._keys.c.id == key_id))
        if not rows:
            raise _no_key(key_id)
        return _key(rows[0])

    async def named(self, key_ids: Sequence[KeyId]) -> Sequence[Key]:
        """Return those of these keys that there are."""
        return [_key(row) for row in await self._database.rows(self._select().where(self._keys.c.id.in_(key_ids)))]

    async def list(self, tenant_id: TenantId | None) -> Sequence[Key]:
        """Return keys of a tenant, or of all, oldest first; of very many, those that work or ended last."""
        keys = self._keys
        asked = self._select().order_by(_end(keys).desc(), keys.c.created_at.desc(), keys.c.id.desc()).limit(_LISTED)
        if tenant_id is not None:
            asked = asked.where(keys.c.tenant_id == tenant_id)
        found = [_key(row) for row in await self._database.rows(asked)]
        return sorted(found, key=lambda key: (key.created_s, key.id))

    async def page(self, tenant_id: TenantId, most: int, after: KeyPlace | None) -> Sequence[Key]:
        """Return keys of a tenant, oldest first, `most` of them; those behind a place where it is given."""
        columns = self._keys.c
        asked = (
            self._select().where(columns.tenant_id == tenant_id).order_by(columns.created_at, columns.id).limit(most)
        )
        if after is not None:
            asked = asked.where(tuple_(columns.created_at, columns.id) > tuple_(*after))
        return [_key(row) for row in await self._database.rows(asked)]

    async def working(self, tenant_id: TenantId, now_s: float) -> int:
        """Return how many keys of a tenant work."""
        keys = self._keys
        asked = select(func.count().label("keys")).where(keys.c.tenant_id == tenant_id, _end(keys) > now_s)
        return int((await self._database.rows(asked))[0].keys)

    async def forget_ended(self, before_s: float) -> int:
        """Remove some of the keys that ended before a moment."""
        keys = self._keys
        old = select(keys.c.id).where(_end(keys) < before_s).limit(_AT_ONCE)
        gone = delete(keys).where(keys.c.id.in_(old))

        async def write(connection: AsyncConnection) -> int:
            return int((await connection.execute(gone)).rowcount)

        return await self._database.write(write)

    async def revoke(self, key_id: KeyId, now_s: float) -> Key:
        """Withdraw a key; one that was withdrawn keeps its time."""
        keys = self._keys
        change = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=now_s)
        named = self._select().where(keys.c.id == key_id)

        async def write(connection: AsyncConnection) -> Row[Any] | None:
            await connection.execute(change)
            found: Row[Any] | None = (await connection.execute(named)).one_or_none()
            return found

        row = await self._database.write(write)
        if row is None:
            raise _no_key(key_id)
        return _key(row)

    async def replace(self, key_id: KeyId, kept: KeptKey, until_s: float) -> Key:
        """Add a key in the place of one that works, which goes on until `until_s` at most."""
        keys, now_s = self._keys, kept.key.created_s
        works = and_(keys.c.revoked_at.is_(None), keys.c.replaced_by.is_(None), _lasts(keys, now_s))
        ends = case((_lasts(keys, until_s), until_s), else_=keys.c.expires_at)
        change = update(keys).where(keys.c.id == key_id, works).values(replaced_by=kept.key.id, expires_at=ends)
        named = self._select().where(keys.c.id == key_id)

        async def write(connection: AsyncConnection) -> Key:
            changed = (await connection.execute(change)).rowcount
            old = (await connection.execute(named)).one_or_none()
            if old is None:
                raise _no_key(key_id)
            if not changed:
                raise _works_no_more(_key(old))
            await connection.execute(insert(keys).values(_row(kept)))
            return _key(old)

        return await self._database.write(write)

    async def mark_used(self, used_s: Mapping[KeyId, float]) -> None:
        """Write when keys were last used."""
        keys = self._keys
        older = or_(keys.c.last_used_at.is_(None), keys.c.last_used_at < bindparam("at"))
        change = update(keys).where(keys.c.id == bindparam("key"), older).values(last_used_at=bindparam("at"))
        rows = [{"key": key_id, "at": at_s} for key_id, at_s in used_s.items()]
        await self._database.write(lambda within: within.execute(change, rows))

    def _select(self) -> Select[Any]:
        return select(self._keys, self._tenants.c.tier).join(self._tenants)


def _key(row: Row[Any]) -> Key:
    return Key(
        KeyId(row.id),
        TenantId(row.tenant_id),
        row.tier,
        row.prefix,
        row.name,
        row.created_at,
        revoked_s=row.revoked_at,
        last_used_s=row.last_used_at,
        scopes=scopes.parse(row.scopes.split())[0],
        expires_s=row.expires_at,
        replaced_by=KeyId(row.replaced_by) if row.replaced_by else None,
    )


def _row(kept: KeptKey) -> dict[str, object]:
    key = kept.key
    return {
        "id": key.id,
        "tenant_id": key.tenant_id,
        "prefix": key.prefix,
        "sha256": kept.digest,
        "name": key.name,
        "created_at": key.created_s,
        "scopes": scopes.text(key.scopes),
        "expires_at": key.expires_s,
    }


def _lasts(keys: Table, until_s: float) -> ColumnElement[bool]:
    return or_(keys.c.expires_at.is_(None), keys.c.expires_at > until_s)


def _end(keys: Table) -> ColumnElement[float]:
    """When a key ended or will end, whichever way."""
    return func.coalesce(keys.c.revoked_at, keys.c.expires_at, _NEVER_S)


def _no_key(key_id: KeyId) -> NotFound:
    return NotFound(f"There is no key {key_id}; `darkroom keys list` shows them.", reason="KEY_NOT_FOUND")


def _works_no_more(key: Key) -> PreconditionFailed:
    why = "was withdrawn" if key.revoked_s is not None else "has expired"
    if key.replaced_by is not None:
        why = f"was replaced by {key.replaced_by} before"
    return PreconditionFailed(f"Key {key.id} {why}. No key was made; make a new one.", metadata={"key": key.id})


def _other_tier(key: Key, tier: str) -> PreconditionFailed:
    told = f"Tenant {key.tenant_id} has the tier {tier}, not {key.tier}. No key was made; ask for tier {tier}."
    return PreconditionFailed(told, metadata={"tenant": key.tenant_id, "tier": tier})
