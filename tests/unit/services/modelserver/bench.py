"""A worker on the fake engine whose device stops before each step while its gate is shut."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from opentelemetry.context import Context

from libs.blobs.memory import MemoryBlobs
from libs.clock import SystemClock
from libs.generation.model import Model, ModelDefaults, ModelLimits
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.modelserver.attempt import Order
from services.modelserver.attempts import Attempts
from services.modelserver.carriers import Carriers, Urgency
from services.modelserver.checkpoints import CheckpointPolicy, Checkpoints
from services.modelserver.delivery import Delivery
from services.modelserver.engine.fake import FakeEngine, Hooks
from services.modelserver.events import Done, Failed
from services.modelserver.inputs import Inputs
from services.modelserver.models import ModelFolder
from services.modelserver.safety import ALLOWED, Category, Verdict
from services.modelserver.shelf import Shelf
from services.modelserver.worker import Worker

PATIENCE_S = 5
SPEC = GenerationSpec("a zebra", "", "m", 16, 16, 1, 3, 2.0, 1, "euler")
LIMITS = ModelLimits(min_size=16, max_size=32)
DEFAULTS = ModelDefaults(16, 16, strength=0.5)
FOLDERS = [
    ModelFolder(Path("m"), Model("m", "1", "P", limits=LIMITS, tasks=("text", "image"), defaults=DEFAULTS)),
    ModelFolder(Path("other"), Model("other", "1", "P", limits=LIMITS)),
    ModelFolder(Path("bad"), Model("bad", "1", "P", unusable_reason="it is pickled")),
]


class TestClock(SystemClock):
    """Moves when told; what waits by it waits one turn of the loop."""

    __test__ = False

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds

    async def sleep(self, seconds):
        self.seconds += seconds
        await asyncio.sleep(0)


class GatedInputs:
    """Inputs that come when the test lets them."""

    def __init__(self):
        self.asked, self.let = asyncio.Event(), asyncio.Event()
        self.refuse: Exception | None = None

    async def read(self, _order):
        self.asked.set()
        await self.let.wait()
        if self.refuse:
            raise self.refuse
        return Inputs()


class StrictAbout:
    """A checker that allows everything but one word and, of pictures, those that a test names."""

    def __init__(self):
        self.withheld: set[int] = set()
        self.policy = ""

    def check_prompt(self, text):
        return Verdict(Category.BLOCKLIST) if "unspeakable" in text else ALLOWED

    def check_pictures(self, pictures):
        judged = range(len(pictures))
        return tuple(Verdict(Category.CLASSIFIER) if index in self.withheld else ALLOWED for index in judged)


class Bench:
    """Everything around a worker. `raises` is raised at the next step, `load_raises` at the next load."""

    def __init__(self, *, together=1, slots=0, policy=None):
        self.gate, self.drawing = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.raises: Exception | None = None
        self.load_raises: Exception | None = None
        self.shelf, self.blobs, self.clock = Shelf(FOLDERS), MemoryBlobs(), TestClock()
        self.urgency, self.inputs = Urgency(policy or CheckpointPolicy(worth_s=1e9)), GatedInputs()
        hooks = Hooks(on_load=self._on_load, on_step=self._on_step)
        self.engine = FakeEngine(hooks, most_requests=together, due=self.urgency.due)
        self.checkpoints = Checkpoints(self.blobs)
        self.checker = StrictAbout()
        self.delivery = Delivery(self.blobs, self.checker, self.clock)
        carriers = Carriers(self.checker, self.inputs, self.checkpoints, self.urgency, self.delivery)
        self.worker = Worker(self.engine, self.shelf, carriers, self.clock, slots)
        self.outcomes: list[Done | Failed] = []  # of attempts, as they are heard
        self.attempts = Attempts(self.worker, self.clock, lambda attempt, stage: None, self.outcomes.append)
        self.worker.start()

    async def close(self):
        self.gate.set()
        assert await self.worker.stop()

    def _on_load(self, _folder):
        if self.load_raises:
            raise self.load_raises

    def _on_step(self, _request, _step):
        if not self.gate.is_set():
            self.drawing.release()
        assert self.gate.wait(PATIENCE_S)
        if self.raises:
            raise self.raises

    def take(self, job="job_1", attempt=1, epoch=1, model="m@1", spec=SPEC, resume_from="", attach=False):
        order = Order(JobId(job), attempt, epoch, model, spec, resume_from, attach=attach)
        return self.attempts.take(order, Context())

    async def draws(self):
        """Wait until the device is at a step, before the shut gate."""
        assert await asyncio.to_thread(self.drawing.acquire, timeout=PATIENCE_S)

    async def fetches(self):
        """Wait until inputs are asked for."""
        async with asyncio.timeout(PATIENCE_S):
            await self.inputs.asked.wait()

    async def hurries(self):
        """Wait until a checkpoint of every step is wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while not self.urgency.hurried:  # noqa: ASYNC110 – no event for what the device thread reads
                await asyncio.sleep(0)

    async def events(self, attempt):
        async with asyncio.timeout(PATIENCE_S):
            return [event async for event in attempt.follow()]

    async def outcome(self, attempt):
        return (await self.events(attempt))[-1]

    async def until(self, is_so):
        """Wait, at each change that the worker tells, until it is so."""
        changed = asyncio.Event()
        self.worker.on_change = changed.set
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():
                await changed.wait()
                changed.clear()
