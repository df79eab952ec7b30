"""One attempt at one job: what was asked for, what has happened, and who follows it.

Event loop only, except `claim`, which the device thread uses too.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from opentelemetry.context import Context

from libs.generation.attempt import Checkpointed, StageDone
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.modelserver.events import FINAL_EVENTS, TRANSIENT_EVENTS, Done, Event, Failed, Preview, Progress

Key = tuple[JobId, int]


@dataclass(frozen=True, slots=True)
class Order:
    """What the scheduler sends. `epoch` is that of the leader that sent it.

    `resume_from`, `input_key` and `mask_key` are keys in the blob store, or empty: of a checkpoint, of the input
    picture and its mask. `attach`: follow it if it is known here, and never begin it.
    """

    job_id: JobId
    attempt: int
    epoch: int
    pinned: str
    spec: GenerationSpec
    resume_from: str = ""
    input_key: str = ""
    mask_key: str = ""
    attach: bool = False

    @property
    def key(self) -> Key:
        """The token of this attempt."""
        return self.job_id, self.attempt


def _unheard(_outcome: Done | Failed) -> None:
    """Let nobody hear of it."""


class Attempt:
    """The record of an attempt. `trace` is the context of the call that began it; its stages are spans of that."""

    def __init__(
        self,
        order: Order,
        trace: Context,
        on_stage: Callable[[Attempt, StageDone], None],
        on_end: Callable[[Done | Failed], None] = _unheard,
    ) -> None:
        self.order = order
        self.trace = trace
        self._on_stage, self._on_end = on_stage, on_end
        self._events: list[Event | None] = []  # None: a preview that nobody needs any more
        self._news = asyncio.Event()
        self._claimed = threading.Lock()
        self.over_at_s: float | None = None  # monotonic, like the next; both set by the registry
        self.alone_at_s: float | None = None  # since when it is parked and nobody follows it
        self.parked = False  # set by the worker
        self.followers = 0

    @property
    def outcome(self) -> Event | None:
        """The final event, once there is one."""
        return self._events[-1] if self._events and isinstance(self._events[-1], FINAL_EVENTS) else None

    @property
    def begun(self) -> bool:
        """Whether anything has happened."""
        return bool(self._events)

    def steps(self) -> list[Progress]:
        """Return the steps that were drawn so far."""
        return [event for event in self._events if isinstance(event, Progress)]

    def post(self, event: Event) -> None:
        """Tell every follower. What comes after the final event is dropped."""
        if self.outcome is not None:
            return
        if isinstance(event, StageDone):
            self._on_stage(self, event)
        if isinstance(event, Done | Failed):
            self._on_end(event)
            self._events = [None if isinstance(old, Preview) else old for old in self._events]
        self._events.append(event)
        told, self._news = self._news, asyncio.Event()
        told.set()

    async def follow(self) -> AsyncGenerator[Event, None]:
        """Yield what has happened that lasts, the latest progress, then everything live, to the final event."""
        self.followers, self.alone_at_s = self.followers + 1, None
        try:
            async with aclosing(self._told()) as events:
                async for event in events:
                    yield event
        finally:
            self.followers -= 1

    async def _told(self) -> AsyncGenerator[Event, None]:
        position = len(self._events)
        for event in _replay(self._events[:position]):
            yield event
        while True:
            while position < len(self._events):
                event_or_none = self._events[position]
                position += 1
                if event_or_none is not None:
                    yield event_or_none
            if self.outcome is not None:
                return
            await self._news.wait()

    async def next_of(self, *kinds: type[object]) -> None:
        """Wait until something of these kinds happens, or the end."""
        position = len(self._events)
        while not any(isinstance(event, (*kinds, *FINAL_EVENTS)) for event in self._events[position:]):
            await self._news.wait()

    def claim(self) -> bool:
        """Return True to the one caller that may run it or hand it back; False to every later one."""
        return self._claimed.acquire(blocking=False)


def _replay(events: list[Event | None]) -> list[Event]:
    latest = (_last(events, Progress), _last(events, Checkpointed))  # older checkpoints are deleted by now
    return [
        event
        for index, event in enumerate(events)
        if event is not None and (index in latest or not isinstance(event, (*TRANSIENT_EVENTS, Checkpointed)))
    ]


def _last(events: list[Event | None], kind: type[object]) -> int:
    return next((index for index in range(len(events) - 1, -1, -1) if isinstance(events[index], kind)), -1)
