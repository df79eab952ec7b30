"""The reader of event streams that end-to-end tests rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from libs.testing.job_events import Event, durable_events, parse

FIRST_PART = (
    'event: queued\nid: 1\ndata: {}\n\n: keepalive\n\nevent: started\nid: 2\ndata: {"attempt": 1}\n\nevent: ima'
)
SECOND_PART = (
    'event: progress\ndata: {"step": 1}\n\nevent: image\nid: 3\ndata: {}\n\nevent: completed\nid: 4\ndata: {}\n\n'
)


class Broken(httpx.AsyncByteStream):
    """Ends in the middle of an event."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield FIRST_PART[:30].encode()
        yield FIRST_PART[30:].encode()
        raise httpx.ReadError("cut off")


def client_of(answers: list[httpx.Response], asked: list[str | None]) -> httpx.AsyncClient:
    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("last-event-id"))
        return answers.pop(0)

    return httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://door")


async def test_a_broken_stream_is_resumed_after_its_last_durable_event() -> None:
    asked: list[str | None] = []
    answers = [httpx.Response(200, stream=Broken()), httpx.Response(503), httpx.Response(200, text=SECOND_PART)]
    async with client_of(answers, asked) as client:
        events = await durable_events(client, "job_1")
    assert [event.name for event in events] == ["queued", "started", "image", "completed"]
    assert asked == [None, "2", "2"]


async def test_an_event_that_comes_twice_is_found() -> None:
    twice = SECOND_PART.replace("id: 3", "id: 1").replace("id: 4", "id: 1")
    async with client_of([httpx.Response(200, text=twice)], []) as client:
        with pytest.raises(AssertionError):
            await durable_events(client, "job_1")


def test_an_event_in_parts() -> None:
    assert parse('event: image\nid: 3\ndata: {"index": 0}') == Event("image", 3, {"index": 0})
    assert parse(": keepalive") is None
