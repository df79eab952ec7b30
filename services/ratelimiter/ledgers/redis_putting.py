"""Putting the ledger in Redis together: by one process at a time, and never over what was decided since.

A turn ends by itself when its process is gone. Who comes back late finds that it is another's, or that the ledger was
declared whole, and writes nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

from services.ratelimiter.ledgers.redis_line import EPOCH, LedgerAway, RedisLine, Word, key
from services.ratelimiter.ledgers.redis_scripts import END_TURN, PUT

_TURN = key("restoring")
_TURN_MS = 10_000  # whoever puts it together and dies is waited for so long

Written = tuple[str, str | float, int]
"""A name, what is to stand there ('' for nothing), and for how many ms (0 for as long as nobody changes it)."""


@dataclass(frozen=True, slots=True)
class Putting:
    """The turn of a process, at a server's life; `before` is the life for which the ledger was whole last."""

    line: RedisLine
    token: str
    life: str
    before: bytes

    @property
    def is_done(self) -> bool:
        """Whether the ledger is whole already."""
        return self.before == self.life.encode()

    async def write(self, *documents: Written) -> None:
        """Write, and keep the turn. Raises LedgerAway when it is over, or somebody declared the ledger whole."""
        names = [name for name, _, _ in documents]
        words = [word for _, text, life_ms in documents for word in (text, life_ms)]
        if not await self._ask(PUT, [_TURN, EPOCH, *names], self.token, self.before, _TURN_MS, *words):
            raise LedgerAway.because("another process has put it together")

    async def declare(self, *documents: Written) -> None:
        """Write the last of it, and that it is whole: in the life of the server in which the turn began, for should
        that end meanwhile, the next one must not be declared whole."""
        await self.write(*documents, (EPOCH, self.life, 0))

    async def end(self) -> None:
        """Let others have their turn."""
        await self._ask(END_TURN, [_TURN], self.token)

    async def _ask(self, script: str, keys: Sequence[str], *words: Word) -> int:
        (answer,) = await self.line.command(("EVAL", script, len(keys), *keys, *words))
        return int(answer)


@asynccontextmanager
async def putting(line: RedisLine) -> AsyncIterator[Putting]:
    """Take the turn. Raises LedgerAway when another process has it."""
    token = uuid4().hex
    taken, before = await line.command(("SET", _TURN, token, "NX", "PX", _TURN_MS), ("GET", EPOCH))
    if taken is None:
        raise LedgerAway.because("another process puts it together again")
    turn = Putting(line, token, line.life, before or b"")
    yield turn
    await turn.end()
