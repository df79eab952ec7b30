"""Simulated workers: they keep what real ones promise. Rows, models that come and go in memory, parked attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.clients.modelserver import AttemptDone, AttemptEvent, AttemptFailed, Order, Progress, WorkerRefused
from libs.errors import NotFound, PreconditionFailed
from libs.fleet.record import WorkerRecord
from libs.generation.attempt import Checkpointed, FailureKind, StageDone
from libs.testing.simulated_loop import SimulatedClock, process_named
from tests.unit.services.scheduler import fakes
from tests.unit.services.scheduler.simulation.chances import Chances
from tests.unit.services.scheduler.simulation.drawings import BUILD, PINNED, Drawing, Ran, Token, pictures

ALONE_S = 60.0  # after which what is parked and followed by nobody is given up
FAILURES = (FailureKind.TRANSIENT, FailureKind.OUT_OF_MEMORY, FailureKind.MODEL_UNAVAILABLE, FailureKind.DRAINING)
POISON = "poison"


class SimulatedWorker:
    """One worker through all its incarnations."""

    def __init__(
        self,
        name: str,
        missing: str,
        chances: Chances,
        journal: list[Ran],
        say: Callable[[str], None],
        blobs: MemoryBlobs,
    ) -> None:
        self.name = name
        self.incarnation = 1
        self.up = True
        self.cut_off = False
        self.sick: FailureKind | None = None  # how it fails whatever it is given
        self.on_order: Callable[[int], None] = lambda epoch: None  # hears of every order, by the epoch of who sent it
        self.missing = {missing}  # models it cannot draw
        self.rows = chances.random.choice((1, 1, 1, 2, 3))
        self.room = chances.random.randint(1, 2)  # models in memory
        self.resident: list[str] = []  # the last used one last
        self._say, self._chances, self._journal, self._blobs = say, chances, journal, blobs
        self._clock = SimulatedClock()
        self._start()

    def _start(self) -> None:
        self._heard = 0
        self._known: dict[Token, Drawing] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._row = asyncio.Semaphore(self.rows)
        self._loading = asyncio.Lock()
        self.resident = []

    @property
    def able(self) -> tuple[str, ...]:
        """What it can draw now."""
        return tuple(model for model in PINNED if model not in self.missing)

    @property
    def record(self) -> WorkerRecord:
        """What it says of itself."""
        return fakes.record(
            self.name,
            str(self.incarnation),
            rows=self.rows,
            rows_in_use=min(self.rows, self.running()),
            models=self.able,
            resident=tuple(sorted(self.resident)),
            memory_bytes=2 * self.room,
            engine_build=BUILD,
        )

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
        self.on_order(order.epoch)
        token = order.job_id, order.attempt
        if token not in self._known:
            if order.attach:
                raise NotFound("not known here", reason="ATTEMPT_UNKNOWN")
            if any(job_id == order.job_id and number > order.attempt for job_id, number in self._known):
                raise PreconditionFailed("an attempt of the past")
            if self.running() >= self.rows + 1:
                raise WorkerRefused("busy", reason="WORKER_BUSY")
            if order.model_version not in self.able:
                raise NotFound("no such model", reason="MODEL_NOT_FOUND")
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
        drawing.parks += drawing.parked
        return drawing.parked

    def resume(self, token: Token) -> bool:
        """Let a parked attempt go on."""
        drawing = self._known.get(token)
        found = drawing is not None and drawing.parked and drawing.ended_at is None
        if drawing is not None:
            drawing.parked = False
            drawing.wake()
        return found

    def warm(self, pinned: str) -> None:
        """Begin to load a model."""
        self._spawn(self._load(pinned))

    def evict(self, pinned: str) -> bool:
        """Let a model go unless it draws."""
        if pinned not in self.resident or pinned in self._in_use():
            return False
        self.resident.remove(pinned)
        return True

    def crash(self) -> None:
        """Lose everything; `come_back` begins a new incarnation."""
        self.up = False
        for task in self._tasks:
            task.cancel()
        for drawing in self._known.values():
            drawing.ended_at = self._clock.now() if drawing.ended_at is None else drawing.ended_at
            drawing.wake()
        self._start()

    def come_back(self) -> None:
        """Start again."""
        self.up, self.incarnation = True, self.incarnation + 1

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        with process_named(self.name):
            task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, token: Token, order: Order) -> None:
        for (job_id, _), older in self._known.items():
            older.stop = older.stop or job_id == order.job_id
        drawing = self._known[token] = Drawing(order, self._clock.now())
        run = len(self._journal)
        self._journal.append(Ran(token, self.name, drawing))
        self._say(f"{self.name} begins attempt {order.attempt} at {order.job_id} for epoch {order.epoch}")
        self._spawn(self._draw(drawing, run))

    async def _draw(self, drawing: Drawing, run: int) -> None:
        order = drawing.order
        began_s = self._clock.now()
        async with self._row:
            await self._load(order.model_version)
        drawing.say(StageDone("load", began_s, self._clock.now()))
        fails_at = self._chances.random.randint(1, order.spec.steps) if self._chances.happens(0.2) else 0
        for step in range(1, order.spec.steps + 1):
            await self._wait_while_parked(drawing)
            async with self._row:
                await self._clock.sleep(self._chances.between(0.3, 2.0))
            if drawing.stop:
                self._end(drawing, AttemptFailed(FailureKind.CANCELLED, "", "", 10.0 * step))
                return
            drawing.say(Progress(order.attempt, step, order.spec.steps, 0.7 * (order.spec.steps - step)))
            if kind := self._fails(order, step == fails_at):
                self._end(drawing, AttemptFailed(kind, "GENERATION_FAILED", "drawn by lot", 10.0 * step))
                return
            if step == 2:
                drawing.say(Checkpointed(f"checkpoints/{order.job_id}/{order.attempt}", step, order.spec.steps))
        await self._store(drawing, run)

    async def _store(self, drawing: Drawing, run: int) -> None:
        images = pictures(drawing.order, run)
        for image in images:
            await self._blobs.put(image_key(image.sha256), b"pixels", "image/png")
            await self._clock.sleep(self._chances.between(0.0, 0.2))
        drawing.done = True
        drawing.say(*images)
        self._end(drawing, AttemptDone(100.0 * drawing.order.spec.steps))

    def _fails(self, order: Order, unlucky: bool) -> FailureKind | None:
        if self._chances.calm:
            return None
        if self.sick or order.spec.prompt.startswith(POISON):
            return self.sick or FailureKind.TRANSIENT
        if unlucky and self._chances.happens(self._chances.attempt_fails * 4):
            return self._chances.random.choice(FAILURES)
        return None

    async def _load(self, pinned: str) -> None:
        """Bring a model into memory; one is loaded at a time, and whatever was used longest ago makes room."""
        async with self._loading:
            if pinned not in self.resident:
                await self._clock.sleep(self._chances.between(0.5, 4.0))
                idle = [model for model in self.resident if model not in self._in_use()]
                for model in idle[: max(0, len(self.resident) - self.room + 1)]:
                    self.resident.remove(model)
            self.resident = [*(model for model in self.resident if model != pinned), pinned]

    def _in_use(self) -> set[str]:
        return {drawing.order.model_version for drawing in self._known.values() if drawing.ended_at is None}

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
