"""AdminService on a real socket: what operators ask for takes hold and is told."""

from __future__ import annotations

import pytest

from darkroom.modelserver.v1 import modelserver_service_pb2 as pb
from libs.coordination.etcd_registry import EtcdRegistry
from libs.errors import NotFound
from services.scheduler.settings import Settings
from tests.integration.services.scheduler.asking import (
    TENANT,
    follow,
    kinds,
    scheduler,
    submission,
)
from tests.integration.services.scheduler.peers import Answer, Worker, announced, good
from tests.unit.services.scheduler.fakes import MODEL


def full(_request: pb.ExecuteRequest) -> Answer:
    """A worker whose memory never suffices."""
    return [pb.ExecuteEvent(failed=pb.AttemptFailed(kind=pb.AttemptFailed.OUT_OF_MEMORY, reason="GPU_OUT_OF_MEMORY"))]


async def test_a_dead_letter_is_listed_requeued_and_drawn(settings: Settings, registry: EtcdRegistry) -> None:
    worker = Worker(full)
    async with scheduler(settings) as (client, admin), announced(worker, registry):
        wanted = submission()
        await client.submit(wanted)
        failed = await follow(client, wanted.job_id)
        assert kinds(failed)[-1] == "failed"
        (letter,) = await admin.dead_letters()
        assert (letter.job_id, letter.tenant_id, letter.reason, letter.attempts) == (
            wanted.job_id,
            TENANT,
            "GPU_OUT_OF_MEMORY",
            3,
        )
        worker.script = good
        last = (await client.get_job(TENANT, wanted.job_id)).attempts[-1].attempt
        await admin.requeue_dead_letter(wanted.job_id)
        again = await follow(client, wanted.job_id, after=failed[-1].sequence)
        assert [kind for kind in kinds(again) if kind != "progress"] == ["queued", "started", "image", "completed"]
        first = failed[-1].sequence + 1
        assert [event.sequence for event in again if event.sequence] == [*range(first, first + 4)]
        whole = [kind for kind in kinds(await follow(client, wanted.job_id)) if kind != "progress"]
        assert whole == ["queued", "started"] * 4 + ["image", "completed"]
        job = await client.get_job(TENANT, wanted.job_id)
        assert job.attempts[-1].attempt == last + 1
        assert await admin.dead_letters() == []
        with pytest.raises(NotFound):
            await admin.drop_dead_letter(wanted.job_id)


async def test_wishes_for_a_worker_hold_and_are_told(settings: Settings, registry: EtcdRegistry) -> None:
    async with scheduler(settings) as (client, admin), announced(Worker(), registry):
        first = submission()
        await client.submit(first)
        await follow(client, first.job_id)
        assert await admin.drain_worker("modelserver-0") == []
        assert await admin.pin_model("shapes", "modelserver-0") == MODEL.pinned
        (view,) = await admin.list_workers()
        assert (view.draining, view.pins, view.quarantined_until) == (True, (MODEL.pinned,), None)
        assert [(pin.worker_id, pin.model_version) for pin in await admin.pins()] == [("modelserver-0", MODEL.pinned)]
        wanted = submission()
        await client.submit(wanted)
        queue = await admin.get_queue()
        (model,) = queue.models
        assert (model.model_version, model.queued, model.running) == (MODEL.pinned, 1, 0)
        assert model.obstacle == "every worker with its model is draining"
        assert [(tenant.tenant_id, tenant.queued) for tenant in queue.tenants] == [(TENANT, 1)]
        assert await admin.unpin_model("shapes", "modelserver-0") == MODEL.pinned
        await admin.undrain_worker("modelserver-0")
        assert kinds(await follow(client, wanted.job_id))[-1] == "completed"
