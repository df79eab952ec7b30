"""Transactions on both databases: nothing lost, nothing broken off, nothing kept waiting, and nobody's data told."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, Text, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from libs.devstack.postgres import PostgresServer
from libs.sql.engines import Engines, open_engines
from libs.sql.failures import Contended, DatabaseAway
from libs.sql.file_threads import FileThreads
from libs.sql.inserts import insert_if_absent
from libs.sql.transactions import Transactions
from libs.sql.work import Suspended

PATIENT_S = 30.0
only_sqlite = pytest.mark.parametrize("kind", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("kind", ["postgresql"], indirect=True)


ADD_ONE = text("UPDATE counts SET n = n + 1")


class Pause:
    """Holds work up until it is ended: on SQLite that work has a thread, elsewhere the event loop."""

    def __init__(self) -> None:
        self.held = asyncio.Event()
        self._loop, self._over, self._over_there = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def end(self) -> None:
        """Let the work go on, before anything that is asked for after this."""
        self._over.set()
        self._over_there.set()

    async def hold(self, connection: AsyncConnection) -> None:
        """Wait for the end."""
        self._loop.call_soon_threadsafe(self.held.set)
        if connection.dialect.name == "sqlite":
            assert self._over_there.wait(PATIENT_S)
        else:
            await self._over.wait()


async def counted(connection: AsyncConnection) -> dict[str, int]:
    found = await connection.execute(text("SELECT name, n FROM counts"))
    return {row.name: row.n for row in found}


async def test_read_modify_write_loses_nothing(transactions: Transactions):
    async def add_one(connection: AsyncConnection) -> None:
        lock = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
        n = (await connection.execute(text(f"SELECT n FROM counts{lock}"))).scalar_one()
        await connection.execute(text("UPDATE counts SET n = :n"), {"n": n + 1})

    await asyncio.gather(*(transactions.write(add_one) for _ in range(20)))
    assert await transactions.read(counted) == {"a": 20}


async def test_what_raises_undoes_all(transactions: Transactions):
    async def regret(connection: AsyncConnection) -> None:
        await connection.execute(text("UPDATE counts SET n = 7"))
        raise KeyError

    with pytest.raises(KeyError):
        await transactions.write(regret)
    assert await transactions.read(counted) == {"a": 0}


@pytest.mark.parametrize("at", ["before the statement", "behind it"])
async def test_a_caller_that_leaves_takes_neither_connection_nor_lock_along(transactions: Transactions, at: str):
    pause = Pause()
    insertion = text("INSERT INTO counts VALUES ('b', 1)")

    async def work(connection: AsyncConnection) -> None:
        if at == "behind it":
            await connection.execute(insertion)
        await pause.hold(connection)
        if at == "before the statement":
            await connection.execute(insertion)

    leaving = asyncio.create_task(transactions.write(work))
    await pause.held.wait()
    leaving.cancel()
    await asyncio.wait([leaving])
    pause.end()
    await transactions.write(lambda within: within.execute(text("INSERT INTO counts VALUES ('c', 2)")))
    assert await transactions.read(counted) == {"a": 0, "b": 1, "c": 2}  # what it asked for was done without it


@only_sqlite
async def test_a_reader_never_waits_for_a_writer_and_a_writer_not_for_ever(transactions: Transactions, url: str):
    hurried = Transactions(open_engines(url, timeout_s=0.05))
    pause = Pause()

    async def slow(connection: AsyncConnection) -> None:
        await connection.execute(ADD_ONE)
        await pause.hold(connection)

    writing = asyncio.create_task(transactions.write(slow))
    await pause.held.wait()
    assert await transactions.read(counted) == {"a": 0}
    with pytest.raises(DatabaseAway):
        await hurried.write(lambda within: within.execute(ADD_ONE))
    pause.end()
    await writing
    await transactions.write(lambda within: within.execute(ADD_ONE))
    await hurried.close()


@only_sqlite
async def test_a_change_whose_turn_comes_too_late_is_not_begun(transactions: Transactions, url: str):
    engines = open_engines(url, timeout_s=PATIENT_S)
    threads = FileThreads(engines.write, engines.read)
    with pytest.raises(DatabaseAway):
        await threads.write(lambda within: within.execute(ADD_ONE), 0.0)
    await threads.write(lambda within: within.execute(ADD_ONE), PATIENT_S)
    await threads.close()
    assert await transactions.read(counted) == {"a": 1}


@only_sqlite
async def test_work_that_waits_for_something_else_is_told_so_and_undone(transactions: Transactions):
    async def astray(connection: AsyncConnection) -> None:
        await connection.execute(ADD_ONE)
        await asyncio.sleep(0)

    with pytest.raises(Suspended):
        await transactions.write(astray)
    assert await transactions.read(counted) == {"a": 0}


@only_sqlite
async def test_who_comes_behind_the_close_finds_the_database_away(transactions: Transactions):
    await transactions.close()
    with pytest.raises(DatabaseAway):
        await transactions.read(counted)


@only_sqlite
async def test_a_read_cannot_change_anything(transactions: Transactions):
    with pytest.raises(DatabaseAway):  # SQLITE_READONLY
        await transactions.read(lambda within: within.execute(text("UPDATE counts SET n = 7")))


@only_sqlite
async def test_a_commit_is_on_the_disk(engines: Engines):
    async with engines.write.connect() as connection:
        modes = [
            (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        ]
    await engines.close()
    assert modes == ["wal", 2]  # 2 is FULL: the log is synced at every commit, not only at checkpoints


async def test_a_wrong_statement_is_not_a_database_that_is_away_and_tells_no_parameters(transactions: Transactions):
    with pytest.raises(DBAPIError) as caught:
        await transactions.read(lambda within: within.execute(text("SELECT :told FROM nowhere"), {"told": "a prompt"}))
    assert "a prompt" not in str(caught.value)


@only_postgresql
async def test_of_two_that_change_one_row_at_once_one_is_told_to_try_again(transactions: Transactions):
    both = asyncio.Barrier(2)

    async def add_one(connection: AsyncConnection) -> None:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"))
        before = await counted(connection)
        await both.wait()
        await connection.execute(text("UPDATE counts SET n = :n"), {"n": before["a"] + 1})

    ends = await asyncio.gather(*(transactions.write(add_one) for _ in range(2)), return_exceptions=True)
    assert [type(end) for end in ends if end is not None] == [Contended]


@only_postgresql
async def test_who_waits_too_long_for_a_row_of_another_is_told_to_try_again(transactions: Transactions, url: str):
    hurried = Transactions(open_engines(url, timeout_s=PATIENT_S, lock_timeout_s=0.05))
    change = text("UPDATE counts SET n = n + 1")

    async def meanwhile(connection: AsyncConnection) -> None:
        await connection.execute(change)
        with pytest.raises(Contended):
            await hurried.write(lambda within: within.execute(change))

    await transactions.write(meanwhile)
    await hurried.write(lambda within: within.execute(change))
    assert await transactions.read(counted) == {"a": 2}
    await hurried.close()


async def test_a_row_is_inserted_once(transactions: Transactions):
    counts = Table("counts", MetaData(), Column("name", Text, primary_key=True), Column("n", Integer))
    assert not await transactions.write(lambda within: insert_if_absent(within, counts, {"name": "a", "n": 5}))
    assert await transactions.write(lambda within: insert_if_absent(within, counts, {"name": "b", "n": 5}))
    assert await transactions.read(counted) == {"a": 0, "b": 5}


async def test_a_server_that_lets_nobody_in_is_away(postgres: PostgresServer):
    administrator = create_async_engine(postgres.url, isolation_level="AUTOCOMMIT")
    async with administrator.connect() as connection:
        await connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 0"))
    await administrator.dispose()
    url = make_url(postgres.url).set(username="guest", password="guest").render_as_string(hide_password=False)
    transactions = Transactions(open_engines(url, timeout_s=PATIENT_S))
    with pytest.raises(DatabaseAway):
        await transactions.read(lambda within: within.execute(text("SELECT 1")))
    await transactions.close()
