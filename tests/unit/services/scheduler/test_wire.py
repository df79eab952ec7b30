"""Jobs and events as their readers get them."""

from __future__ import annotations

from google.rpc import error_details_pb2, status_pb2

from darkroom.scheduler.v1 import scheduler_service_pb2 as pb
from darkroom.v1 import job_pb2
from libs.clients.modelserver import Preview, Progress
from libs.generation.attempt import ImageStored, StageDone
from libs.ids import JobId, WorkerId
from libs.wire.spec import spec_to_pb
from services.scheduler import wire
from services.scheduler.events import wire as event_wire
from services.scheduler.forecast.estimator import QueueEstimate
from services.scheduler.job import Failure
from services.scheduler.settlement import endings
from services.scheduler.settlement.endings import Yield
from services.scheduler.storage.memory_store import MemoryStore
from services.scheduler.storage.wishes import Mark, Start
from tests.unit.services.scheduler.fakes import job, spec

NOW = 1_700_000_000.0
PICTURE = ImageStored(0, "a" * 64, "image/png", 128, 128, 7, 99)
QUEUE = QueueEstimate(3, 1.5, 3.0, True, NOW)


async def lived(*, failure: Failure | None = None) -> tuple[MemoryStore, JobId]:
    store = MemoryStore()
    epoch = await store.take_lead("test", NOW)
    waiting = (await store.accept(job(NOW, spec=spec(labels={"a": "b"})), [])).job
    running = await store.start(Start(waiting.id, 1, WorkerId("w"), epoch, NOW + 1))
    assert running is not None
    await store.mark(Mark(waiting.id, 1, epoch, f"checkpoints/{waiting.id}/1-2", 2))
    brought = Yield((PICTURE,), (StageDone("queue", NOW, NOW + 1), StageDone("denoise", NOW + 1, NOW + 2)), 250.0)
    if failure:
        await store.end(endings.failed(running, failure, brought, epoch=epoch, now=NOW + 2))
    else:
        await store.end(endings.succeeded(running, brought, epoch=epoch, now=NOW + 2, result_life_s=60))
    return store, waiting.id


async def events_of(store: MemoryStore, job_id: JobId) -> list[job_pb2.JobEvent]:
    return [event_wire.durable_to_pb(event, QUEUE) for event in await store.events(job_id, 0)]


def reason_of(status: status_pb2.Status) -> str:
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return str(info.reason)


async def test_a_job_that_succeeded() -> None:
    store, job_id = await lived()
    done = await store.get(job_id)
    assert done is not None
    public = wire.job_to_pb(done, attempts=await store.attempts(job_id), progress=Progress(1, 3, 3, 0.0))
    assert job_pb2.Job.State.Name(public.state) == "SUCCEEDED"
    assert [stage.name for stage in public.timeline] == ["queue", "denoise"]
    assert [(a.attempt, a.worker, a.outcome, a.checkpoint_step) for a in public.attempts] == [(1, "w", "succeeded", 2)]
    assert (public.images[0].sha256, public.images[0].url, public.events_url) == ("a" * 64, "", "")
    assert (public.cost.charged_units, public.progress.step) == (250.0, 3)
    assert (public.start_time.seconds, public.expire_time.seconds) == (int(NOW) + 1, int(NOW) + 62)
    assert dict(public.labels) == {"a": "b"}
    assert not public.HasField("error")
    assert not public.HasField("queue")
    kinds = [(event.sequence, event.WhichOneof("event")) for event in await events_of(store, job_id)]
    assert kinds == [(1, "queued"), (2, "started"), (3, "image"), (4, "completed")]


async def test_events_carry_all_a_reader_needs() -> None:
    store, job_id = await lived()
    queued, started, image, completed = await events_of(store, job_id)
    assert (queued.queued.queue.position, queued.queued.queue.feasible) == (3, True)
    assert (started.started.attempt, started.started.worker) == (1, "w")
    assert image.image.image == completed.completed.images[0] == wire.image_to_pb(PICTURE)
    assert completed.completed.cost.charged_units == 250.0
    assert completed.time.seconds == int(NOW) + 2


async def test_failures_say_their_reason_in_the_job_and_in_the_event() -> None:
    store, job_id = await lived(failure=Failure("WORKER_LOST", "gone", {"attempts": "3"}))
    failed = await store.get(job_id)
    assert failed is not None
    assert reason_of(wire.job_to_pb(failed).error) == "WORKER_LOST"
    event = (await events_of(store, job_id))[-1]
    assert (reason_of(event.failed.error), event.failed.error.message) == ("WORKER_LOST", "gone")
    assert wire.failure_to_pb(Failure("NEWER_THAN_THIS_CODE", "x")).code == 13


async def test_cancelled_and_expired() -> None:
    store = MemoryStore()
    epoch = await store.take_lead("test", NOW)
    one, two = [(await store.accept(job(NOW), [])).job for _ in range(2)]
    await store.end(endings.cancelled(one, epoch=epoch, now=NOW + 5))
    expired = await store.end(endings.expired(two, epoch=epoch, now=NOW + 5))
    assert expired is not None
    assert (await events_of(store, one.id))[-1].cancelled.cost.estimated_units == 300.0
    assert (await events_of(store, two.id))[-1].expired.waited_s == 5.0
    public = wire.job_to_pb(expired)
    assert reason_of(public.error) == "DEADLINE_BEFORE_START"
    assert (public.cost.charged_units, public.cost.reason) == (0.0, "it never ran")


def test_passing_events_have_no_sequence() -> None:
    progress = event_wire.transient_to_pb(JobId("job_1"), Progress(2, 3, 9, 1.5), NOW)
    assert (progress.sequence, progress.progress.attempt, progress.progress.total) == (0, 2, 9)
    preview = event_wire.transient_to_pb(JobId("job_1"), Preview(2, 3, 9, 1, "image/jpeg", b"x"), NOW)
    assert (preview.preview.index, preview.preview.data) == (1, b"x")


def test_a_submitted_job_keeps_what_it_was_given() -> None:
    wanted = spec(deadline_s=30, priority=4)
    request = pb.SubmitRequest(
        job_id="job_1", tenant_id="t", tier="pro", spec=spec_to_pb(wanted), model="s", model_version="shapes@v1",
        estimated_units=5.0, request_id="r", request_digest="d",
    )  # fmt: skip
    made = wire.job_from_submit(request, now=NOW, traceparent="00-x")
    assert (made.spec, made.deadline_at, made.traceparent) == (wanted, NOW + 30, "00-x")
    assert (made.model, made.model_version, made.request_id) == ("s", "shapes@v1", "r")
    assert wire.state_from_pb(job_pb2.Job.UNSPECIFIED) is None
