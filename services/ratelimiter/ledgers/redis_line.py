"""One connection to Redis: scripts that are asked for while an answer is awaited go out together.

A call has a deadline, and a connection on which one passed is closed, for its answer may still come. Another one is
opened, where the process learns which life of the server answers: nobody reconnects unnoticed. There the calls are
asked once more, for one hiccup of either machine is no outage; a script that ran although its answer was lost compares
what it finds, and writes nothing a second time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio.connection import Connection, ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from libs.errors import Unavailable
from services.ratelimiter.ledgers import redis_scripts
from services.ratelimiter.ledgers.redis_scripts import Script

logger = logging.getLogger(__name__)

TRIES = 2
_COMMAND_S = 5.0
_OPEN_S = 1.0
_MOST_AT_ONCE = 128
_PREFIX = "{darkroom}:"  # one hash tag: the accounts that a reservation touches together lie together

Word = bytes | str | float


class LedgerAway(Unavailable):
    """Redis does not answer in time. Calls that went out together and had no answer have the same `exchange`, not 0."""

    exchange = 0

    @classmethod
    def because(cls, how: str, exchange: int = 0) -> Self:
        """Return one that says how in its metadata."""
        metadata = {"part": "ledger", "how": how}
        told = (
            "The rate limiter's Redis does not answer. Nothing was charged; the same request may succeed in a moment."
        )
        away = cls(told, reason="LIMITER_DEGRADED", metadata=metadata, retry_after_s=1.0)
        away.exchange = exchange
        return away


class LedgerLost(LedgerAway):
    """Redis answers, but what it holds is not known to be whole: it was emptied, or it was started again."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a script found, at Redis's time in Unix seconds."""

    now_s: float
    documents: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class _Call:
    script: Script
    keys: Sequence[str]
    args: Sequence[Word]
    answer: asyncio.Future[Found]


class RedisLine:
    """Runs scripts, and now and then a plain command."""

    def __init__(self, url: str, deadline_s: float) -> None:
        self._pool = ConnectionPool.from_url(
            url,
            protocol=2,
            driver_info=None,
            maint_notifications_config=MaintNotificationsConfig(enabled=False),
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        self.deadline_s = deadline_s
        self._connection: Connection | None = None
        self._life = ""
        self._waiting: list[_Call] = []
        self._sender: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._exchanges = 0

    @property
    def life(self) -> str:
        """The `run_id` of the server that answered last; it differs after each of its starts."""
        return self._life

    async def run(self, script: Script, keys: Sequence[str], *args: Word) -> Found:
        """Run a script of `redis_scripts`.

        Raises LedgerLost when the data are of another life, LedgerAway when nothing comes in time.
        """
        call = _Call(script, keys, args, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send(), name="redis line")
        return await call.answer

    async def command(self, *commands: Sequence[Word]) -> list[Any]:
        """Run plain commands on a connection of their own, with time; returns what Redis says to each.

        Raises LedgerAway.
        """
        with _as_away():
            async with asyncio.timeout(_COMMAND_S):
                connection = await self._open()
                try:
                    answers = await _exchange(connection, commands)
                finally:
                    await connection.disconnect(nowait=True)
        refused = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
        if refused is not None:
            raise LedgerAway.because(str(refused))
        return answers

    async def close(self) -> None:
        """Let go of the connection; calls that wait fail."""
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        self._fail(self._waiting, LedgerAway("The rate limiter stops."))
        if self._opening is not None:
            self._opening.cancel()
            opened, *_ = await asyncio.gather(self._opening, return_exceptions=True)
            self._connection = None if isinstance(opened, BaseException) else opened
        await self._hang_up()

    async def _send(self) -> None:
        """Send what waits until nothing does."""
        while self._waiting:
            batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._exchanges += 1
            try:
                answers = await self._answers(batch)
            except LedgerAway as error:
                error.exchange = self._exchanges
                self._fail(batch, error)
            except BaseException:
                self._fail(batch, LedgerAway("The rate limiter stops."))
                raise
            else:
                self._hand_out(batch, answers)
                if any(_is_odd(answer) for answer in answers):
                    await self._hang_up()  # a server that became a replica, scripts that were flushed: begin anew

    async def _answers(self, batch: Sequence[_Call]) -> list[Any]:
        """Ask, and once more on another connection. Raises LedgerAway."""
        for attempt in range(TRIES):
            try:
                with _as_away():
                    async with asyncio.timeout(self.deadline_s):
                        return await self._exchange(batch)
            except LedgerAway:
                await self._hang_up()
                if attempt == TRIES - 1:
                    raise
        raise AssertionError("there is at least one try")

    async def _exchange(self, batch: Sequence[_Call]) -> list[Any]:
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._opened()
        return await _exchange(connection, [_words(call, self._life) for call in batch])

    async def _opened(self) -> Connection:
        """Open a connection, which takes several ways there and back: a call that has no time for it leaves it to the
        next one."""
        opening = self._opening
        if opening is None:
            opening = self._opening = asyncio.create_task(self._open_in_time(), name="redis opening")
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody may wait for it
        try:
            connection = await asyncio.shield(opening)
        finally:
            if opening.done():
                self._opening = None
        return connection

    async def _open_in_time(self) -> Connection:
        async with asyncio.timeout(max(_OPEN_S, self.deadline_s)):
            return await self._open()

    async def _open(self) -> Connection:
        connection: Connection = self._pool.make_connection()
        try:
            await connection.connect()
            loads = [("SCRIPT", "LOAD", script.text) for script in redis_scripts.ALL]
            about, *_ = await _exchange(connection, [("INFO", "server"), *loads])
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if isinstance(about, ResponseError):
            raise about
        lines = dict(line.split(":", 1) for line in about.decode().splitlines() if ":" in line)
        self._life = lines["run_id"]
        return connection

    def _hand_out(self, batch: Sequence[_Call], answers: Sequence[Any]) -> None:
        for call, answer in zip(batch, answers, strict=True):
            if call.answer.done():  # its caller went away
                continue
            if isinstance(answer, ResponseError):
                call.answer.set_exception(_told(answer))
                continue
            seconds, microseconds, *documents = answer
            call.answer.set_result(Found(int(seconds) + int(microseconds) / 1e6, documents))

    def _fail(self, calls: Sequence[_Call], error: LedgerAway) -> None:
        for call in calls:
            if not call.answer.done():
                call.answer.set_exception(error)

    async def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def key(*parts: str) -> str:
    """Return the name of a key; no part holds a line break, so that no two names meet."""
    return _PREFIX + "\n".join(parts)


EPOCH = key("epoch")


def _words(call: _Call, life: str) -> tuple[Word, ...]:
    return ("EVALSHA", call.script.sha, len(call.keys) + 1, EPOCH, *call.keys, life, *call.args)


async def _exchange(connection: Connection, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send commands together and return their answers, errors of single ones among them."""
    await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
    answers: list[Any] = []
    for _ in commands:
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers


def _is_odd(answer: object) -> bool:
    return isinstance(answer, ResponseError) and not str(answer).startswith("EPOCH")


def _told(error: ResponseError) -> LedgerAway:
    if not _is_odd(error):
        return LedgerLost.because("it was emptied or started again")
    logger.warning("Redis refused a script", extra={"reason": str(error)})
    return LedgerAway.because(str(error))


@contextmanager
def _as_away() -> Iterator[None]:
    try:
        yield
    except (RedisError, OSError, TimeoutError) as error:
        raise LedgerAway.because(str(error) or type(error).__name__) from error
