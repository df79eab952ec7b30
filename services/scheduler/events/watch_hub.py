"""Tells the readers of a job what happens to it.

Durable events are never passed along: a change only marks its readers, and each reads the store after the last
sequence it has. It subscribes before its first read, so nothing is lost, and sequences only grow, so nothing is
doubled. An end that an operator took back is told only to who reads before that: who comes later hears of one end, who
had heard of it goes on behind it. Transient events wait in the reader's inbox, latest wins; a slow reader holds up nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace

from libs.alarm import Alarm
from libs.clients.modelserver import Progress
from libs.clock import Clock
from libs.errors import Unavailable
from libs.ids import JobId
from services.scheduler.events.watch_inbox import Inbox, Transient
from services.scheduler.job import DurableEvent
from services.scheduler.storage.store import JobStore

FINAL_KINDS = frozenset(("completed", "failed", "cancelled", "expired"))
_CLOSING_KINDS = FINAL_KINDS | {"image"}  # committed together at the end, after the last step was reported


class _Reader:
    def __init__(self, clock: Clock) -> None:
        self.alarm = Alarm(clock)
        self.inbox = Inbox()
        self.marked = True  # the first thing a reader does is to read the store


class WatchHub:
    """Readers by job."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._readers: dict[JobId, set[_Reader]] = {}
        self._progress: dict[JobId, Progress] = {}
        self._stopping = False
        self.audience: Callable[[JobId], Iterable[JobId]] = _nobody  # the jobs that a run draws besides its own

    def stop(self) -> None:
        """End every watch: the process goes away."""
        self._stopping = True
        for readers in self._readers.values():
            for reader in readers:
                reader.alarm.ring()

    def mark(self, job_id: JobId) -> None:
        """Say that something durable happened to a job; call after the commit."""
        for reader in self._readers.get(job_id, ()):
            reader.marked = True
            reader.alarm.ring()

    def tell(self, job_id: JobId, item: Transient) -> None:
        """Pass on what is not kept, also to the readers of jobs that joined the run."""
        self._tell(job_id, item)
        for joined in self.audience(job_id):
            self._tell(joined, replace(item, attempt=1))  # they have had no attempt of their own

    def progress(self, job_id: JobId) -> Progress | None:
        """Return the latest progress of the running attempt."""
        return self._progress.get(job_id)

    def attempt_over(self, job_id: JobId) -> None:
        """Forget the progress of an attempt that is over."""
        for over in (job_id, *self.audience(job_id)):
            self._progress.pop(over, None)

    async def watch(self, job_id: JobId, after_seq: int) -> AsyncGenerator[DurableEvent | Transient, None]:
        """Yield durable events after `after_seq` and what passes, until the final one or the job is no more.

        Raises Unavailable when the process stops, StoreUnavailable when the database does.
        """
        reader = self._subscribe(job_id)
        seq = after_seq
        try:
            while True:
                self._check_going_on()
                events = await self._news(job_id, seq, reader)
                if events is None:
                    return
                for item in self._in_order(reader, events):
                    yield item
                if events:
                    seq = events[-1].seq
                if events and events[-1].kind in FINAL_KINDS:
                    return
                if not reader.marked:
                    await reader.alarm.wait(reader.inbox.next_at())
        finally:
            self._unsubscribe(job_id, reader)

    def _tell(self, job_id: JobId, item: Transient) -> None:
        if isinstance(item, Progress):
            self._progress[job_id] = item
        for reader in self._readers.get(job_id, ()):
            reader.inbox.put(item)
            reader.alarm.ring()

    def _check_going_on(self) -> None:
        if self._stopping:
            told = "The scheduler restarts. Nothing is lost; go on from the last sequence."
            raise Unavailable(told, reason="DRAINING", retry_after_s=1.0)

    def _subscribe(self, job_id: JobId) -> _Reader:
        reader = _Reader(self._clock)
        self._readers.setdefault(job_id, set()).add(reader)
        if job_id in self._progress:
            reader.inbox.put(self._progress[job_id])
        return reader

    def _unsubscribe(self, job_id: JobId, reader: _Reader) -> None:
        readers = self._readers.get(job_id, set())
        readers.discard(reader)
        if not readers:
            self._readers.pop(job_id, None)

    async def _news(self, job_id: JobId, seq: int, reader: _Reader) -> list[DurableEvent] | None:
        """Return durable events the reader has not seen; None when there will be none any more."""
        if not reader.marked:
            return []
        reader.marked = False
        events = await self._store.events(job_id, seq)
        if events:
            return _without_former_ends(events)
        job = await self._store.get(job_id)
        if job is not None and job.open:
            return []
        return await self._store.events(job_id, seq) or None  # it may have ended between the two reads

    def _in_order(self, reader: _Reader, events: list[DurableEvent]) -> list[DurableEvent | Transient]:
        opening = [event for event in events if event.kind not in _CLOSING_KINDS]
        closing = [event for event in events if event.kind in _CLOSING_KINDS]
        for event in opening:
            if event.kind == "started":
                reader.inbox.started(event.payload["attempt"])
        passing = reader.inbox.take_certain() if closing else reader.inbox.take(self._clock.now())
        return [*opening, *passing, *closing]


def _without_former_ends(events: list[DurableEvent]) -> list[DurableEvent]:
    """Return the events without ends that the job came back from."""
    last = max((number for number, event in enumerate(events) if event.kind == "queued"), default=0)
    return [event for number, event in enumerate(events) if number >= last or event.kind not in _CLOSING_KINDS]


def _nobody(_job_id: JobId) -> Iterable[JobId]:
    return ()
