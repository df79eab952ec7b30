"""Simulated workers: they keep what real ones promise, and the network between loses, doubles and delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from libs.clients.modelserver import (
    AttemptDone,
    AttemptEvent,
    AttemptFailed,
    Order,
    Progress,
    WorkerLost,
    WorkerRefused,
)
from libs.errors import DarkroomError, NotFound, PreconditionFailed, Unavailable
from libs.fleet.record import WorkerRecord
from libs.generation.attempt import Checkpointed, FailureKind
from libs.generation.model import Model
from libs.ids import JobId
from libs.testing.simulated_loop import SimulatedClock, process_named
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.simulation.chances import Chances

ROWS = 1
LEASE_S = 5.0
ALONE_S = 60.0  # after which what is parked and followed by nobody is given up
FAILURES = (FailureKind.TRANSIENT, FailureKind.OUT_OF_MEMORY, FailureKind.MODEL_UNAVAILABLE, FailureKind.DRAINING)
Token = tuple[JobId, int]


@dataclass(slots=True)
class Drawing:
    """One run of an attempt: what it has said, and when it began and ended."""

    order: Order
    began_at: float
    events: list[AttemptEvent] = field(default_factory=list)
    ended_at: float | None = None
    stop: bool = False
    parked: bool = False
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, *events: AttemptEvent) -> None:
        """Add to what it has said."""
        self.events.extend(events)
        self.wake()

    def wake(self) -> None:
        """Let who listens look again."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Ran:
    """A run for the journal."""

    token: Token
    worker: str
    drawing: Drawing


