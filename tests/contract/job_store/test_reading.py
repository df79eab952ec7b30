"""Pages, deleting, the leader's fence, the outbox and documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from libs.ids import WorkerId
from services.scheduler.job import Change, IllegalChange, JobState
from services.scheduler.storage.store import Deposed, JobStore, OpenTotal
from tests.contract.job_store.samples import (
    CONFIRM,
    NOW,
    OTHER,
    SETTLE,
    TENANT,
    UNKNOWN,
    WORKER,
    a_job,
    a_requeue,
    a_start,
    a_success,
    an_ending,
    an_image,
    queued,
    running,
    succeeded,
)


async def test_what_is_open_is_summed_by_model_and_by_worker_where_it_runs(store: JobStore) -> None:
    assert await store.open_totals() == []
    await queued(store, 1)
    await queued(store, 2)
    await queued(store, 3, model_version="posters@1", tenant_id=OTHER)
    await running(store, 4)
    await store.requeue(a_requeue(await running(store, 5)))  # waits, and its row still names a worker
    await succeeded(store, 6)
    totals = sorted(await store.open_totals(), key=lambda total: (total.model_version, total.worker))
    assert totals == [
        OpenTotal("posters@1", WorkerId(""), 1, 12.5),
        OpenTotal("shapes@1", WorkerId(""), 3, 37.5),
        OpenTotal("shapes@1", WORKER, 1, 12.5),
    ]


async def test_pages_go_from_the_newest_to_the_oldest(store: JobStore) -> None:
    for number in (3, 1, 5, 2, 4):
        await queued(store, number)
    await queued(store, 6, tenant_id=OTHER)
    first = await store.list_jobs(TENANT, "", 2, None)
    assert first == [a_job(5), a_job(4)]
    second = await store.list_jobs(TENANT, first[-1].id, 2, None)
    assert second == [a_job(3), a_job(2)]
    assert await store.list_jobs(TENANT, second[-1].id, 2, None) == [a_job(1)]
    assert await store.list_jobs(TENANT, a_job(1).id, 2, None) == []


async def test_a_page_can_be_of_one_state_and_has_the_pictures(store: JobStore) -> None:
    done = [await succeeded(store, 1), await succeeded(store, 3)]
    await queued(store, 2)
    assert await store.list_jobs(TENANT, "", 10, JobState.SUCCEEDED) == done[::-1]
    assert [job.id for job in await store.list_jobs(TENANT, "", 10, JobState.QUEUED)] == [a_job(2).id]
    assert await store.list_jobs(TENANT, "", 10, JobState.FAILED) == []


async def test_a_job_is_there_only_for_its_tenant(store: JobStore) -> None:
    job = await queued(store)
    assert await store.get(job.id, TENANT) == job
    assert await store.get(job.id, OTHER) is None
    assert await store.get(UNKNOWN) is None
    assert await store.delete(job.id, OTHER, NOW) is None


async def test_events_resume_after_a_sequence(store: JobStore) -> None:
    job = await succeeded(store)
    assert [event.seq for event in await store.events(job.id, 3)] == [4, 5]
    assert await store.events(job.id, 5) == []
    assert await store.events(UNKNOWN, 0) == []


async def test_open_jobs_are_those_that_can_still_change_oldest_first(store: JobStore) -> None:
    await succeeded(store, 1)
    waiting = await queued(store, 4, created_at=NOW + 2)
    active = await running(store, 3)
    lost = await store.requeue(a_requeue(await running(store, 5)))
    await store.end(an_ending(await queued(store, 6), 0, Change.CANCEL))
    assert await store.open_jobs() == [waiting, active, lost]


async def test_open_jobs_come_page_by_page_also_where_several_are_as_old(store: JobStore) -> None:
    jobs = [await queued(store, number, created_at=NOW + number // 4) for number in range(1, 8)]
    first = await store.open_jobs(limit=2)
    second = await store.open_jobs(first[-1], 2)
    await store.end(an_ending(second[-1], 0, Change.CANCEL))
    await queued(store, 9, created_at=NOW + 9)
    third = await store.open_jobs(second[-1], 3)
    rest = await store.open_jobs(third[-1])
    assert [job.id for job in first + second + third] == [job.id for job in jobs]
    assert [job.id for job in rest] == [a_job(9).id]


async def test_deleting_returns_the_pictures_nobody_else_has(store: JobStore) -> None:
    shared, own = an_image(0, "a" * 64), an_image(1, "b" * 64)
    first = await succeeded(store, 1, images=(shared, own))
    second = await succeeded(store, 2, images=(shared,))
    assert await store.delete(first.id, TENANT, NOW) == ("b" * 64,)
    assert await store.get(second.id) == second
    assert await store.delete(second.id, TENANT, NOW) == ("a" * 64,)


async def test_two_deletions_at_once_leave_no_picture_behind(store: JobStore) -> None:
    shared = an_image(0, "a" * 64)
    jobs = [await succeeded(store, number, images=(shared,)) for number in (1, 2)]
    gone = await asyncio.gather(*(store.delete(job.id, TENANT, NOW) for job in jobs))
    assert sorted(gone, key=lambda hashes: hashes or ()) == [(), ("a" * 64,)]


async def test_a_deleted_job_is_gone_and_its_message_and_attempts_stay(store: JobStore) -> None:
    job = await store.end(a_success(await running(store, 1, request_id="r")))
    assert job is not None
    await store.delete(job.id, TENANT, NOW)
    assert await store.get(job.id) is None
    assert await store.events(job.id, 0) == []
    assert await store.list_jobs(TENANT, "", 10, None) == []
    assert await store.find_request(TENANT, "r", NOW) is None
    assert await store.delete(job.id, TENANT, NOW) is None
    assert len(await store.pending_messages(10, NOW)) == 1
    assert [attempt.gpu_ms for attempt in await store.attempts(job.id)] == [1500.0]
    assert not (await store.accept(a_job(2, request_id="r"), [])).existing


async def test_an_open_job_cannot_be_deleted(store: JobStore) -> None:
    job = await running(store)
    with pytest.raises(IllegalChange):
        await store.delete(job.id, TENANT, NOW)
    assert await store.get(job.id) == job


async def test_every_lead_has_a_higher_epoch(unled_store: JobStore) -> None:
    epochs = [await unled_store.take_lead(holder, NOW) for holder in ("a", "b", "a")]
    assert epochs == [1, 2, 3]
    assert len(set(await asyncio.gather(*(unled_store.take_lead(f"c{number}", NOW) for number in range(5))))) == 5


LEADER_WRITES: dict[str, Callable[[JobStore], Awaitable[object]]] = {
    "start": lambda store: store.start(a_start(a_job(1))),
    "end a waiting job": lambda store: store.end(an_ending(a_job(1), 0, Change.CANCEL)),
    "end": lambda store: store.end(a_success(a_job(2))),
    "requeue": lambda store: store.requeue(a_requeue(a_job(2))),
}


@pytest.mark.parametrize("name", LEADER_WRITES)
async def test_a_deposed_leader_changes_nothing(store: JobStore, name: str) -> None:
    jobs = [await queued(store, 1), await running(store, 2)]
    await store.take_lead("another", NOW)
    with pytest.raises(Deposed):
        await LEADER_WRITES[name](store)
    assert await store.open_jobs() == jobs
    assert await store.start(a_start(jobs[0], epoch=2)) is not None


async def test_a_new_leader_ends_what_the_old_one_started(store: JobStore) -> None:
    job = await running(store)
    epoch = await store.take_lead("another", NOW)
    ended = await store.end(a_success(job, epoch=epoch))
    assert ended is not None
    assert [attempt.epoch for attempt in await store.attempts(job.id)] == [1]


async def test_messages_are_due_in_order_until_they_are_sent(store: JobStore) -> None:
    await store.accept(a_job(1), [CONFIRM, SETTLE])
    await store.accept(a_job(2), [CONFIRM])
    first, second, third = await store.pending_messages(10, NOW)
    assert [message.kind for message in (first, second, third)] == ["confirm", "settle", "confirm"]
    assert await store.pending_messages(1, NOW) == [first]
    await store.message_failed(first.id, NOW + 5)
    assert await store.pending_messages(10, NOW) == [second, third]
    await store.messages_sent([second.id, third.id])
    (again,) = await store.pending_messages(10, NOW + 5)
    assert (again.id, again.tries) == (first.id, 1)
    await store.messages_sent([first.id, 12345])
    await store.messages_sent([])
    await store.message_failed(first.id, NOW)
    assert await store.pending_messages(10, NOW + 10) == []


async def test_documents_are_replaced_by_name(store: JobStore) -> None:
    assert await store.load_document("catalog") is None
    epoch = (await store.leader()).epoch
    await store.save_document("catalog", {"version": 1, "models": ["shapes"]}, epoch)
    await store.save_document("prices", {}, epoch)
    await store.save_document("catalog", {"version": 2}, epoch)
    assert await store.load_document("catalog") == {"version": 2}
    assert await store.load_document("prices") == {}


async def test_it_answers(store: JobStore) -> None:
    await store.ping()


async def test_a_document_gets_another_name_in_the_place_of_what_has_it(store: JobStore) -> None:
    epoch = (await store.leader()).epoch
    await store.save_document("prices", {"version": 1}, epoch)
    await store.rename_document("prices", "aside", epoch)
    assert await store.load_document("prices") is None
    await store.rename_document("prices", "aside", epoch)  # nothing there: what lies aside stays
    assert await store.load_document("aside") == {"version": 1}
    await store.save_document("prices", {"version": 2}, epoch)
    await store.rename_document("prices", "aside", epoch)
    assert await store.load_document("aside") == {"version": 2}
