"""What is done in a transaction: a coroutine that awaits nothing but the connection it is given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

R = TypeVar("R")
Work = Callable[[AsyncConnection], Awaitable[R]]


class Suspended(Exception):
    """Work on an SQLite file waited for something else: it runs in a thread, without an event loop."""


def done_at_once(work: Awaitable[R]) -> R:
    """Return what `work` comes to, without an event loop."""

    async def wait() -> R:
        return await work

    coroutine = wait()
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    coroutine.close()
    raise Suspended("work in a transaction on a file may await nothing but its connection")