class SimulatedWorker:
    """One worker through all its incarnations."""

    def __init__(self, name: str, chances: Chances, journal: list[Ran], say: Callable[[str], None]) -> None:
        self.name = name
        self._say = say
        self.incarnation = 1
        self.up = True
        self.cut_off = False
        self._chances = chances
        self._clock = SimulatedClock()
        self._journal = journal
        self._heard = 0
        self._known: dict[Token, Drawing] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def record(self) -> WorkerRecord:
        """What it says of itself."""
        return fakes.record(self.name, str(self.incarnation), rows=ROWS)

    @property
    def reachable(self) -> bool:
        """Whether anybody gets an answer."""
        return self.up and not self.cut_off

    def running(self) -> int:
        """Return how many attempts it draws."""
        return sum(drawing.ended_at is None and not drawing.parked for drawing in self._known.values())

    def take(self, order: Order) -> Drawing:
        """Return the run of a token, begun now if it is new."""
        self.heed(order.epoch)
        token = order.job_id, order.attempt
        if token not in self._known:
            if order.attach:
                raise NotFound("not known here", reason="ATTEMPT_UNKNOWN")
            if any(job_id == order.job_id and number > order.attempt for job_id, number in self._known):
                raise PreconditionFailed("an attempt of the past")
            if self.running() >= ROWS + 1:
                raise WorkerRefused("busy", reason="WORKER_BUSY")
            self._begin(token, order)
        return self._known[token]

    def heed(self, epoch: int) -> None:
        """Obey no leader that came before one that was heard."""
        if epoch < self._heard:
            raise PreconditionFailed("an epoch of the past", reason="EPOCH_STALE")
        self._heard = epoch

    def cancel(self, token: Token) -> bool:
        """Stop an attempt at its next step."""
        drawing = self._known.get(token)
        if drawing is None or drawing.ended_at is not None:
            return False
        drawing.stop = True
        drawing.wake()
        return True

    async def park(self, token: Token) -> bool:
        """Take an attempt off the device at its next step."""
        drawing = self._known.get(token)
        if drawing is None or drawing.parked or drawing.ended_at is not None:
            return False
        await self._clock.sleep(self._chances.between(0.1, 1.0))
        drawing.parked = drawing.ended_at is None
        return drawing.parked

    def resume(self, token: Token) -> bool:
        """Let a parked attempt go on."""
        drawing = self._known.get(token)
        found = drawing is not None and drawing.parked and drawing.ended_at is None
        if drawing is not None:
            drawing.parked = False
            drawing.wake()
        return found

    def crash(self) -> None:
        """Lose everything; `come_back` begins a new incarnation."""
        self.up, self._heard = False, 0
        for task in self._tasks:
            task.cancel()
        for drawing in self._known.values():
            drawing.ended_at = self._clock.now() if drawing.ended_at is None else drawing.ended_at
            drawing.wake()
        self._known = {}

    def come_back(self) -> None:
        """Start again."""
        self.up, self.incarnation = True, self.incarnation + 1

    def _begin(self, token: Token, order: Order) -> None:
        for (job_id, _), older in self._known.items():
            older.stop = older.stop or job_id == order.job_id
        drawing = self._known[token] = Drawing(order, self._clock.now())
        self._journal.append(Ran(token, self.name, drawing))
        self._say(f"{self.name} begins attempt {order.attempt} at {order.job_id} for epoch {order.epoch}")
        with process_named(self.name):
            task = asyncio.create_task(self._draw(drawing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _draw(self, drawing: Drawing) -> None:
        order = drawing.order
        fails_at = self._chances.random.randint(1, order.spec.steps) if self._chances.happens(0.2) else 0
        for step in range(1, order.spec.steps + 1):
            await self._clock.sleep(self._chances.between(0.3, 2.0))
            await self._wait_while_parked(drawing)
            if drawing.stop:
                return self._end(drawing, AttemptFailed(FailureKind.CANCELLED, "", "", 10.0 * step))
            drawing.say(Progress(order.attempt, step, order.spec.steps, 1.0))
            if step == fails_at and self._chances.happens(self._chances.attempt_fails * 4):
                kind = self._chances.random.choice(FAILURES)
                return self._end(drawing, AttemptFailed(kind, "GENERATION_FAILED", "drawn by lot", 10.0 * step))
            if step == 2:
                drawing.say(Checkpointed(f"checkpoints/{order.job_id}/{order.attempt}", step, order.spec.steps))
        *last, done = (line for line in fakes.pictures(order) if not isinstance(line, Progress | Exception))
        drawing.say(*last)
        assert isinstance(done, AttemptDone)
        return self._end(drawing, done)

    async def _wait_while_parked(self, drawing: Drawing) -> None:
        alone_s = 0.0
        while drawing.parked and not drawing.stop:
            await self._clock.sleep(1.0)
            alone_s = 0.0 if drawing.followers else alone_s + 1.0
            drawing.stop = drawing.stop or alone_s > ALONE_S

    def _end(self, drawing: Drawing, last: AttemptEvent) -> None:
        drawing.ended_at = self._clock.now()
        order, how = drawing.order, last.kind.value if isinstance(last, AttemptFailed) else "done"
        self._say(f"{self.name} ends attempt {order.attempt} at {order.job_id}: {how}")
        drawing.say(last)


class Connection(fakes.FakeModelServer):
    """A scheduler's way to one incarnation of a worker."""

    def __init__(self, worker: SimulatedWorker, chances: Chances) -> None:
        super().__init__()
        self._worker = worker
        self._incarnation = worker.incarnation
        self._chances = chances
        self._clock = SimulatedClock()
        self._under_way: set[asyncio.Task[None]] = set()

    async def execute(self, order: Order) -> AsyncGenerator[AttemptEvent, None]:
        """Run an attempt."""
        await self._clock.sleep(self._chances.between(0.0, 0.05))
        if not self._answers():
            raise WorkerRefused("cannot be reached", reason="UNAVAILABLE")
        if self._chances.happens(self._chances.order_goes_wrong):
            self._comes_later(order)
            if self._chances.happens(0.5):
                raise WorkerLost("nobody knows whether it arrived")
        drawing = self._worker.take(order)
        drawing.followers += 1
        try:
            async for event in self._stream(drawing):
                yield event
        finally:
            drawing.followers -= 1

    async def _stream(self, drawing: Drawing) -> AsyncGenerator[AttemptEvent, None]:
        at = 0
        while True:
            changed = drawing.changed
            if at < len(drawing.events):
                event, at = drawing.events[at], at + 1
                async for heard in self._carried(event):
                    yield heard
                if isinstance(event, AttemptDone | AttemptFailed):
                    return
            elif not self._answers():
                raise WorkerLost("it stopped answering")
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LEASE_S):  # how fast a connection that is cut is noticed
                        await changed.wait()

    async def cancel(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Stop an attempt."""
        async with self._asked():
            self._worker.heed(epoch)
            return self._worker.cancel((job_id, attempt))

    async def park(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Take an attempt off the device."""
        async with self._asked():
            self._worker.heed(epoch)
            return await self._worker.park((job_id, attempt))

    async def resume(self, job_id: JobId, attempt: int, epoch: int) -> bool:
        """Let a parked attempt go on."""
        async with self._asked():
            self._worker.heed(epoch)
            return self._worker.resume((job_id, attempt))

    async def describe_models(self) -> list[Model]:
        """Return what it draws."""
        async with self._asked():
            return [fakes.MODEL]

    @asynccontextmanager
    async def _asked(self) -> AsyncIterator[None]:
        """Ask for the block; the question, or the answer, may be lost."""
        await self._clock.sleep(self._chances.between(0.0, 0.05))
        if not self._answers() or self._chances.happens(self._chances.order_goes_wrong):
            raise Unavailable("no answer")
        yield
        if not self._answers() or self._chances.happens(self._chances.order_goes_wrong):
            raise Unavailable("no answer")

    def _answers(self) -> bool:
        return self._worker.reachable and self._worker.incarnation == self._incarnation

    async def _carried(self, event: AttemptEvent) -> AsyncGenerator[AttemptEvent, None]:
        """Yield what arrives of an event: once, twice, or not at all where that may be."""
        await self._clock.sleep(self._chances.between(0.0, 0.02))
        if self._chances.happens(self._chances.event_goes_wrong):
            fate = self._chances.random.choice(("broken", "doubled", "dropped", "late"))
            if fate == "broken" or not self._answers():
                raise WorkerLost("the stream broke")
            if fate == "doubled":
                yield event
            if fate == "dropped" and isinstance(event, Progress):
                return
            if fate == "late":
                await self._clock.sleep(self._chances.between(0.0, 5.0))
        yield event

    def _comes_later(self, order: Order) -> None:
        """Let an order arrive (again) when its sender may have given it up."""
        task = asyncio.get_running_loop().create_task(self._deliver_late(order))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _deliver_late(self, order: Order) -> None:
        with process_named("network"):
            await self._clock.sleep(self._chances.between(0.1, 15.0))
        if self._answers():
            with contextlib.suppress(DarkroomError):
                self._worker.take(order)
