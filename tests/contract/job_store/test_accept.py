"""Accepting: what is answered is kept, and an idempotency key makes one job for a day."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.exc import SQLAlchemyError

from services.scheduler.job import Change, OutboxMessage
from services.scheduler.storage.store import REQUEST_ID_LIFE_S, JobStore
from tests.contract.job_store.samples import CONFIRM, NOW, OTHER, TENANT, a_job, an_ending, kinds, queued


async def test_an_accepted_job_comes_back_whole_with_its_event_and_message(store: JobStore) -> None:
    job = a_job(request_id="r", request_digest="d", not_before=NOW + 1)
    accepted = await store.accept(job, [CONFIRM])
    assert accepted.job == job
    assert not accepted.existing
    assert await store.get(job.id) == job
    events = await store.events(job.id, 0)
    assert [(event.seq, event.kind, event.time, dict(event.payload)) for event in events] == [
        (1, "queued", job.created_at, {})
    ]
    messages = await store.pending_messages(10, NOW)
    assert [(message.kind, message.payload, message.tries) for message in messages] == [
        (CONFIRM.kind, CONFIRM.payload, 0)
    ]


async def test_a_job_enters_the_queue_when_it_was_created(store: JobStore) -> None:
    accepted = await store.accept(a_job(queued_at=0.0), [])
    assert accepted.job.queued_at == accepted.job.created_at


async def test_the_same_request_leads_to_the_first_job(store: JobStore) -> None:
    first = await queued(store, 1, request_id="r", request_digest="d")
    again = await store.accept(a_job(2, request_id="r"), [CONFIRM])
    assert again.existing
    assert again.job == first
    assert await store.get(a_job(2).id) is None
    assert await store.pending_messages(10, NOW) == []
    assert await kinds(store, first) == ["queued"]


async def test_the_first_job_is_returned_as_it_is_now(store: JobStore) -> None:
    first = await queued(store, 1, request_id="r")
    ended = await store.end(an_ending(first, 0, Change.CANCEL))
    assert (await store.accept(a_job(2, request_id="r"), [])).job == ended


async def test_fifty_requests_at_once_make_one_job(store: JobStore) -> None:
    answers = await asyncio.gather(*(store.accept(a_job(n, request_id="r"), [CONFIRM]) for n in range(1, 51)))
    assert len({answer.job.id for answer in answers}) == 1
    assert [answer.existing for answer in answers].count(False) == 1
    assert len(await store.open_jobs()) == 1
    assert len(await store.pending_messages(100, NOW)) == 1


async def test_the_same_job_twice_is_one(store: JobStore) -> None:
    job = await queued(store)
    assert (await store.accept(a_job(), [CONFIRM])).existing
    assert await store.open_jobs() == [job]


async def test_a_key_belongs_to_its_tenant_and_no_key_is_no_key(store: JobStore) -> None:
    jobs = [a_job(1, request_id="r"), a_job(2, request_id="r", tenant_id=OTHER), a_job(3), a_job(4)]
    answers = await asyncio.gather(*(store.accept(job, []) for job in jobs))
    assert [answer.existing for answer in answers] == [False] * 4
    assert await store.open_jobs() == jobs


async def test_a_key_is_free_again_after_a_day(store: JobStore) -> None:
    old = await queued(store, 1, request_id="r", created_at=NOW)
    just_before = a_job(2, request_id="r", created_at=NOW + REQUEST_ID_LIFE_S - 1)
    assert (await store.accept(just_before, [])).existing
    later = a_job(3, request_id="r", created_at=NOW + REQUEST_ID_LIFE_S)
    assert not (await store.accept(later, [])).existing
    assert (await store.accept(later.evolve(id=a_job(4).id), [])).job == later
    kept = await store.get(old.id)
    assert kept is not None
    assert kept.state is old.state


async def test_find_request_knows_tenant_and_age(store: JobStore) -> None:
    job = await queued(store, 1, request_id="r", created_at=NOW)
    assert await store.find_request(TENANT, "r", NOW + REQUEST_ID_LIFE_S - 1) == job
    assert await store.find_request(TENANT, "r", NOW + REQUEST_ID_LIFE_S) is None
    assert await store.find_request(OTHER, "r", NOW) is None
    assert await store.find_request(TENANT, "other", NOW) is None


async def test_find_request_finds_nothing_for_no_key(store: JobStore) -> None:
    await queued(store)
    assert await store.find_request(TENANT, "", NOW) is None


async def test_a_job_that_cannot_be_kept_fails_alone(store: JobStore) -> None:
    bad = [OutboxMessage("confirm", {"not": object()})]
    answers = await asyncio.gather(
        store.accept(a_job(1), []),
        store.accept(a_job(2), bad),
        store.accept(a_job(3), []),
        return_exceptions=True,
    )
    assert isinstance(answers[1], TypeError | SQLAlchemyError)
    assert [job.id for job in await store.open_jobs()] == [a_job(1).id, a_job(3).id]
    assert await store.events(a_job(2).id, 0) == []
    assert await store.pending_messages(10, NOW) == []
    assert not (await store.accept(a_job(2), [])).existing


@pytest.mark.parametrize("count", [300])
async def test_many_at_once_are_all_kept(store: JobStore, count: int) -> None:
    jobs = [a_job(number) for number in range(1, count + 1)]
    await asyncio.gather(*(store.accept(job, [CONFIRM]) for job in jobs))
    assert await store.open_jobs() == jobs
    assert len(await store.pending_messages(count + 1, NOW)) == count
