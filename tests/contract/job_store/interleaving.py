"""Plays what several do at once in every order of their steps, one step at a time, without threads or chance.

A step is one call of the store or of the blob store: each of those is atomic by its own promise.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Protocol

Act = Callable[["Gate"], Coroutine[Any, Any, None]]


class Gate:
    """Holds one actor before each of its steps until it is its turn."""

    def __init__(self, changed: asyncio.Event) -> None:
        self._changed = changed
        self._turn: asyncio.Future[None] | None = None

    @property
    def held(self) -> bool:
        return self._turn is not None and not self._turn.done()

    def open(self) -> None:
        assert self._turn is not None
        self._turn.set_result(None)

    async def wait(self) -> None:
        self._turn = asyncio.get_running_loop().create_future()
        self._changed.set()
        await self._turn

    def guard(self, thing: Any, *steps: str) -> Any:
        """Return what does the same as `thing`, with the calls of these methods as steps."""
        return _Guarded(thing, self, steps)


class _Guarded:
    def __init__(self, thing: Any, gate: Gate, steps: Sequence[str]) -> None:
        self._thing, self._gate, self._steps = thing, gate, steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._thing, name)
        if name not in self._steps:
            return method

        async def call(*given: Any, **named: Any) -> Any:
            await self._gate.wait()
            return await method(*given, **named)

        async def each(*given: Any, **named: Any) -> AsyncIterator[Any]:
            await self._gate.wait()
            for item in [item async for item in method(*given, **named)]:
                yield item

        return each if inspect.isasyncgenfunction(method) else call


class Story(Protocol):
    """What happens in one play; a new one is made for every order."""

    @property
    def acts(self) -> Sequence[Act]:
        """What goes on at once."""
        ...

    async def check(self) -> None:
        """Assert what must hold after every step."""
        ...


async def play(story: Story, order: Sequence[int]) -> list[int]:
    """Play in an order: which of those held goes on, by number; behind its end always the first.

    Returns how many there were to choose from, choice by choice.
    """
    changed = asyncio.Event()
    gates = [Gate(changed) for _ in story.acts]
    actors = [asyncio.create_task(act(gate)) for act, gate in zip(story.acts, gates, strict=True)]
    for actor in actors:
        actor.add_done_callback(lambda _: changed.set())
    widths: list[int] = []
    async with asyncio.timeout(30):
        while held := await _held(actors, gates, changed):
            await story.check()
            chosen = order[len(widths)] if len(widths) < len(order) else 0
            widths.append(len(held))
            held[chosen].open()
    for actor in actors:
        actor.result()
    await story.check()
    return widths


async def _held(actors: Sequence[asyncio.Task[None]], gates: Sequence[Gate], changed: asyncio.Event) -> list[Gate]:
    """Return the gates with somebody before them, once everybody stands before one or is through."""
    while True:
        changed.clear()
        if all(actor.done() or gate.held for actor, gate in zip(actors, gates, strict=True)):
            return [gate for actor, gate in zip(actors, gates, strict=True) if not actor.done()]
        await changed.wait()


def next_order(order: Sequence[int], widths: Sequence[int]) -> list[int] | None:
    """Return the order after the one that was played with these choices; None when all were."""
    played = [*order, *([0] * (len(widths) - len(order)))]
    while played:
        last = played.pop()
        if last + 1 < widths[len(played)]:
            return [*played, last + 1]
    return None
