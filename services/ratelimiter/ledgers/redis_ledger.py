"""The ledger of several processes: documents in Redis, written only if nobody else did since they were read.

The arithmetic runs here, by Redis's time; a script compares and writes all documents of a transaction or none of them.
One server holds everything under one hash tag, so tenants, keys and addresses can be decided together. Each document
goes by itself when it is as good as empty or long over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from libs.clock import Clock, SystemClock
from services.ratelimiter.balances.balance import Balance
from services.ratelimiter.balances.booking import Booking, Outcome, Touched
from services.ratelimiter.balances.reservation import Hold
from services.ratelimiter.balances.scope import AccountId
from services.ratelimiter.ledgers import codec
from services.ratelimiter.ledgers.ledger import Change, LedgerBusy
from services.ratelimiter.ledgers.redis_documents import Document, applied, booking_of, changed, filled, names_of
from services.ratelimiter.ledgers.redis_guess import Guess
from services.ratelimiter.ledgers.redis_line import Found, RedisLine, key
from services.ratelimiter.ledgers.redis_putting import putting
from services.ratelimiter.ledgers.redis_scripts import BEFORE, DROP, LOOK, NOTE, SWAP
from services.ratelimiter.ledgers.turns import Turns

_MOST_TRIES = 64
_TRIES_TOGETHER = 3
_PATIENCE = 5  # times the deadline of one answer, for its turn
_MOST_EXPIRED = 200  # in one sweep
_INDEX = key("tentative")
_RESTORED, _ALIVE, _UNSETTLED = key("restored"), key("alive"), key("unsettled")
_AT_ONCE = 500
_UNSETTLED_MS = 600_000  # less: what is settled a second time must still be known to be over


class RedisLedger:
    """Keeps the promises of `ledger.Ledger`; raises LedgerLost until `adopt` was called for this life of the server."""

    def __init__(self, line: RedisLine, clock: Clock | None = None) -> None:
        """Decide by Redis's time, or by a test's clock."""
        self._line, self._clock, self._guess = line, clock, Guess(SystemClock())
        self._turns = Turns(_PATIENCE * line.deadline_s)

    async def transact(self, touched: Touched, change: Change) -> Outcome:
        """Apply a change to what is touched; LedgerBusy when others are faster again and again."""
        names = names_of(touched)
        async with self._turns.of(touched.tenant_id):
            guessed = self._guess.of(names)
            found = guessed or await self._line.run(LOOK, names)
            for _ in range(_MOST_TRIES):
                now_s = self._now_s(found)
                booking = booking_of(touched, found.documents, now_s)
                outcome = change(booking, now_s)
                if outcome.applied:
                    read, documents = dict(zip(names, found.documents, strict=True)), changed(touched, booking, outcome)
                    found = await self._swap(read, documents)
                    if not found.documents:
                        self._guess.saw({each.name: each.text.encode() for each in documents}, found.now_s)
                        return outcome
                elif found is guessed:  # nobody is told no by a guess
                    found = await self._line.run(LOOK, names)
                else:
                    return outcome
                self._guess.saw(dict(zip(names, found.documents, strict=True)), found.now_s)
        raise LedgerBusy.now()

    async def transact_all(self, changes: Sequence[tuple[Touched, Change]]) -> list[Outcome]:
        """Apply them with one look and one write; where others are in the way again and again, each by itself."""
        together = await self._together(changes)
        if together is not None:
            return together
        answers = await asyncio.gather(*(self.transact(*each) for each in changes), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LedgerBusy):
                raise answer
        return [answer for answer in answers if isinstance(answer, Outcome)]

    async def _together(self, changes: Sequence[tuple[Touched, Change]]) -> list[Outcome] | None:
        names = list(dict.fromkeys(name for touched, _ in changes for name in names_of(touched)))
        found = await self._line.run(LOOK, names)
        for _ in range(_TRIES_TOGETHER):
            read = dict(zip(names, found.documents, strict=True))
            outcomes, documents = applied(changes, read, self._now_s(found))
            if not documents:
                return outcomes
            found = await self._swap(read, documents)
            if not found.documents:
                self._guess.heard({document.name: document.text.encode() for document in documents}, found.now_s)
                return outcomes
        return None

    async def read(self, touched: Touched) -> tuple[Booking, float]:
        """Return what is held."""
        found = await self._line.run(LOOK, names_of(touched))
        now_s = self._now_s(found)
        return booking_of(touched, found.documents, now_s), now_s

    async def unconfirmed(self, age_s: float) -> Sequence[Hold]:
        """Return what is still tentative, oldest first; the rest of very many with the next call."""
        now_s = self._now_s(await self._line.run(LOOK, []))
        found = await self._line.run(BEFORE, [_INDEX], now_s - age_s, _MOST_EXPIRED)
        return [codec.reservation_from_json(document).hold for document in found.documents if document]

    async def forget(self, age_s: float) -> None:  # noqa: ARG002 - Redis was told with each document
        """Note that it lives; each document is dropped by Redis when its time is over."""
        await self._line.run(NOTE, [_ALIVE])

    async def restored_s(self) -> float:
        """Return as of when it was last put together from usage. Raises LedgerLost when it is not known to be whole."""
        restored = (await self._line.run(LOOK, [_RESTORED])).documents[0]
        return float(restored or b"0")

    async def adopt(self) -> float | None:
        """Declare what was kept over another start whole; return when it was last alive, None when nothing was kept."""
        async with putting(self._line) as turn:
            alive, unsettled = (await self._line.command(("MGET", _ALIVE, _UNSETTLED)))[0]
            if alive is None or not turn.before:
                return None
            if not turn.is_done:
                since_s = min(float(alive), float(unsettled or alive))
                await turn.declare((_UNSETTLED, since_s, _UNSETTLED_MS))
            return float(alive)

    async def unsettled_s(self) -> float | None:
        """Return since when settlements may be missing in what was adopted; None when none are."""
        unsettled = (await self._line.run(LOOK, [_UNSETTLED])).documents[0]
        return None if unsettled is None else float(unsettled)

    async def settled(self, since_s: float) -> None:
        """Note that none are missing since then."""
        await self._line.run(DROP, [_UNSETTLED], since_s)

    async def restore(self, known: Mapping[AccountId, Balance], as_of_s: float) -> None:
        """Fill an empty one with what was known at a moment, and declare it whole, unless another process did."""
        async with putting(self._line) as turn:
            if turn.is_done:
                return
            accounts = list(known.items())
            for first in range(0, len(accounts), _AT_ONCE):
                await turn.write(*(filled(*each, as_of_s) for each in accounts[first : first + _AT_ONCE]))
            await turn.declare((_RESTORED, as_of_s, 0), (_ALIVE, as_of_s, 0), (_UNSETTLED, "", 0))

    def _now_s(self, found: Found) -> float:
        return found.now_s if self._clock is None else self._clock.now()

    async def _swap(self, read: Mapping[str, bytes | None], documents: Sequence[Document]) -> Found:
        """Write, and compare all that was read: what did not change must not have changed under us either."""
        new = {document.name: document for document in documents}
        words: list[bytes | str | int] = []
        for name, before in read.items():
            document = new.get(name)
            if document is None:
                words += [before or b"", before or b"", 0, ""]
            else:
                words += [before or b"", document.text, max(1, round(document.life_s * 1000)), document.place]
        return await self._line.run(SWAP, [_INDEX, *read], *words)
