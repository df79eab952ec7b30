"""Checkpoints beside the drawing: when one pays, which are kept, what is announced, how a resumed attempt starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import Context

from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import checkpoint_key
from libs.errors import Unavailable
from libs.generation.attempt import Checkpointed, FailureKind
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from libs.settings import BadSetting, load
from services.modelserver import checkpoints as module
from services.modelserver.attempt import Attempt, Order
from services.modelserver.checkpoints import CheckpointPolicy, Checkpoints, due
from services.modelserver.events import Done, Event, Failed
from services.modelserver.settings import ModelServerSettings

JOB = JobId("job_1")
SPEC = GenerationSpec("a cat", "", "m", 32, 32, 1, 100, 2.0, 1, "euler")
LOST = Failed(FailureKind.TRANSIENT, "WORKER_LOST", "gone")
POLICY = CheckpointPolicy(every_steps=20, every_s=10.0, worth_s=2.0)


class SlowBlobs(MemoryBlobs):
    """Puts wait until they are let go, each on its own; some fail."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []
        self.fails: set[str] = set()
        self._gate = asyncio.Semaphore(0)

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        self.begun.append(key)
        await self._gate.acquire()
        if key in self.fails:
            raise Unavailable("away")
        await super().put(key, data, content_type)

    def let(self, puts: int = 1) -> None:
        for _ in range(puts):
            self._gate.release()


class StuckBlobs(MemoryBlobs):
    """Never answers."""

    async def get_stream(self, key: str, chunk_bytes: int = 0) -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""


def key(step: int, attempt: int = 1) -> str:
    return checkpoint_key(JOB, attempt, step)


def an_attempt(number: int = 1, resume_from: str = "") -> Attempt:
    return Attempt(Order(JOB, number, 1, "m@1", SPEC, resume_from), Context(), lambda _attempt, _stage: None)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def kept(blobs: MemoryBlobs) -> set[str]:
    return {name async for name in blobs.list_keys("checkpoints")}


async def said(attempt: Attempt) -> list[Event]:
    """Everything that was announced so far; the attempt is over then."""
    attempt.post(LOST)
    return [event async for event in attempt.follow()][:-1]


@given(st.integers(1, 500), st.integers(1, 500), st.floats(0, 1e4), st.floats(0, 1e4))
def test_none_is_made_that_saves_little(step: int, total: int, since_s: float, eta_s: float) -> None:
    made = due(POLICY, step, total, since_s, eta_s)
    if step >= total or eta_s < 2.0 or since_s < 2.0:
        assert not made
    elif since_s >= 10.0:
        assert made
    else:
        assert made == (step % 10 == 0)


def test_of_fast_steps_no_more_than_asked_for_are_lost_even_when_the_last_one_was_on_its_way() -> None:
    eager = CheckpointPolicy(every_steps=7, every_s=60.0, worth_s=0.0)
    made = [step for step in range(1, 101) if due(eager, step, 100, 0.01, 1.0)]
    on_its_way_and_before = [later - earlier for earlier, later in zip([0, 0, *made], made, strict=False)]
    assert max(on_its_way_and_before) <= 7
    assert due(CheckpointPolicy(1, 1.0, 0.0), 3, 9, 0.0, 1.0)


async def test_what_is_kept_is_announced_after_it_is_stored_and_read_by_the_next_attempt() -> None:
    blobs = SlowBlobs()
    checkpoints, attempt = Checkpoints(blobs), an_attempt()
    checkpoints.keep(attempt, 10, 100, b"ten")
    await settled()
    assert (blobs.begun, await kept(blobs)) == ([key(10)], set())
    blobs.let()
    await settled()
    assert await checkpoints.fetch(an_attempt(2, key(10)).order) == b"ten"
    assert await said(attempt) == [Checkpointed(key(10), 10, 100)]


async def test_one_is_on_its_way_and_the_latest_of_the_others_follows_it() -> None:
    blobs = SlowBlobs()
    checkpoints, attempt, other = Checkpoints(blobs), an_attempt(), an_attempt(2)
    for step in (10, 20, 30, 40):
        checkpoints.keep(attempt, step, 100, b"x")
        await settled()
    checkpoints.keep(other, 50, 100, b"y")  # another attempt does not wait behind it
    await settled()
    assert blobs.begun == [key(10), key(50, 2)]
    blobs.let(3)
    await settled()
    assert blobs.begun == [key(10), key(50, 2), key(40)]
    assert await kept(blobs) == {key(10), key(40), key(50, 2)}


