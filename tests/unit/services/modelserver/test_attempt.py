"""What followers of an attempt see: live, attached in the middle, attached after the end."""

from __future__ import annotations

import asyncio

from opentelemetry.context import Context

from libs.generation.attempt import Checkpointed, FailureKind, ImageStored, StageDone
from libs.generation.spec import GenerationSpec
from libs.ids import JobId
from services.modelserver.attempt import Attempt, Order
from services.modelserver.events import Done, Failed, Preview, Progress

SPEC = GenerationSpec("a cat", "", "m", 32, 32, 1, 3, 2.0, 1, "euler")
STAGE = StageDone("encode", 1.0, 2.0)
STEPS = [Progress(step, 3, 1.0) for step in (1, 2, 3)]
PREVIEW = Preview(1, 3, 0, "image/jpeg", b"x")
IMAGE = ImageStored(0, "0" * 64, "image/png", 32, 32, 1, 10)
DONE = Done(5.0, 6)


def _attempt(stages: list[StageDone] | None = None) -> Attempt:
    seen = [] if stages is None else stages
    return Attempt(Order(JobId("job_1"), 1, 1, "m@1", SPEC), Context(), lambda _attempt, stage: seen.append(stage))


async def _all(attempt: Attempt) -> list[object]:
    async with asyncio.timeout(5):
        return [event async for event in attempt.follow()]


async def test_a_follower_from_the_start_sees_everything_in_order():
    attempt = _attempt()
    events = (STAGE, STEPS[0], PREVIEW, STEPS[1], STEPS[2], IMAGE, DONE)
    following = asyncio.create_task(_all(attempt))
    await asyncio.sleep(0)
    for event in events:
        attempt.post(event)
    seen = await following
    assert [event for event in seen if event != PREVIEW] == [event for event in events if event != PREVIEW]


async def test_a_late_follower_gets_what_lasts_and_the_latest_progress_then_the_rest():
    attempt = _attempt()
    for event in (STAGE, STEPS[0], PREVIEW, STEPS[1]):
        attempt.post(event)
    following = asyncio.create_task(_all(attempt))
    await asyncio.sleep(0)
    attempt.post(STEPS[2])
    attempt.post(DONE)
    assert await following == [STAGE, STEPS[1], STEPS[2], DONE]


async def test_of_the_checkpoints_a_late_follower_gets_the_last_one_only():
    attempt = _attempt()
    checkpoints = [Checkpointed(f"checkpoints/job_1/1-{step}", step, 3) for step in (1, 2)]
    for event in (STEPS[0], checkpoints[0], STEPS[1], checkpoints[1], STEPS[2], DONE):
        attempt.post(event)
    assert await _all(attempt) == [checkpoints[1], STEPS[2], DONE]


async def test_after_the_end_the_outcome_is_replayed_and_nothing_follows_it():
    attempt = _attempt()
    for event in (STAGE, PREVIEW, STEPS[2], IMAGE, DONE, STEPS[0], DONE):
        attempt.post(event)
    assert await _all(attempt) == [STAGE, STEPS[2], IMAGE, DONE]
    assert await _all(attempt) == [STAGE, STEPS[2], IMAGE, DONE]
    assert attempt.outcome == DONE


async def test_stages_are_told_once_each_to_the_recorder():
    recorded: list[StageDone] = []
    attempt = _attempt(recorded)
    for event in (STAGE, DONE, STAGE):
        attempt.post(event)
    assert recorded == [STAGE]


async def test_only_the_first_claim_succeeds():
    attempt = _attempt()
    assert [attempt.claim(), attempt.claim()] == [True, False]


def test_how_it_ended_is_told_once():
    ended: list[object] = []
    order = Order(JobId("job_1"), 1, 1, "m@1", SPEC)
    attempt = Attempt(order, Context(), lambda _attempt, _stage: None, ended.append)
    for event in (STAGE, STEPS[0], DONE, Failed(FailureKind.TRANSIENT, "", "", 5.0), DONE):
        attempt.post(event)
    assert ended == [DONE]
