"""Wallets in SQL. What is taken is always taken in the order job, usage, hold, wallet, so that no two wait for each other.

The job is a lock without a row (`one_at_a_time`): what confirms a job's money and what settles it look for rows that the
other may be about to write, and rows that are not there cannot be locked.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, and_, case, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.errors import Unavailable
from libs.ids import JobId, TenantId
from libs.sql.inserts import insert_if_absent
from services.ratelimiter import schema
from services.ratelimiter.sql_database import Database
from services.ratelimiter.tenants.wallets import Credit, Wallet, month_of

_JOBS = 0x44415248  # says what the lock is for: PostgreSQL knows such locks by two numbers
_AT_ONCE = 1000  # holds that one sweep gives back in a transaction
_TRIES = 5  # to find a hold that others give back, or to be who makes it: the second hardly ever fails


async def one_at_a_time(within: AsyncConnection, reservation_id: JobId) -> None:
    """Let whoever else confirms or settles a job wait for this transaction; a file has one writer anyway."""
    if within.dialect.name == "postgresql":
        await within.execute(select(func.pg_advisory_xact_lock(_JOBS, func.hashtext(reservation_id))))


class SqlWallets:
    """Keeps the promises of `wallets.Wallets`; `pay` is the part of a settlement."""

    def __init__(self, database: Database) -> None:
        tables = schema.build().tables
        self._database = database
        self._wallets, self._holds = tables["wallets"], tables["wallet_holds"]
        self._credits, self._usage = tables["wallet_credits"], tables["usage"]

    async def find(self, tenant_id: TenantId, now_s: float) -> Wallet:
        """Return a tenant's wallet."""
        return await self._database.read(lambda within: self._find(within, tenant_id, now_s))

    async def hold(self, tenant_id: TenantId, reservation_id: JobId, micros: int, now_s: float) -> Wallet | None:
        """Hold an amount, or return the wallet that has too little."""

        async def write(within: AsyncConnection) -> Wallet | None:
            if not await self._note(within, tenant_id, reservation_id, micros, now_s):
                return None  # it is held already
            if await self._reserve(within, tenant_id, micros, now_s):
                return None
            await within.execute(delete(self._holds).where(self._holds.c.reservation_id == reservation_id))
            return await self._find(within, tenant_id, now_s)

        return await self._database.write(write)

    async def confirm(self, tenant_id: TenantId, reservation_id: JobId, micros: int, now_s: float) -> None:
        """Have it wait for the settlement."""
        holds = self._holds
        stands = update(holds).where(holds.c.reservation_id == reservation_id).values(confirmed=True)
        settled = select(exists().where(self._usage.c.job_id == reservation_id))

        async def write(within: AsyncConnection) -> None:
            await one_at_a_time(within, reservation_id)
            if (await within.execute(settled)).scalar_one():
                return
            for _ in range(_TRIES):
                if (await within.execute(stands)).rowcount:
                    return
                if await self._note(within, tenant_id, reservation_id, micros, now_s, confirmed=True):
                    await self._move(within, tenant_id, now_s, held=micros)
                    return
            raise Unavailable("a job's money is held and given back all the time", retry_after_s=1.0)

        await self._database.write(write)

    async def release(self, reservation_id: JobId) -> None:
        """Give back what nobody confirmed."""
        holds = self._holds
        gone = and_(holds.c.reservation_id == reservation_id, holds.c.confirmed.is_(False))
        await self._database.write(lambda within: self._give_back(within, gone))

    async def sweep(self, before_s: float) -> int:
        """Give back what was never confirmed."""
        holds = self._holds
        old = (
            select(holds.c.reservation_id)
            .where(holds.c.confirmed.is_(False), holds.c.made_at < before_s)
            .order_by(holds.c.reservation_id)
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)  # two sweeps do not wait for each other, nor for who confirms
        )
        gone = and_(holds.c.reservation_id.in_(old), holds.c.confirmed.is_(False))
        return await self._database.write(lambda within: self._give_back(within, gone))

    async def credit(self, credit: Credit, now_s: float) -> Wallet:
        """Add a payment, once."""
        row = {"id": credit.id, "tenant_id": credit.tenant_id, "micros": credit.micros, "note": credit.note}

        async def write(within: AsyncConnection) -> Wallet:
            if await insert_if_absent(within, self._credits, {**row, "at": now_s}):
                await self._move(within, credit.tenant_id, now_s, balance=credit.micros)
            return await self._find(within, credit.tenant_id, now_s)

        return await self._database.write(write)

    async def cap(self, tenant_id: TenantId, cap_micros: int | None, now_s: float) -> Wallet:
        """Say the most that may be spent in a month."""
        wallets = self._wallets

        async def write(within: AsyncConnection) -> Wallet:
            await self._move(within, tenant_id, now_s)
            await within.execute(update(wallets).where(wallets.c.tenant_id == tenant_id).values(cap_micros=cap_micros))
            return await self._find(within, tenant_id, now_s)

        return await self._database.write(write)

    async def pay(
        self, within: AsyncConnection, tenant_id: TenantId, reservation_id: JobId, micros: int, now_s: float
    ) -> None:
        """Spend an amount in the place of what was held for it, in the transaction of the settlement.

        Whoever settles has called `one_at_a_time` first.
        """
        gone = delete(self._holds).where(self._holds.c.reservation_id == reservation_id)
        held = (await within.execute(gone.returning(self._holds.c.micros))).scalar_one_or_none()
        if held is not None or micros:
            await self._move(within, tenant_id, now_s, balance=-micros, held=-(held or 0), spent=micros)

    async def _note(
        self,
        within: AsyncConnection,
        tenant_id: TenantId,
        reservation_id: JobId,
        micros: int,
        now_s: float,
        *,
        confirmed: bool = False,
    ) -> bool:
        row = {"reservation_id": reservation_id, "tenant_id": tenant_id, "micros": micros}
        return await insert_if_absent(within, self._holds, {**row, "confirmed": confirmed, "made_at": now_s})

    async def _reserve(self, within: AsyncConnection, tenant_id: TenantId, micros: int, now_s: float) -> bool:
        """Count an amount as held if balance and cap leave room for it, in one statement."""
        wallets = self._wallets
        spent = case((wallets.c.spent_month >= month_of(now_s), wallets.c.spent_micros), else_=0)
        room = or_(wallets.c.cap_micros.is_(None), spent + wallets.c.held_micros + micros <= wallets.c.cap_micros)
        fits = and_(wallets.c.balance_micros - wallets.c.held_micros >= micros, room)
        change = update(wallets).where(wallets.c.tenant_id == tenant_id, fits)
        return bool((await within.execute(change.values(held_micros=wallets.c.held_micros + micros))).rowcount)

    async def _give_back(self, within: AsyncConnection, gone: Any) -> int:
        found = (await within.execute(delete(self._holds).where(gone).returning(self._holds))).all()
        held: dict[str, int] = {}
        for row in found:
            held[row.tenant_id] = held.get(row.tenant_id, 0) + row.micros
        for tenant_id in sorted(held):
            wallets = self._wallets
            less = update(wallets).where(wallets.c.tenant_id == tenant_id)
            await within.execute(less.values(held_micros=wallets.c.held_micros - held[tenant_id]))
        return len(found)

    async def _move(
        self,
        within: AsyncConnection,
        tenant_id: TenantId,
        now_s: float,
        *,
        balance: int = 0,
        held: int = 0,
        spent: int = 0,
    ) -> None:
        """Change a wallet, made when there is none; what was spent counts from 0 in a new month."""
        wallets, month = self._wallets, month_of(now_s)
        empty = {"tenant_id": tenant_id, "balance_micros": 0, "held_micros": 0, "spent_micros": 0, "spent_month": month}
        await insert_if_absent(within, wallets, empty)
        before = case((wallets.c.spent_month >= month, wallets.c.spent_micros), else_=0)
        change = update(wallets).where(wallets.c.tenant_id == tenant_id)
        await within.execute(
            change.values(
                balance_micros=wallets.c.balance_micros + balance,
                held_micros=wallets.c.held_micros + held,
                spent_micros=before + spent,
                spent_month=case((wallets.c.spent_month >= month, wallets.c.spent_month), else_=month),
            )
        )

    async def _find(self, within: AsyncConnection, tenant_id: TenantId, now_s: float) -> Wallet:
        row = await self._row(within, tenant_id)
        if row is None:
            return Wallet(tenant_id)
        spent = row.spent_micros if row.spent_month >= month_of(now_s) else 0
        return Wallet(tenant_id, row.balance_micros, row.held_micros, spent, row.cap_micros)

    async def _row(self, within: AsyncConnection, tenant_id: TenantId) -> Row[Any] | None:
        asked = select(self._wallets).where(self._wallets.c.tenant_id == tenant_id)
        found: Row[Any] | None = (await within.execute(asked)).one_or_none()
        return found