async def test_the_last_two_stay_and_the_one_that_was_gone_on_from_is_the_oldest() -> None:
    blobs = MemoryBlobs()
    await blobs.put(key(10), b"x", "")
    checkpoints, attempt = Checkpoints(blobs), an_attempt(2, key(10))
    left = []
    for step in (20, 30, 40):
        checkpoints.keep(attempt, step, 100, b"x")
        await settled()
        left.append(await kept(blobs))
    assert left == [{key(10), key(20, 2)}, {key(20, 2), key(30, 2)}, {key(30, 2), key(40, 2)}]


async def test_one_that_cannot_be_stored_is_not_announced_and_the_next_one_is() -> None:
    blobs = SlowBlobs()
    blobs.fails = {key(10)}
    blobs.let(2)
    checkpoints, attempt = Checkpoints(blobs), an_attempt()
    for step in (10, 20):
        checkpoints.keep(attempt, step, 100, b"x")
        await settled()
    assert await said(attempt) == [Checkpointed(key(20), 20, 100)]


async def test_a_step_that_comes_again_is_not_stored_again_and_does_not_take_itself_away() -> None:
    blobs = MemoryBlobs()
    checkpoints, attempt = Checkpoints(blobs), an_attempt()
    for step in (10, 20, 20, 20):
        checkpoints.keep(attempt, step, 100, b"x")
        await settled()
    assert await kept(blobs) == {key(10), key(20)}


@pytest.mark.parametrize("outcome", [Done(1.0, 1), LOST])
async def test_an_end_takes_none_that_another_may_need_and_leaves_none_that_nobody_knows(outcome: Event) -> None:
    blobs = SlowBlobs()
    checkpoints, attempt = Checkpoints(blobs), an_attempt()
    blobs.let()
    checkpoints.keep(attempt, 10, 100, b"x")
    await settled()
    checkpoints.keep(attempt, 20, 100, b"x")  # on its way
    await settled()
    checkpoints.keep(attempt, 30, 100, b"x")  # waiting
    await settled()
    attempt.post(outcome)
    checkpoints.over(attempt)
    checkpoints.keep(attempt, 40, 100, b"x")
    blobs.let(9)
    async with asyncio.timeout(5):
        await checkpoints.close()
    assert await kept(blobs) == {key(10)}
    assert blobs.begun == [key(10), key(20)]


@pytest.mark.parametrize("ref", ["", key(10), "checkpoints/job_11/1-1", "images/" + "0" * 64, "checkpoints/job_1/../x"])
async def test_without_a_checkpoint_of_its_own_job_an_attempt_starts_over(ref: str) -> None:
    blobs = MemoryBlobs()
    for other in ("checkpoints/job_11/1-1", "images/" + "0" * 64):
        await blobs.put(other, b"another's", "")
    assert await Checkpoints(blobs).fetch(an_attempt(2, ref).order) == b""


async def test_a_store_that_is_slow_or_says_too_much_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = StuckBlobs()
    await stuck.put(key(10), b"x", "")
    monkeypatch.setattr(module, "FETCH_S", 0.0)
    assert await Checkpoints(stuck).fetch(an_attempt(2, key(10)).order) == b""
    monkeypatch.undo()
    monkeypatch.setattr(module, "MOST_BYTES", 2)
    large = MemoryBlobs()
    await large.put(key(10), b"xyz", "")
    checkpoints, attempt = Checkpoints(large), an_attempt()
    assert await checkpoints.fetch(an_attempt(2, key(10)).order) == b""
    checkpoints.keep(attempt, 20, 100, b"xyz")
    await settled()
    assert await kept(large) == {key(10)}


def test_the_policy_comes_from_the_settings() -> None:
    given_by = {"DARKROOM_DATA": "d", "DARKROOM_CHECKPOINT_STEPS": "7", "DARKROOM_CHECKPOINT_WORTH_S": "0"}
    assert load(ModelServerSettings, given_by).checkpoints == CheckpointPolicy(7, 10.0, 0.0)
    assert load(ModelServerSettings, {"DARKROOM_DATA": "d"}).checkpoints == CheckpointPolicy()
    for name, value in (("STEPS", "0"), ("S", "0"), ("WORTH_S", "-1"), ("WORTH_S", "nan")):
        with pytest.raises(BadSetting, match=f"DARKROOM_CHECKPOINT_{name}"):
            load(ModelServerSettings, {"DARKROOM_DATA": "d", f"DARKROOM_CHECKPOINT_{name}": value})
