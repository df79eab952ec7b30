"""The model server over gRPC, with a real pipeline of random weights: what the scheduler relies on."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading

import grpc
import pytest
import torch
from PIL import Image

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from darkroom.modelserver.v1 import modelserver_service_pb2_grpc as rpc
from libs import secret_files
from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.clients.modelserver import ModelServerClient
from libs.clock import SystemClock
from libs.coordination.memory import MemoryRegistry
from libs.errors import InvalidRequest, PreconditionFailed, Unavailable
from libs.fleet.directory import Directory
from libs.fleet.record import WorkerRecord
from libs.fleet.shapes import Shape
from libs.generation.spec import SpecRequest, resolve
from libs.ids import JobId, WorkerId
from libs.rpc.channel import open_channel
from libs.rpc.status import from_rpc_error
from libs.testing.waiting import until
from libs.wire.spec import spec_from_pb, spec_to_pb
from services.modelserver.acceptance import told_rows
from services.modelserver.app import ModelServer
from services.modelserver.carriers import Urgency
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.fitting import Fitting, Measurements
from services.modelserver.models import scan
from services.modelserver.safety import Permissive
from services.modelserver.settings import ModelServerSettings
from services.scheduler.placement.seats import Seats
from tests.contract.engine.tiny_pipeline import save_tiny_pipeline

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

PATIENCE_S = 30
Kind = pb.AttemptFailed.Kind


class GatedEngine(StepwiseEngine):
    """Stops after a step while its gate is shut, so that a test decides when it goes on."""

    def __init__(self, outfit):
        super().__init__(outfit)
        self.gate = threading.Event()
        self.gate.set()

    def admit(self, request, reports):
        report = reports.step

        def gated(step, total, eta_s):
            report(step, total, eta_s)
            assert self.gate.wait(PATIENCE_S)

        reports.step = gated
        super().admit(request, reports)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    save_tiny_pipeline(place / "tiny")
    (save_tiny_pipeline(place / "broken") / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (place / "pickled").mkdir()
    (place / "pickled" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (place / "pickled" / "weights.bin").write_bytes(b"x")
    return scan([place], FileDigests(place / "digests.json"), LibraryClasses())


class Setup:
    def __init__(self, server, engine, models, blobs, registry, channel):
        self.server, self.engine, self.blobs, self.registry = server, engine, blobs, registry
        self.stub, self.client = rpc.ModelServerServiceStub(channel), ModelServerClient(channel)
        self.models = {folder.model.id: folder.model for folder in models}

    def request(self, job_id="job_1", attempt=1, epoch=1, model="tiny", **fields):
        asked = SpecRequest(**{"prompt": "a cat", "seed": 7, **fields})
        spec = resolve(asked, self.models["tiny"], fresh_seed=0)
        return pb.ExecuteRequest(
            job_id=job_id, attempt=attempt, epoch=epoch, model_version=self.models[model].pinned, spec=spec_to_pb(spec)
        )

    async def execute(self, *args, **fields):
        return [event async for event in self.stub.Execute(self.request(*args, **fields), timeout=PATIENCE_S)]

    async def holding(self, count):
        """Wait until the worker holds so many attempts; a stream tells nothing before its first event."""
        worker, changed = self.server.worker, asyncio.Event()
        told, worker.on_change = worker.on_change, changed.set
        async with asyncio.timeout(PATIENCE_S):
            while worker.held < count:
                changed.clear()
                await changed.wait()
        worker.on_change = told
        told()

    async def has_something_to_do(self):
        """Whether a wish waits for the device thread."""
        return not self.server.worker.device._inbox.empty()

    async def until(self, stream, kind):
        while (event := await stream.read()).WhichOneof("event") != kind:
            pass
        return event


@pytest.fixture
async def setup(models, tmp_path, request):
    before = torch.get_num_threads()
    secret_files.ensure(tmp_path / "secrets")
    blobs, registry = MemoryBlobs(), MemoryRegistry()
    settings = ModelServerSettings(data=tmp_path, drain_s=20.0, slots=getattr(request, "param", 1))
    device, urgency = Device("cpu", threads=1), Urgency(settings.checkpoints)
    measured = Measurements(BatchTable(device.info.id), tmp_path / "batch-table.json")
    engine = GatedEngine(make_outfit(device, measured.table, due=urgency.due))
    fitting = Fitting(engine, models, Permissive(), urgency, measured)
    server = ModelServer(settings, fitting, blobs, registry, SystemClock())
    await server.start()
    token = secret_files.read_token(tmp_path / "secrets", secret_files.MESH_TOKEN)
    async with open_channel(server.address, mesh_token=token) as channel:
        yield Setup(server, engine, models, blobs, registry, channel)
    engine.gate.set()
    assert await server.stop()
    torch.set_num_threads(before)


def kinds(events):
    return [event.WhichOneof("event") for event in events]


async def test_an_attempt_ends_with_its_pictures_in_the_blob_store(setup):
    events = await setup.execute(images=2, steps=4)
    steps = [event.progress.step for event in events if event.WhichOneof("event") == "progress"]
    assert steps == [1, 2, 3, 4]
    stages = [event.stage.name for event in events if event.WhichOneof("event") == "stage"]
    assert stages == ["load", "encode", "denoise", "decode", "store"]
    assert kinds(events)[-1] == "done"
    assert events[-1].done.gpu_ms > 0
    assert events[-1].done.peak_memory_bytes > 0
    stored = [event.image for event in events if event.WhichOneof("event") == "image"]
    images = sorted(stored, key=lambda image: image.index)  # each is stored as soon as it is encoded
    assert [(image.index, image.seed, image.width, image.height) for image in images] == [
        (0, 7, 32, 32),
        (1, 8, 32, 32),
    ]
    for image in images:
        data = b"".join([chunk async for chunk in setup.blobs.get_stream(image_key(image.sha256))])
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (image.sha256, image.size_bytes)
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.size, picture.format, picture.info) == ((32, 32), "PNG", {})


@pytest.mark.parametrize("form", ["jpeg", "webp"])
async def test_other_formats_and_previews_are_what_they_say(setup, form):
    events = await setup.execute(output_format=form, preview=True)
    (image,) = [event.image for event in events if event.WhichOneof("event") == "image"]
    assert image.content_type == f"image/{form}"
    preview = next(event.preview for event in events if event.WhichOneof("event") == "preview")
    with Image.open(io.BytesIO(preview.data)) as picture:
        assert (picture.format, preview.content_type, preview.attempt) == ("JPEG", "image/jpeg", 1)


async def test_a_broken_stream_does_not_stop_the_attempt_and_a_second_call_attaches(setup):
    setup.engine.gate.clear()
    broken = setup.stub.Execute(setup.request(steps=5), timeout=PATIENCE_S)
    await setup.until(broken, "progress")
    broken.cancel()
    attached = setup.stub.Execute(setup.request(steps=5), timeout=PATIENCE_S)
    replayed = await setup.until(attached, "progress")
    assert replayed.progress.step == 1  # it goes on; it did not begin again
    setup.engine.gate.set()
    rest = [event async for event in attached]
    assert [e.progress.step for e in rest if e.WhichOneof("event") == "progress"] == [2, 3, 4, 5]
    assert kinds(rest)[-1] == "done"
    later = await setup.execute(steps=5)  # the outcome is remembered
    lasting = [event for event in rest if event.WhichOneof("event") in ("image", "done")]
    assert [event for event in later if event.WhichOneof("event") in ("image", "done")] == lasting


async def test_cancel_stops_at_the_next_step(setup):
    setup.engine.gate.clear()
    stream = setup.stub.Execute(setup.request(steps=50), timeout=PATIENCE_S)
    await setup.until(stream, "progress")
    token = pb.CancelAttemptRequest(job_id="job_1", attempt=1, epoch=1)
    assert (await setup.stub.CancelAttempt(token, timeout=PATIENCE_S)).found
    setup.engine.gate.set()
    rest = [event async for event in stream]
    assert rest[-1].failed.kind == Kind.CANCELLED
    assert "image" not in kinds(rest)
    assert not (await setup.stub.CancelAttempt(token, timeout=PATIENCE_S)).found
    assert kinds(await setup.execute(job_id="job_2"))[-1] == "done"


async def test_a_third_attempt_finds_the_worker_busy_and_a_past_leader_is_refused(setup):
    setup.engine.gate.clear()
    first = setup.stub.Execute(setup.request("job_1", epoch=3), timeout=PATIENCE_S)
    await setup.until(first, "progress")
    second = setup.stub.Execute(setup.request("job_2", epoch=3), timeout=PATIENCE_S)
    await setup.holding(2)
    for epoch, refusal in ((2, (PreconditionFailed, "EPOCH_STALE")), (3, (Unavailable, "WORKER_BUSY"))):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await setup.execute("job_3", epoch=epoch)
        error = from_rpc_error(caught.value, "modelserver")
        assert (type(error), error.reason) == refusal
    setup.engine.gate.set()
    for stream in (first, second):
        assert kinds([event async for event in stream])[-1] == "done"


async def test_models_are_described_with_what_is_wrong_with_them(setup):
    described = await setup.stub.DescribeModels(pb.DescribeModelsRequest(), timeout=PATIENCE_S)
    reasons = {model.id: model.unusable_reason for model in described.models}
    assert set(reasons) == {"tiny", "broken", "pickled"}
    assert described.models[0].id == "tiny"
    assert described.models[0].usable
    assert "unet/diffusion_pytorch_model.safetensors" in reasons["broken"]
    assert "weights.bin" in reasons["pickled"]
    (failed,) = await setup.execute(model="broken")
    assert failed.failed.kind == Kind.MODEL_UNAVAILABLE


async def test_the_worker_is_announced_with_its_models_and_drains(setup):
    directory = Directory(setup.registry)
    following = asyncio.create_task(directory.run())
    me = WorkerId("modelserver-0")
    async with asyncio.timeout(PATIENCE_S):
        await directory.wait_for(lambda: me in directory.workers())
    record = directory.workers()[me]
    assert (record.address, record.models, record.rows) == (setup.server.address, (setup.models["tiny"].pinned,), 1)

    setup.engine.gate.clear()
    running = setup.stub.Execute(setup.request("job_1"), timeout=PATIENCE_S)
    await setup.until(running, "progress")
    waiting = setup.stub.Execute(setup.request("job_2"), timeout=PATIENCE_S)
    await setup.holding(2)
    stopping = asyncio.create_task(setup.server.stop())
    assert (await setup.until(waiting, "failed")).failed.kind == Kind.DRAINING
    async with asyncio.timeout(PATIENCE_S):
        await directory.wait_for(lambda: directory.workers()[me].draining)
    setup.engine.gate.set()
    assert kinds([event async for event in running])[-1] == "done"
    await stopping
    async with asyncio.timeout(PATIENCE_S):
        await directory.wait_for(lambda: me not in directory.workers())
    following.cancel()


def has_told(record, setup):
    """Whether a record says what the worker says now: it is written once a second."""
    return record.model_rows and record.model_rows == told_rows(setup.server.worker.device.load)


@pytest.mark.parametrize("setup", [0], indirect=True)
async def test_schedulers_place_by_the_rows_that_it_measured(setup):
    directory, me = Directory(setup.registry), WorkerId("modelserver-0")
    following = asyncio.create_task(directory.run())
    for images in (1, 2, 4):
        assert kinds(await setup.execute(f"job_{images}", images=images, steps=2))[-1] == "done"
    async with asyncio.timeout(PATIENCE_S):
        await directory.wait_for(lambda: me in directory.workers() and has_told(directory.workers()[me], setup))
    (told,) = directory.workers()[me].model_rows
    assert (told.model, len(told.most)) == (setup.models["tiny"].pinned, 1)

    seats, shape = Seats(), Shape.of(told.model, spec_from_pb(setup.request().spec))
    seats.follow(directory.workers(), 0.0)
    given = 0
    while isinstance(record := seats.choose(shape.line, (), ()), WorkerRecord):
        given += 1
        seats.give(record, JobId(f"more_{given}"), 0.0, shape=shape)
    assert given * shape.rows <= told.most[0][1] < (given + 1) * shape.rows
    setup.engine.gate.clear()
    streams = [setup.stub.Execute(setup.request(f"more_{n}"), timeout=PATIENCE_S) for n in range(given + 1)]
    await setup.holding(given + 1)  # and one ahead; none of them is refused
    for number in range(given + 1):
        assert await setup.client.cancel(JobId(f"more_{number}"), 1, epoch=1)
    assert len(streams) == given + 1
    following.cancel()


async def test_models_are_warmed_and_let_go(setup):
    pinned, other = setup.models["tiny"].pinned, setup.models["broken"].pinned

    async def is_in_memory():
        return {place.pinned: place.tier for place in await setup.client.residency()} == {pinned: "vram"}

    (place,) = await setup.client.residency()
    assert (place.pinned, place.tier) == (pinned, "disk")
    assert place.weight_bytes > 1000
    await setup.client.warm(pinned, "vram")
    await until(is_in_memory, PATIENCE_S)
    stages = [event.stage.name for event in await setup.execute() if event.WhichOneof("event") == "stage"]
    assert "load" not in stages
    assert await setup.client.evict(pinned)
    assert not await setup.client.evict(pinned)
    for wish, error in ((other, PreconditionFailed), ("nothing@1", PreconditionFailed)):
        with pytest.raises(error):
            await setup.client.warm(wish, "vram")
    with pytest.raises(InvalidRequest):
        await setup.client.warm(pinned, "moon")


async def test_a_parked_attempt_makes_room_and_goes_on_to_the_same_picture(setup):
    alone = [e.image.sha256 for e in await setup.execute("job_0", steps=9) if e.WhichOneof("event") == "image"]
    setup.engine.gate.clear()
    stream = setup.stub.Execute(setup.request("job_1", steps=9), timeout=PATIENCE_S)
    await setup.until(stream, "progress")
    parking = asyncio.create_task(setup.client.park(JobId("job_1"), 1, 1))
    await until(setup.has_something_to_do, PATIENCE_S)
    setup.engine.gate.set()
    assert await parking
    assert kinds(await setup.execute("job_2"))[-1] == "done"
    assert await setup.client.resume(JobId("job_1"), 1, 1)
    rest = [event async for event in stream]
    assert [e.image.sha256 for e in rest if e.WhichOneof("event") == "image"] == alone
    assert not await setup.client.park(JobId("job_1"), 1, 1)
