"""Something put around an RPC, whether it answers once or in a stream."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing
from typing import Any, TypeAlias

from services.gateway.callers.identity import Context

Entered: TypeAlias = Callable[[Any, Context], AbstractContextManager[None]]
"""Gives what to be in for as long as a call of this request lasts; what it raises refuses the call."""


def around(inner: Callable[..., Any], entered: Entered) -> Callable[..., Any]:
    """Return the RPC `inner`, each call of it in what `entered` gives."""
    return (_stream if inspect.isasyncgenfunction(inner) else _unary)(inner, entered)


def _unary(inner: Callable[..., Any], entered: Entered) -> Callable[..., Any]:
    @functools.wraps(inner)
    async def call(request: Any, context: Context) -> Any:
        with entered(request, context):
            return await inner(request, context)

    return call


def _stream(inner: Callable[..., Any], entered: Entered) -> Callable[..., Any]:
    @functools.wraps(inner)
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        with entered(request, context):
            async with aclosing(inner(request, context)) as messages:
                async for message in messages:
                    yield message

    return call
