"""One connection to a real Redis: what is compared, what a crash and an emptied server mean, and deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from libs.testing import waiting
from libs.testing.redis import RedisServer
from services.ratelimiter.ledgers import redis_line
from services.ratelimiter.ledgers.redis_line import EPOCH, LedgerAway, LedgerLost, RedisLine, key
from services.ratelimiter.ledgers.redis_scripts import BEFORE, LOOK, SWAP

INDEX, A, B = key("index"), key("a"), key("b")


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as started:
        yield started


@pytest.fixture
async def line(server: RedisServer) -> AsyncIterator[RedisLine]:
    opened = RedisLine(server.url, deadline_s=10.0)
    await declare_whole(opened)
    yield opened
    await opened.close()


async def declare_whole(line: RedisLine) -> None:
    await line.command(("PING",))
    await line.command(("SET", EPOCH, line.life))


async def test_documents_are_written_together_if_all_are_as_they_were_read(line: RedisLine):
    assert (await line.run(SWAP, [INDEX, A, B], "", "1", 60_000, "5", "", "2", 60_000, "")).documents == []
    kept = await line.run(SWAP, [INDEX, A, B], "1", "3", 60_000, "", "other", "4", 60_000, "")
    assert kept.documents == [b"1", b"2"]
    assert (await line.run(LOOK, [A, B, key("none")])).documents == [b"1", b"2", None]


async def test_the_index_keeps_an_order_until_something_is_taken_off(line: RedisLine):
    await line.run(SWAP, [INDEX, A, B], "", "1", 60_000, "20.5", "", "2", 60_000, "10.5")
    assert (await line.run(BEFORE, [INDEX], 21, 10)).documents == [b"2", b"1"]
    assert (await line.run(BEFORE, [INDEX], 21, 1)).documents == [b"2"]
    assert (await line.run(BEFORE, [INDEX], 20.5, 10)).documents == [b"2"]
    await line.run(SWAP, [INDEX, B], "2", "3", 60_000, "-")
    assert (await line.run(BEFORE, [INDEX], 21, 10)).documents == [b"1"]


async def test_calls_of_one_moment_have_each_their_own_answer(line: RedisLine):
    names = [key("n", str(n)) for n in range(300)]
    await asyncio.gather(*(line.run(SWAP, [INDEX, name], "", name, 60_000, "") for name in names))
    found = await asyncio.gather(*(line.run(LOOK, [name]) for name in names))
    assert [each.documents for each in found] == [[name.encode()] for name in names]


async def test_another_life_of_the_server_is_noticed_although_its_data_came_back(server: RedisServer, line: RedisLine):
    await server.restart()
    with pytest.raises(LedgerAway):
        await line.run(LOOK, [A])
    with pytest.raises(LedgerLost):
        await line.run(LOOK, [A])
    await declare_whole(line)
    assert (await line.run(LOOK, [A])).documents == [None]


async def test_an_emptied_server_is_noticed(line: RedisLine):
    await line.command(("FLUSHALL",))
    with pytest.raises(LedgerLost):
        await line.run(LOOK, [A])


async def test_flushed_scripts_are_loaded_again(line: RedisLine):
    await line.run(LOOK, [A])
    await line.command(("SCRIPT", "FLUSH"))
    # The line that sees it has it that once: opening another connection brings the scripts back.
    with pytest.raises(LedgerAway, match="does not answer"):
        await asyncio.gather(*(line.run(LOOK, [A]) for _ in range(2)))
    assert (await line.run(LOOK, [A])).documents == [None]


async def test_a_server_that_says_nothing_fails_the_call_and_a_late_answer_is_nobodys(server: RedisServer):
    line = RedisLine(server.url, deadline_s=1.0)
    await declare_whole(line)
    await line.run(SWAP, [INDEX, A], "", "1", 60_000, "")
    server.freeze()
    with pytest.raises(LedgerAway):
        await line.run(LOOK, [A])
    server.thaw()
    await line.command(("PING",))
    assert (await line.run(LOOK, [B])).documents == [None]
    await line.close()


async def test_a_caller_that_leaves_takes_no_answer_from_others(line: RedisLine):
    await line.run(SWAP, [INDEX, A], "", "1", 60_000, "")
    leaving, staying = (asyncio.create_task(line.run(LOOK, [name])) for name in (B, A))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).documents == [b"1"]


async def test_what_waits_fails_when_the_line_is_closed(line: RedisLine):
    waiting = asyncio.create_task(line.run(LOOK, [A]))
    await asyncio.sleep(0)
    await line.close()
    with pytest.raises(LedgerAway):
        await waiting


async def test_a_call_without_the_time_to_open_a_connection_leaves_it_to_the_next(
    server: RedisServer, line: RedisLine, monkeypatch: pytest.MonkeyPatch
):
    may_open, open_it = asyncio.Event(), Connection.connect

    async def slow(connection: Connection) -> None:
        await may_open.wait()
        await open_it(connection)

    hasty = RedisLine(server.url, deadline_s=0.05)
    monkeypatch.setattr(Connection, "connect", slow)
    for _ in range(2):
        with pytest.raises(LedgerAway):
            await hasty.run(LOOK, [A])
    may_open.set()

    async def answers() -> bool:
        try:
            return (await hasty.run(LOOK, [A])).documents == [None]
        except LedgerAway:
            return False

    await waiting.until(answers, 30.0)
    await hasty.close()


async def test_an_answer_that_was_lost_is_asked_for_again_and_nothing_is_written_twice(
    line: RedisLine, monkeypatch: pytest.MonkeyPatch
):
    exchange, lost = redis_line._exchange, []

    async def lossy(connection: Connection, commands: Sequence[Sequence[Any]]) -> list[Any]:
        answers = await exchange(connection, commands)
        if commands[0][0] == "EVALSHA" and not lost:
            lost.extend(answers)
            raise TimeoutError
        return answers

    monkeypatch.setattr(redis_line, "_exchange", lossy)
    again = await line.run(SWAP, [INDEX, A], "", "1", 60_000, "")
    assert len(lost) == 1
    assert again.documents == [b"1"]  # as if another process had been faster


async def test_calls_that_went_out_together_fail_as_one(server: RedisServer, line: RedisLine):
    await line.run(LOOK, [A])
    await server.kill()
    batches = [await asyncio.gather(*(line.run(LOOK, [A]) for _ in range(3)), return_exceptions=True) for _ in range(2)]
    first, second = ({each.exchange for each in batch if isinstance(each, LedgerAway)} for batch in batches)
    assert (len(first), len(second)) == (1, 1)
    assert 0 < first.pop() < second.pop()
