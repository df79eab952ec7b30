from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from darkroom.v1 import generation_service_pb2_grpc as rpc
from darkroom.v1 import job_pb2
from libs.clients.public import PublicClient
from libs.errors import NotFound, Unavailable

QUEUED = job_pb2.JobEvent(sequence=1, queued=job_pb2.QueuedEvent())
COMPLETED = job_pb2.JobEvent(sequence=2, completed=job_pb2.CompletedEvent())


class Impatient:
    """A clock whose sleeps are over at once and counted."""

    def __init__(self) -> None:
        self.sleeps: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)


@dataclass
class Door(rpc.GenerationServiceServicer):
    """Plays one script a watch: events to send, or a status to end with; the last script again and again."""

    scripts: list[list[job_pb2.JobEvent | grpc.StatusCode]]
    asked_after: list[int] = field(default_factory=list)

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[job_pb2.JobEvent]:
        self.asked_after.append(request.after_sequence)
        for step in self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]:
            if isinstance(step, grpc.StatusCode):
                await context.abort(step, "no")
            yield step


@asynccontextmanager
async def watching(door: Door, clock: Impatient) -> AsyncIterator[PublicClient]:
    server = grpc.aio.server()
    rpc.add_GenerationServiceServicer_to_server(door, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield PublicClient(channel, "", clock)
    finally:
        await server.stop(0)


async def test_a_watch_survives_a_door_that_is_away_for_a_while() -> None:
    away: list[job_pb2.JobEvent | grpc.StatusCode] = [grpc.StatusCode.UNAVAILABLE]
    door, clock = Door([[QUEUED, *away], *[away] * 12, [COMPLETED]]), Impatient()
    async with watching(door, clock) as client:
        assert [event.sequence async for event in client.watch("job_1")] == [1, 2]
    assert door.asked_after == [0] + [1] * 13
    assert len(clock.sleeps) == 13
    assert max(clock.sleeps) > 5 * clock.sleeps[0]  # it waits longer and longer


async def test_a_watch_gives_up_in_the_end_and_at_once_on_a_refusal() -> None:
    door, clock = Door([[grpc.StatusCode.UNAVAILABLE]]), Impatient()
    async with watching(door, clock) as client:
        with pytest.raises(Unavailable):
            await anext(aiter(client.watch("job_1")))
        assert 20 < len(clock.sleeps) < 100
        door.scripts, clock.sleeps = [[grpc.StatusCode.NOT_FOUND]], []
        with pytest.raises(NotFound):
            await anext(aiter(client.watch("job_1")))
        assert clock.sleeps == []
