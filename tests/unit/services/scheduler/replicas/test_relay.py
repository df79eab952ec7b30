"""Whom a replica asks for an answer: itself, the leader, or the one when the other does not say anything."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from libs.errors import DarkroomError, DeadlinePassed, NotFound, Unavailable
from services.scheduler.replicas.lead import Lead
from services.scheduler.replicas.lead_store import Claim
from services.scheduler.replicas.relay import Front, LeaderLine, Relay
from services.scheduler.storage.memory_store import MemoryStore

LOCAL = {"ListJobs": 0, "GetJob": 1}


class Said:
    """Answers every method with its name, or with an error."""

    def __init__(self, name: str, error: DarkroomError | None = None) -> None:
        self._name, self._error = name, error

    def __getattr__(self, method: str) -> Any:
        async def call(request: Any, context: Any) -> str:
            if self._error is not None:
                raise self._error
            return self._name

        return call

    async def within(self, method: str, request: Any, context: Any, seconds: float) -> Any:
        return await getattr(self, method)(request, context)


async def asked(method: str, *, leads: bool = False, error: DarkroomError | None = None) -> str:
    relay = cast("Relay", Said("relayed", error))
    front = Front(Lead(1, serving=leads), Said("leading"), relay, Said("standing by"), LOCAL)
    told: str = await getattr(front, method)(SimpleNamespace(), SimpleNamespace())
    return told


@pytest.mark.parametrize(
    ("method", "expected"), [("ListJobs", "standing by"), ("GetJob", "relayed"), ("EstimateWait", "relayed")]
)
async def test_a_standby_asks_the_leader_for_what_it_knows_better(method: str, expected: str) -> None:
    assert await asked(method) == expected
    assert await asked(method, leads=True) == "leading"


@pytest.mark.parametrize("error", [Unavailable("nobody leads"), DeadlinePassed("it stands still")])
async def test_without_a_leader_it_answers_what_it_can(error: DarkroomError) -> None:
    assert await asked("GetJob", error=error) == "standing by"
    with pytest.raises(type(error)):
        await asked("EstimateWait", error=error)


async def test_what_the_leader_refuses_is_refused() -> None:
    with pytest.raises(NotFound):
        await asked("GetJob", error=NotFound("no such job"))


class Channel:
    """Takes a moment to close, like a real one."""

    def __init__(self) -> None:
        self.closed = False

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


async def test_callers_that_find_a_new_leader_together_share_one_connection() -> None:
    store, made = MemoryStore(), []

    def connect(_address: str) -> Any:
        made.append(Channel())
        return made[-1]

    line, context = LeaderLine(store, "me", connect), SimpleNamespace(invocation_metadata=lambda: ())
    for revision, address in ((1, "a:1"), (2, "b:1")):
        await store.take_lead(address, 0.0, Claim("c", revision, address))
        found = await asyncio.gather(*(line.channel(cast("Any", context)) for _ in range(3)))
        assert set(found) == {made[-1]}
    assert [channel.closed for channel in made] == [True, False]
