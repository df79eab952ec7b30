"""Who is calling and what may they still spend: asked for every request, charged for none.

A denied reservation is the gateway's to tell; here only those are refused who cannot say who they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from libs.errors import DarkroomError, LimitExceeded, Unauthenticated
from services.ratelimiter.decider import Decider
from services.ratelimiter.door.callers import Caller, Question, Recogniser, Strangers
from services.ratelimiter.headers import Header
from services.ratelimiter.meters import Meters
from services.ratelimiter.strangers.wrong_keys import WrongKeys


@dataclass(frozen=True, slots=True)
class Answer:
    """The caller, or why nobody was recognised; the headers tell the limits of the caller, else of the address."""

    caller: Caller
    headers: Sequence[Header]
    refusal: DarkroomError | None = None


class Door:
    """Recognises callers by what they prove; those who prove nothing are `strangers`."""

    def __init__(
        self,
        recognisers: Sequence[Recogniser],
        strangers: Strangers,
        wrong_keys: WrongKeys,
        limiter: Decider,
        meters: Meters,
    ) -> None:
        self._recognisers, self._strangers, self._wrong_keys = tuple(recognisers), strangers, wrong_keys
        self._limiter, self._meters = limiter, meters

    async def check(self, question: Question) -> Answer:
        """Return who calls, or why they are refused."""
        refusal: DarkroomError | None = None
        try:
            caller = await self._recognise(question)
        except Unauthenticated as error:
            caller, refusal = self._strangers.at(question.address), self._wrong_keys.told(error, question.address)
        except LimitExceeded as error:
            caller, refusal = self._strangers.at(question.address), error
        if refusal is not None:
            self._meters.refused(refusal.reason)
        headers = await self._limiter.told(caller.tenant_id, caller.tier, caller.key_id, caller.address)
        return Answer(caller, [*headers, *caller.told, *_again(refusal)], refusal)

    async def _recognise(self, question: Question) -> Caller:
        for recogniser in self._recognisers:
            caller = await recogniser.recognise(question)
            if caller is not None:
                return caller
        return await self._strangers.recognise(question)


def _again(refusal: DarkroomError | None) -> Sequence[Header]:
    wait_s = refusal.retry_after_s if refusal is not None else None
    return (("retry-after", str(math.ceil(wait_s))),) if wait_s else ()
