"""Attempts and the device thread, on the fake engine: what runs, what waits, what stops, what a failure means."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.context import Context

from libs.blobs.memory import MemoryBlobs
from libs.clock import SystemClock
from libs.errors import PreconditionFailed, Unavailable
from libs.generation.attempt import FailureKind, ImageStored, StageDone
from libs.generation.model import Model, ModelLimits
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.modelserver import attempts as attempts_module
from services.modelserver.attempt import Order
from services.modelserver.attempts import Attempts
from services.modelserver.delivery import Delivery
from services.modelserver.engine import protocol
from services.modelserver.engine.fake import FakeEngine
from services.modelserver.events import Done, Failed, Progress
from services.modelserver.models import ModelFolder
from services.modelserver.shelf import Shelf
from services.modelserver.worker import Worker

SPEC = GenerationSpec("a zebra", "", "m", 16, 16, 1, 3, 2.0, 1, "euler")
LIMITS = ModelLimits(min_size=16, max_size=32)
FOLDERS = [
    ModelFolder(Path("m"), Model("m", "1", "P", limits=LIMITS)),
    ModelFolder(Path("other"), Model("other", "1", "P", limits=LIMITS)),
    ModelFolder(Path("bad"), Model("bad", "1", "P", unusable_reason="it is pickled")),
]


class FakeClock(SystemClock):
    """Moves when told."""

    def __init__(self):
        self.seconds = 0.0

    def monotonic(self):
        return self.seconds


class Setup:
    """A worker whose engine stops at the gate before each step and raises what a test wants."""

    def __init__(self):
        self.gate, self.drawing = threading.Event(), threading.Semaphore(0)
        self.gate.set()
        self.raises: Exception | None = None
        self.load_raises: Exception | None = None
        self.engine = FakeEngine(on_load=self._on_load, on_step=self._on_step)
        self.shelf, self.blobs, self.clock = Shelf(FOLDERS), MemoryBlobs(), FakeClock()
        self.worker = Worker(self.engine, self.shelf, Delivery(self.blobs, self.clock), self.clock)
        self.attempts = Attempts(self.worker, self.clock, lambda attempt, stage: None)
        self.worker.start()

    def _on_load(self, _folder):
        if self.load_raises:
            raise self.load_raises

    def _on_step(self, _spec, _step):
        self.drawing.release()
        assert self.gate.wait(5)
        if self.raises:
            raise self.raises

    def take(self, job="job_1", attempt=1, epoch=1, model="m@1", spec=SPEC):
        return self.attempts.take(Order(JobId(job), attempt, epoch, model, spec), Context())

    async def draws(self):
        """Wait until the device is at a step."""
        assert await asyncio.to_thread(self.drawing.acquire, timeout=5)

    async def events(self, attempt):
        async with asyncio.timeout(5):
            return [event async for event in attempt.follow()]

    async def outcome(self, attempt):
        return (await self.events(attempt))[-1]


@pytest.fixture
async def setup():
    made = Setup()
    yield made
    made.gate.set()
    await made.worker.stop()


async def test_an_attempt_loads_draws_stores_and_is_done(setup):
    events = await setup.events(setup.take(spec=replace(SPEC, images=2)))
    stages = [event.name for event in events if isinstance(event, StageDone)]
    assert stages == ["load", "encode", "denoise", "decode", "store"]
    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2, 3]
    images = [event for event in events if isinstance(event, ImageStored)]
    assert [(image.index, image.seed) for image in images] == [(0, 1), (1, 2)]
    assert all([await setup.blobs.exists(f"images/{image.sha256}") for image in images])
    assert isinstance(events[-1], Done)
    again = await setup.events(setup.take("job_2"))
    assert "load" not in [event.name for event in again if isinstance(event, StageDone)]


async def test_one_token_runs_once(setup):
    first = setup.take()
    assert setup.take() is first
    assert setup.take(epoch=2) is first
    await setup.events(first)
    assert setup.take(epoch=2) is first


async def test_an_outcome_is_remembered_for_ten_minutes(setup):
    first = setup.take()
    await setup.events(first)
    assert setup.take() is first
    setup.clock.seconds += attempts_module.REMEMBERED_S
    assert setup.take() is first
    setup.clock.seconds += 1
    assert setup.take() is not first


async def test_a_leader_of_the_past_is_refused(setup):
    setup.take(epoch=5)
    with pytest.raises(PreconditionFailed) as caught:
        setup.take("job_2", epoch=4)
    assert caught.value.reason == "EPOCH_STALE"


async def test_one_draws_one_waits_and_a_third_is_refused(setup):
    setup.gate.clear()
    first, second = setup.take("job_1"), setup.take("job_2")
    assert setup.worker.rows_in_use == 1
    with pytest.raises(Unavailable) as caught:
        setup.take("job_3")
    assert caught.value.reason == "WORKER_BUSY"
    setup.gate.set()
    assert isinstance(await setup.outcome(first), Done)
    assert isinstance(await setup.outcome(second), Done)
    assert isinstance(await setup.outcome(setup.take("job_3")), Done)
    assert setup.worker.held == 0


async def test_cancel_ends_what_waits_at_once_and_what_draws_at_its_next_step(setup):
    setup.gate.clear()
    first, second = setup.take("job_1"), setup.take("job_2")
    await setup.draws()
    assert setup.attempts.cancel(second.order.key)
    assert second.outcome.kind is FailureKind.CANCELLED
    assert setup.worker.held == 1
    assert setup.attempts.cancel(first.order.key)
    assert first.outcome is None
    setup.gate.set()
    assert (await setup.outcome(first)).kind is FailureKind.CANCELLED
    assert not setup.attempts.cancel(first.order.key)
    assert not setup.attempts.cancel((JobId("job_9"), 1))


async def test_a_later_attempt_at_a_job_stops_the_earlier_one(setup):
    setup.gate.clear()
    first = setup.take(attempt=1)
    await setup.draws()
    second = setup.take(attempt=2)
    setup.gate.set()
    assert (await setup.outcome(first)).kind is FailureKind.CANCELLED
    assert isinstance(await setup.outcome(second), Done)


@pytest.mark.parametrize(
    ("raised", "kind", "reason"),
    [
        (protocol.OutOfMemory("full"), FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY"),
        (protocol.BadPictures("NaN"), FailureKind.TRANSIENT, "GENERATION_FAILED"),
        (RuntimeError("surprise"), FailureKind.TRANSIENT, "GENERATION_FAILED"),
    ],
)
async def test_a_failure_ends_its_attempt_alone(setup, raised, kind, reason):
    setup.raises = raised
    failed = await setup.outcome(setup.take("job_1"))
    assert (failed.kind, failed.reason) == (kind, reason)
    setup.raises = None
    assert isinstance(await setup.outcome(setup.take("job_2")), Done)


async def test_a_model_that_does_not_load_is_listed_with_the_reason_and_the_others_serve(setup):
    setup.load_raises = protocol.ModelBroken("the sizes differ")
    failed = await setup.outcome(setup.take("job_1"))
    assert (failed.kind, failed.reason) == (FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE")
    assert setup.shelf.usable_names() == ("other@1",)
    setup.load_raises = None
    again = setup.take("job_2")
    assert again.outcome.kind is FailureKind.MODEL_UNAVAILABLE
    assert "the sizes differ" in again.outcome.message
    assert isinstance(await setup.outcome(setup.take("job_3", model="other@1")), Done)


@pytest.mark.parametrize("model", ["bad@1", "m@2", "gone@1"])
async def test_a_model_that_is_not_served_here_ends_the_attempt_at_once(setup, model):
    assert setup.take(model=model).outcome.kind is FailureKind.MODEL_UNAVAILABLE
    assert setup.worker.held == 0


@pytest.mark.parametrize("changes", [{"width": 7}, {"steps": 0}, {"sampler": "magic"}, {"images": 99}])
async def test_a_spec_that_the_model_does_not_allow_can_never_succeed(setup, changes):
    assert setup.take(spec=replace(SPEC, **changes)).outcome.kind is FailureKind.INVALID
    assert setup.worker.held == 0


async def test_a_lost_device_ends_the_process_and_takes_nothing_more(setup):
    setup.raises = protocol.DeviceLost("gone")
    assert (await setup.outcome(setup.take("job_1"))).reason == "WORKER_LOST"
    assert setup.worker.device_lost.is_set()
    with pytest.raises(Unavailable):
        setup.take("job_2")


async def test_an_error_that_quotes_the_prompt_is_logged_without_it(setup, caplog):
    setup.raises = ValueError("cannot tokenize 'zebra'")
    with caplog.at_level(logging.DEBUG):
        failed = await setup.outcome(setup.take())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.job_id, record.error) == ("job_1", "ValueError")
    assert "fake.py" in record.trace
    assert "zebra" not in str([vars(record) for record in caplog.records]) + failed.message


async def test_a_blob_store_that_is_gone_is_a_passing_fault(setup, monkeypatch):
    async def gone(*_args):
        raise Unavailable("The picture store did not answer.")

    monkeypatch.setattr(setup.blobs, "put", gone)
    failed = await setup.outcome(setup.take())
    assert (failed.kind, failed.reason) == (FailureKind.TRANSIENT, "UNAVAILABLE")
    assert failed.gpu_ms >= 0


async def test_a_fault_while_storing_ends_the_attempt_too(setup, monkeypatch):
    async def faulty(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr(setup.blobs, "put", faulty)
    assert (await setup.outcome(setup.take())).kind is FailureKind.TRANSIENT


async def test_draining_hands_back_what_waits_and_finishes_what_draws(setup):
    setup.gate.clear()
    first, second = setup.take("job_1"), setup.take("job_2")
    await setup.draws()
    draining = asyncio.create_task(setup.worker.drain(5))
    assert (await setup.outcome(second)).kind is FailureKind.DRAINING
    with pytest.raises(Unavailable) as caught:
        setup.take("job_3")
    assert caught.value.reason == "DRAINING"
    setup.gate.set()
    assert isinstance(await setup.outcome(first), Done)
    await draining


async def test_what_draws_too_long_is_handed_back_as_well(setup):
    setup.gate.clear()
    first = setup.take("job_1")
    await setup.draws()
    draining = asyncio.create_task(setup.worker.drain(0.0))
    assert (await setup.outcome(first)).kind is FailureKind.DRAINING
    setup.gate.set()
    await draining
    assert setup.worker.held == 0


async def test_changes_are_told_so_that_the_record_follows(setup):
    rows: list[int] = []
    setup.worker.on_change = lambda: rows.append(setup.worker.rows_in_use)
    assert isinstance(await setup.outcome(setup.take()), Done | Failed)
    assert rows == [1, 0]
