"""A store that fails as a plan says: before it did anything, after it committed, or long after it said it failed."""

from __future__ import annotations

import asyncio
import enum
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from libs.clock import Clock
from services.scheduler.storage.store import JobStore, StoreUnavailable


class Failing(enum.Enum):
    """What becomes of a call."""

    NOT = "not"  # it is done and answered
    BEFORE = "before"  # nothing was done
    AFTER = "after"  # it was committed and the answer is lost
    LATE = "late"  # the caller is told that it failed, and it is committed later


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a call, after `before_s` seconds; its answer takes `after_s` more."""

    failing: Failing = Failing.NOT
    before_s: float = 0.0
    after_s: float = 0.0


Plan = Callable[[str], Fate]


def once(method: str, number: int, failing: Failing) -> Plan:
    """Let the call `number` (from 0) of one method fail."""
    seen = 0

    def plan(called: str) -> Fate:
        nonlocal seen
        seen += called == method
        struck = called == method and seen == number + 1
        return Fate(failing, after_s=0.5 if failing is Failing.LATE else 0.0) if struck else Fate()

    return plan


class EveryOther:
    """Loses the answer of every other call of some methods, the next one first."""

    def __init__(self, *methods: str) -> None:
        self._methods = methods
        self.next = True

    def __call__(self, called: str) -> Fate:
        if called not in self._methods:
            return Fate()
        lost, self.next = self.next, not self.next
        return Fate(Failing.AFTER if lost else Failing.NOT)


class FaultyStore:
    """Stands in for any JobStore, whatever methods that has. `dead`: its process is no more; calls do not return."""

    def __init__(self, store: JobStore, clock: Clock, plan: Plan) -> None:
        self._store = store
        self._clock = clock
        self._plan = plan
        self._late: set[asyncio.Future[Any]] = set()
        self.struck = 0
        self.dead = False

    @property
    def promised(self) -> JobStore:
        """The same, as what it stands in for."""
        return cast("JobStore", self)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*given: Any, **named: Any) -> Any:
            return await self._call(name, lambda: method(*given, **named))

        return call

    async def _call(self, name: str, action: Callable[[], Any]) -> Any:
        fate = self._plan(name)
        self.struck += fate.failing is not Failing.NOT
        if fate.before_s:
            await self._clock.sleep(fate.before_s)
        if self.dead:
            await asyncio.get_running_loop().create_future()
        if fate.failing is Failing.BEFORE:
            raise StoreUnavailable("it does not answer")
        if fate.failing is Failing.LATE:
            late = asyncio.ensure_future(self._later(fate.after_s, action))
            self._late.add(late)
            late.add_done_callback(self._late.discard)
            raise StoreUnavailable("it did not answer in time")
        answer = await action()
        if fate.after_s:
            await self._clock.sleep(fate.after_s)
        if fate.failing is Failing.AFTER:
            raise StoreUnavailable("the connection broke after the commit")
        return answer

    async def _later(self, after_s: float, action: Callable[[], Any]) -> None:
        await self._clock.sleep(after_s)
        await asyncio.gather(action(), return_exceptions=True)  # nobody hears whether it was deposed
