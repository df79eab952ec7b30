"""Attempts and the device thread, on the fake engine: what runs, what waits, what stops, what a failure means."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import pytest

from libs.errors import InvalidRequest, NotFound, PreconditionFailed, Unavailable
from libs.generation.attempt import Checkpointed, FailureKind, ImageStored, StageDone
from libs.ids import JobId
from services.modelserver import attempts as attempts_module
from services.modelserver.engine import protocol
from services.modelserver.events import Done, Failed, Preview, Progress
from tests.unit.services.modelserver.bench import PATIENCE_S, SPEC, Bench

OVER_A_PICTURE = replace(SPEC, input_image="upl_" + "0" * 26, strength=0.5)


@pytest.fixture
async def bench():
    made = Bench()
    yield made
    await made.close()


async def test_an_attempt_loads_draws_stores_and_is_done(bench):
    events = await bench.events(bench.take(spec=replace(SPEC, images=2)))
    stages = [event.name for event in events if isinstance(event, StageDone)]
    assert stages == ["load", "encode", "denoise", "decode", "store"]
    assert [event.step for event in events if isinstance(event, Progress)] == [1, 2, 3]
    images = sorted((event for event in events if isinstance(event, ImageStored)), key=lambda image: image.index)
    assert [(image.index, image.seed) for image in images] == [(0, 1), (1, 2)]
    assert all([await bench.blobs.exists(f"images/{image.sha256}") for image in images])
    assert isinstance(events[-1], Done)
    again = await bench.events(bench.take("job_2"))
    assert "load" not in [event.name for event in again if isinstance(event, StageDone)]


async def test_one_token_runs_once(bench):
    first = bench.take()
    assert bench.take() is first
    assert bench.take(epoch=2) is first
    await bench.events(first)
    assert bench.take(epoch=2) is first


async def test_what_is_only_to_be_followed_never_begins(bench):
    with pytest.raises(NotFound) as caught:
        bench.take(epoch=2, attach=True)
    assert (caught.value.reason, bench.worker.held) == ("ATTEMPT_UNKNOWN", 0)
    first = bench.take(epoch=2)
    assert bench.take(epoch=3, attach=True) is first
    with pytest.raises(PreconditionFailed):
        bench.take(epoch=2, attach=True)


async def test_an_outcome_is_remembered_for_ten_minutes(bench):
    first = bench.take()
    await bench.events(first)
    assert bench.take() is first
    bench.clock.seconds += attempts_module.REMEMBERED_S
    assert bench.take() is first
    bench.clock.seconds += 1
    assert bench.take() is not first


async def test_an_order_that_comes_after_the_next_attempt_at_its_job_is_refused(bench):
    bench.take(attempt=2)
    with pytest.raises(PreconditionFailed):
        bench.take(attempt=1)
    assert isinstance(await bench.outcome(bench.take(attempt=2)), Done)


async def test_one_draws_one_waits_and_a_third_is_refused(bench):
    bench.gate.clear()
    first, second = bench.take("job_1"), bench.take("job_2")
    assert bench.worker.rows_in_use == 1
    with pytest.raises(Unavailable) as caught:
        bench.take("job_3")
    assert caught.value.reason == "WORKER_BUSY"
    bench.gate.set()
    assert isinstance(await bench.outcome(first), Done)
    assert isinstance(await bench.outcome(second), Done)
    assert isinstance(await bench.outcome(bench.take("job_3")), Done)
    assert bench.worker.held == 0


async def test_cancel_ends_what_waits_at_once_and_what_draws_at_its_next_step(bench):
    bench.gate.clear()
    first, second = bench.take("job_1"), bench.take("job_2")
    await bench.draws()
    assert bench.attempts.cancel(second.order.key, 1)
    assert second.outcome.kind is FailureKind.CANCELLED
    assert bench.attempts.cancel(first.order.key, 1)
    assert first.outcome is None
    bench.gate.set()
    stopped = await bench.outcome(first)
    assert (stopped.kind, stopped.gpu_ms > 0.0) == (FailureKind.CANCELLED, True)
    assert bench.outcomes == [second.outcome, stopped]  # each is counted once, with what it took
    assert not bench.attempts.cancel(first.order.key, 1)
    assert not bench.attempts.cancel((JobId("job_9"), 1), 1)


async def test_a_later_attempt_at_a_job_stops_the_earlier_one(bench):
    bench.gate.clear()
    first = bench.take(attempt=1)
    await bench.draws()
    second = bench.take(attempt=2)
    bench.gate.set()
    assert (await bench.outcome(first)).kind is FailureKind.CANCELLED
    assert isinstance(await bench.outcome(second), Done)


@pytest.mark.parametrize(
    ("raised", "kind", "reason"),
    [
        (protocol.OutOfMemory("full"), FailureKind.OUT_OF_MEMORY, "GPU_OUT_OF_MEMORY"),
        (protocol.BadPictures("NaN"), FailureKind.TRANSIENT, "GENERATION_FAILED"),
        (RuntimeError("surprise"), FailureKind.TRANSIENT, "GENERATION_FAILED"),
    ],
)
async def test_a_failure_ends_its_attempt_alone(bench, raised, kind, reason):
    bench.raises = raised
    failed = await bench.outcome(bench.take("job_1"))
    assert (failed.kind, failed.reason) == (kind, reason)
    bench.raises = None
    assert isinstance(await bench.outcome(bench.take("job_2")), Done)


async def test_a_model_that_does_not_load_is_listed_with_the_reason_and_the_others_serve(bench):
    bench.load_raises = protocol.ModelBroken("the sizes differ")
    failed = await bench.outcome(bench.take("job_1"))
    assert (failed.kind, failed.reason) == (FailureKind.MODEL_UNAVAILABLE, "MODEL_UNUSABLE")
    assert bench.shelf.usable_names() == ("other@1",)
    bench.load_raises = None
    again = bench.take("job_2")
    assert again.outcome.kind is FailureKind.MODEL_UNAVAILABLE
    assert "the sizes differ" in again.outcome.message
    assert isinstance(await bench.outcome(bench.take("job_3", model="other@1")), Done)


@pytest.mark.parametrize("model", ["bad@1", "m@2", "gone@1"])
async def test_a_model_that_is_not_served_here_ends_the_attempt_at_once(bench, model):
    assert bench.take(model=model).outcome.kind is FailureKind.MODEL_UNAVAILABLE
    assert bench.worker.held == 0


@pytest.mark.parametrize("changes", [{"width": 7}, {"steps": 0}, {"sampler": "magic"}, {"images": 99}])
async def test_a_spec_that_the_model_does_not_allow_can_never_succeed(bench, changes):
    assert bench.take(spec=replace(SPEC, **changes)).outcome.kind is FailureKind.INVALID
    assert bench.worker.held == 0


async def test_a_lost_device_ends_the_process_and_takes_nothing_more(bench):
    bench.raises = protocol.DeviceLost("gone")
    assert (await bench.outcome(bench.take("job_1"))).reason == "WORKER_LOST"
    assert bench.worker.device_lost.is_set()
    with pytest.raises(Unavailable):
        bench.take("job_2")


async def test_an_error_that_quotes_the_prompt_is_logged_without_it(bench, caplog):
    bench.raises = ValueError("cannot tokenize 'zebra'")
    with caplog.at_level(logging.DEBUG):
        failed = await bench.outcome(bench.take())
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.job_id, record.error) == ("job_1", "ValueError")
    assert "bench.py" in record.trace
    assert "zebra" not in str([vars(record) for record in caplog.records]) + failed.message


async def test_a_blob_store_that_is_gone_is_a_passing_fault(bench, monkeypatch):
    async def gone(*_args):
        raise Unavailable("The picture store did not answer.")

    monkeypatch.setattr(bench.blobs, "put", gone)
    failed = await bench.outcome(bench.take())
    assert (failed.kind, failed.reason) == (FailureKind.TRANSIENT, "UNAVAILABLE")
    assert failed.gpu_ms >= 0


async def test_a_fault_while_storing_ends_the_attempt_too(bench, monkeypatch):
    async def faulty(*_args):
        raise ZeroDivisionError

    monkeypatch.setattr(bench.blobs, "put", faulty)
    assert (await bench.outcome(bench.take())).kind is FailureKind.TRANSIENT


async def test_draining_hands_back_what_waits_and_finishes_what_draws(bench):
    bench.gate.clear()
    first, second = bench.take("job_1"), bench.take("job_2")
    await bench.draws()
    draining = asyncio.create_task(bench.worker.drain(5))
    assert (await bench.outcome(second)).kind is FailureKind.DRAINING
    with pytest.raises(Unavailable) as caught:
        bench.take("job_3")
    assert caught.value.reason == "DRAINING"
    bench.gate.set()
    assert isinstance(await bench.outcome(first), Done)
    await draining


async def test_what_draws_too_long_is_handed_back_as_well(bench):
    bench.gate.clear()
    first = bench.take("job_1")
    await bench.draws()
    draining = asyncio.create_task(bench.worker.drain(0.0))
    assert (await bench.outcome(first)).kind is FailureKind.DRAINING
    bench.gate.set()
    await draining
    assert bench.worker.held == 0


async def test_changes_are_told_so_that_the_record_follows(bench):
    rows: list[int] = []
    bench.worker.on_change = lambda: rows.append(bench.worker.rows_in_use)
    assert isinstance(await bench.outcome(bench.take()), Done | Failed)
    assert [rows[0], rows[-1]] == [1, 0]


async def test_as_many_are_here_as_pay_to_be_drawn_together_and_one_more():
    bench = Bench(together=3)
    await bench.until(lambda: bench.worker.rows == 3)
    bench.gate.clear()
    attempts = [bench.take(f"job_{number}") for number in range(4)]
    assert (bench.worker.rows, bench.worker.rows_in_use, bench.worker.held) == (3, 3, 4)
    with pytest.raises(Unavailable):
        bench.take("job_9")
    bench.gate.set()
    assert all([isinstance(await bench.outcome(attempt), Done) for attempt in attempts])
    await bench.close()


async def test_a_setting_caps_what_was_measured():
    bench = Bench(together=8, slots=2)
    await bench.until(lambda: bench.worker.rows == 2)
    await bench.close()


async def test_a_failure_leaves_the_neighbours_that_share_the_device():
    bench = Bench(together=2)
    await bench.until(lambda: bench.worker.rows == 2)
    bench.gate.clear()
    good, wrong = bench.take("job_1"), bench.take("job_2", spec=replace(SPEC, guidance_scale=3.0))
    bench.gate.set()
    assert bench.attempts.cancel(wrong.order.key, 1)
    assert (await bench.outcome(wrong)).kind is FailureKind.CANCELLED
    assert isinstance(await bench.outcome(good), Done)
    await bench.close()


async def test_previews_are_encoded_beside_the_device(bench):
    bench.gate.clear()
    attempt = bench.take(spec=replace(SPEC, preview=True))
    following = asyncio.create_task(bench.events(attempt))
    bench.gate.set()
    shown = [event for event in await following if isinstance(event, Preview)]
    assert all(preview.data.startswith(b"\xff\xd8") for preview in shown)


async def test_inputs_are_fetched_before_the_device_sees_the_attempt(bench):
    attempt = bench.take(spec=OVER_A_PICTURE)
    await bench.fetches()
    assert not attempt.begun
    bench.inputs.let.set()
    assert isinstance(await bench.outcome(attempt), Done)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (InvalidRequest("It is gone.", reason="INPUT_GONE"), FailureKind.INVALID),
        (Unavailable("The store did not answer."), FailureKind.TRANSIENT),
        (ZeroDivisionError(), FailureKind.TRANSIENT),
    ],
)
async def test_inputs_that_cannot_be_had_end_the_attempt(bench, refusal, kind):
    bench.inputs.refuse = refusal
    bench.inputs.let.set()
    assert (await bench.outcome(bench.take(spec=OVER_A_PICTURE))).kind is kind
    assert bench.worker.held == 0


async def test_what_still_fetches_is_cancelled_at_once(bench):
    attempt = bench.take(spec=OVER_A_PICTURE)
    await bench.fetches()
    assert bench.attempts.cancel(attempt.order.key, 1)
    assert attempt.outcome.kind is FailureKind.CANCELLED
    assert bench.worker.held == 0


async def test_what_still_draws_when_time_is_up_is_handed_back_with_its_checkpoint(bench):
    spec = replace(SPEC, steps=100)
    whole = [event for event in await bench.events(bench.take("job_0", spec=spec)) if isinstance(event, ImageStored)]
    bench.gate.clear()
    first = bench.take("job_1", spec=spec)
    await bench.draws()
    draining = asyncio.create_task(bench.worker.drain(0.0, PATIENCE_S))
    await bench.hurries()
    bench.gate.set()
    events = await bench.events(first)
    await draining
    assert events[-1].kind is FailureKind.DRAINING
    saved = [event for event in events if isinstance(event, Checkpointed)][-1]  # more than one when it is slow to leave
    elsewhere = Bench()
    elsewhere.blobs._objects.update(bench.blobs._objects)
    elsewhere.inputs.let.set()
    rest = await elsewhere.events(elsewhere.take("job_1", attempt=2, spec=spec, resume_from=saved.ref))
    assert next(e.step for e in rest if isinstance(e, Progress)) == saved.step + 1
    assert [e.sha256 for e in rest if isinstance(e, ImageStored)] == [image.sha256 for image in whole]
    await elsewhere.close()


async def test_results_are_held_while_the_blob_store_is_away_and_nothing_new_is_taken(bench, monkeypatch):
    stored, back = bench.blobs.put, asyncio.Event()

    async def away(*args):
        if not back.is_set():
            raise Unavailable("The picture store did not answer.")
        await stored(*args)

    monkeypatch.setattr(bench.blobs, "put", away)
    monkeypatch.setattr(bench.clock, "sleep", lambda _seconds: back.wait())
    first = bench.take("job_1")
    await bench.until(lambda: bench.delivery.held_up)
    assert bench.worker.rows == 0
    with pytest.raises(Unavailable) as caught:
        bench.take("job_2")
    assert caught.value.reason == "WORKER_BUSY"
    back.set()
    assert isinstance(await bench.outcome(first), Done)
    assert isinstance(await bench.outcome(bench.take("job_2")), Done)


async def test_a_drain_does_not_wait_for_a_blob_store_that_is_away(bench, monkeypatch):
    async def away(*_args):
        raise Unavailable("The picture store did not answer.")

    monkeypatch.setattr(bench.blobs, "put", away)
    monkeypatch.setattr(bench.clock, "sleep", lambda _seconds: asyncio.Event().wait())
    first = bench.take("job_1")
    await bench.until(lambda: bench.delivery.held_up)
    await bench.worker.drain(0.0)
    assert first.outcome.kind is FailureKind.DRAINING


async def test_an_engine_that_fails_as_a_whole_gives_everything_back(bench, monkeypatch):
    bench.gate.clear()
    first, second = bench.take("job_1"), bench.take("job_2")
    await bench.draws()

    def broken():
        raise RuntimeError("no way on")

    monkeypatch.setattr(bench.engine, "tick", broken)
    bench.gate.set()
    for attempt in (first, second):
        failed = await bench.outcome(attempt)
        assert (failed.kind, failed.reason) == (FailureKind.TRANSIENT, "WORKER_LOST")
    assert bench.worker.device_lost.is_set()


async def test_a_device_that_is_given_up_while_its_thread_is_stuck_ends_every_attempt(bench, caplog):
    bench.gate.clear()
    first = bench.take("job_1")
    await bench.draws()
    bench.worker.give_up("the device was silent for 61 s")
    assert first.outcome.reason == "WORKER_LOST"
    assert bench.worker.draining
    (record,) = [record for record in caplog.records if record.message == "the device is lost"]
    assert "_on_step" in record.stack


async def test_a_prompt_that_is_not_allowed_never_reaches_the_device(bench):
    refused = bench.take(spec=replace(SPEC, prompt="something unspeakable")).outcome
    assert (refused.kind, refused.reason) == (FailureKind.BLOCKED, "SAFETY_PROMPT_BLOCKED")
    assert bench.worker.held == 0


async def test_pictures_that_are_not_allowed_are_withheld_and_the_others_stored(bench):
    bench.checker.withheld = {0}
    events = await bench.events(bench.take(spec=replace(SPEC, images=2)))
    assert [event.index for event in events if isinstance(event, ImageStored)] == [1]
    assert (events[-1].kind, events[-1].reason) == (FailureKind.BLOCKED, "SAFETY_OUTPUT_BLOCKED")
    assert events[-1].gpu_ms > 0
