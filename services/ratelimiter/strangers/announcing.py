"""Whether callers without a key can make an account, so that refusals name only what is on."""

from __future__ import annotations

import dataclasses

from services.ratelimiter.door.callers import Caller, Question, Strangers
from services.ratelimiter.keys.sign_up import Mode

HEADER = "x-darkroom-sign-up"


class Announcing:
    """Takes strangers as another does, and tells the gateway who may sign up; nothing where nobody may."""

    def __init__(self, strangers: Strangers, mode: Mode) -> None:
        self._strangers, self._mode = strangers, mode

    async def recognise(self, question: Question) -> Caller:
        """Return as whom they are let in."""
        return self._told(await self._strangers.recognise(question))

    def at(self, address: str) -> Caller:
        """Return whose limits somebody is told who was refused."""
        return self._strangers.at(address)

    def _told(self, caller: Caller) -> Caller:
        if self._mode is Mode.OFF:
            return caller
        return dataclasses.replace(caller, trusted=(*caller.trusted, (HEADER, self._mode.value)))
