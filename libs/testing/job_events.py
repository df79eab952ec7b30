"""Follows jobs over REST and server-sent events, through restarts of whatever answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from libs.testing import waiting

FINAL = frozenset({"completed", "failed", "cancelled", "expired"})


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream; `sequence` is 0 for transient ones (progress, preview)."""

    name: str
    sequence: int
    data: dict[str, Any]


def parse(block: str) -> Event | None:
    """Return the event of one block of a stream, or None for a comment."""
    fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
    if "event" not in fields:
        return None
    return Event(fields["event"], int(fields.get("id", 0)), json.loads(fields.get("data", "{}")))


async def durable_events(client: httpx.AsyncClient, job_id: str) -> list[Event]:
    """Return all durable events of a job from the first to the final one; resumes when the stream breaks.

    The caller bounds the time. Raises AssertionError when a sequence comes twice or out of order.
    """
    events: list[Event] = []
    while not events or events[-1].name not in FINAL:
        try:
            await _read_on(client, job_id, events)
        except httpx.TransportError:
            await waiting.pause()
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


async def _read_on(client: httpx.AsyncClient, job_id: str, events: list[Event]) -> None:
    """Append what comes after the last of `events`, until the stream ends."""
    headers = {"last-event-id": str(events[-1].sequence)} if events else {}
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as answer:
        if answer.status_code >= 500:
            await waiting.pause()
            return
        assert answer.status_code == 200, await answer.aread()
        rest = ""
        async for text in answer.aiter_text():
            *blocks, rest = (rest + text).split("\n\n")
            events.extend(event for event in _events(blocks) if event.sequence)


def _events(blocks: list[str]) -> Iterator[Event]:
    for block in blocks:
        event = parse(block)
        if event is not None:
            yield event


async def read_all(client: httpx.AsyncClient, job_id: str) -> list[Event]:
    """Return every event of one uninterrupted stream, the transient ones too."""
    async with client.stream("GET", f"/v1/jobs/{job_id}/events", timeout=90.0) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = (await answer.aread()).decode()
    return list(_events(text.split("\n\n")))
