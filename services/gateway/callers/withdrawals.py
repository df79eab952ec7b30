"""Calls that are open for longer than a moment end with the key or token that they came with.

The door looks at a key when a call begins; a stream may go on for hours. So every two seconds the rate limiter is asked
once for all keys with open calls which of them work no more, and what ends by itself (a key, a token) is ended by the
clock. A rate limiter that does not answer ends nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Protocol

from libs.clients.identity import MOST_ASKED, EndedKey
from libs.clock import Clock
from libs.errors import DarkroomError, Unauthenticated
from libs.ids import KeyId, is_key_id
from services.gateway.callers.identity import Caller

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0  # with the 3 s that the answer may take, a withdrawal holds within five
_WHAT = {
    "KEY_REVOKED": "The API key of this call was withdrawn",
    "KEY_EXPIRED": "The API key of this call has expired",
    "TOKEN_EXPIRED": "The token of this call has expired",
}


class Keys(Protocol):
    """Who knows which keys work."""

    async def ended_keys(self, key_ids: Sequence[KeyId]) -> Sequence[EndedKey]:
        """Return those of at most MOST_ASKED keys that work no more. Raises Unavailable."""
        ...


class Standing:
    """Whether what one call came with still stands; of a call that came without key and token it always does."""

    def __init__(self, key_id: KeyId = KeyId(""), ends_s: float | None = None) -> None:
        self.key_id, self.ends_s = key_id, ends_s
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when it stands no more; `check` then says why."""
        self._reason = ""

    def end(self, reason: str) -> None:
        """Have it stand no more."""
        if not self.over.done():
            self._reason = reason
            self.over.set_result(None)

    def check(self) -> None:
        """Raise Unauthenticated once it stands no more."""
        if self._reason:
            what = _WHAT.get(self._reason, _WHAT["KEY_REVOKED"])
            told = f"{what} while its answer was open. What was accepted goes on; call again with one that works."
            raise Unauthenticated(told, reason=self._reason)


class Withdrawals:
    """Knows the calls that are open, and ends those whose key or token works no more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: set[Standing] = set()
        self._answered = True

    @contextmanager
    def watched(self, caller: Caller | None) -> Generator[Standing, None, None]:
        """Give the standing of a call inside the block; None is a call that a link or nobody's key allows."""
        standing = Standing() if caller is None else Standing(caller.key_id, caller.ends_s)
        if standing.key_id or standing.ends_s is not None:
            self._open.add(standing)
        try:
            yield standing
        finally:
            self._open.discard(standing)

    async def run(self, keys: Keys) -> None:
        """Look again and again until cancelled."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            await self.look(keys)

    async def look(self, keys: Keys) -> None:
        """End what ends by now."""
        now_s = self._clock.now()
        for standing in [each for each in self._open if each.ends_s is not None and each.ends_s <= now_s]:
            standing.end("KEY_EXPIRED" if is_key_id(standing.key_id) else "TOKEN_EXPIRED")
        asked = sorted({each.key_id for each in self._open if is_key_id(each.key_id) and not each.over.done()})
        for begin in range(0, len(asked), MOST_ASKED):
            self._end(await self._ended(keys, asked[begin : begin + MOST_ASKED]))

    async def _ended(self, keys: Keys, asked: Sequence[KeyId]) -> Sequence[EndedKey]:
        try:
            ended = await keys.ended_keys(asked)
        except DarkroomError as error:
            if self._answered:
                logger.warning("whether keys still work is not known; streams go on", extra={"reason": error.message})
            self._answered = False
            return ()
        self._answered = True
        return ended

    def _end(self, ended: Iterable[EndedKey]) -> None:
        reasons = {each.key_id: each.reason for each in ended}
        for standing in [each for each in self._open if each.key_id in reasons]:
            standing.end(reasons[standing.key_id])
            logger.info("a call ended with its key", extra={"key_id": standing.key_id})
