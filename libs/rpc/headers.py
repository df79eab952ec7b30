"""Headers of the answer to the call that runs now.

They must leave as *initial* metadata: Envoy's transcoder drops trailing metadata. A servicer adds to the
collection from anywhere below it; the interceptor sends it before the first message, or before the error.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar

_outgoing: ContextVar[dict[str, str] | None] = ContextVar("darkroom_outgoing_headers", default=None)


def begin() -> dict[str, str]:
    """Start the collection of a call; used by the interceptor."""
    headers: dict[str, str] = {}
    _outgoing.set(headers)
    return headers


def add(headers: Iterable[tuple[str, str]]) -> None:
    """Set headers of the answer; a later value replaces an earlier one. Does nothing outside a call."""
    collected = _outgoing.get()
    if collected is not None:
        collected.update((name.lower(), value) for name, value in headers)
