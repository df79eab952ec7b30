"""Invites, and how many accounts came from where, in SQL."""

from __future__ import annotations

from sqlalchemy import delete, insert, or_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from libs.sql.inserts import insert_if_absent
from services.ratelimiter import schema
from services.ratelimiter.keys.accounts import KeptKey
from services.ratelimiter.keys.sign_up import MOST_A_DAY, MOST_AROUND, Invite, Outcome
from services.ratelimiter.keys.sql_accounts import SqlAccounts
from services.ratelimiter.sql_database import Database
from services.ratelimiter.strangers.addresses import network_of


class _Refused(Exception):
    """Undoes the transaction."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class SqlSignUps:
    """Keeps the promises of `sign_up.SignUps`. Of an address only today's count is kept."""

    def __init__(self, database: Database) -> None:
        tables = schema.build().tables
        self._database, self._accounts = database, SqlAccounts(database)
        self._sign_ups, self._invites = tables["sign_ups"], tables["invites"]

    async def open(self, kept: KeptKey, address: str, day: int, code: bytes | None) -> Outcome:
        """Make a tenant with its key, all or nothing."""

        async def write(connection: AsyncConnection) -> None:
            if code is not None:
                await self._use(connection, code, kept.key.created_s)
            await self._count(connection, address, day, MOST_A_DAY, Outcome.TOO_MANY)
            if network := network_of(address):
                await self._count(connection, f"network:{network}", day, MOST_AROUND, Outcome.TOO_MANY_AROUND)
            await self._accounts.add_within(connection, kept)

        try:
            await self._database.write(write)
        except _Refused as refused:
            return refused.outcome
        return Outcome.MADE

    async def invite(self, invite: Invite) -> None:
        """Keep an invite."""
        row = {
            "sha256": invite.digest,
            "uses_left": invite.uses,
            "created_at": invite.created_s,
            "expires_at": invite.expires_s,
            "name": invite.name,
        }
        await self._database.write(lambda within: within.execute(insert(self._invites).values(row)))

    async def _use(self, connection: AsyncConnection, code: bytes, now_s: float) -> None:
        columns = self._invites.c
        lasts = or_(columns.expires_at.is_(None), columns.expires_at > now_s)
        good = (columns.sha256 == code, columns.uses_left > 0, lasts)
        change = update(self._invites).where(*good).values(uses_left=columns.uses_left - 1)
        if not (await connection.execute(change)).rowcount:
            raise _Refused(Outcome.NO_INVITE)

    async def _count(self, connection: AsyncConnection, address: str, day: int, most: int, otherwise: Outcome) -> None:
        table, columns = self._sign_ups, self._sign_ups.c
        await connection.execute(delete(table).where(columns.day < day))
        await insert_if_absent(connection, table, {"address": address, "day": day, "accounts": 0})
        here = (columns.address == address, columns.day == day, columns.accounts < most)
        if not (await connection.execute(update(table).where(*here).values(accounts=columns.accounts + 1))).rowcount:
            raise _Refused(otherwise)
