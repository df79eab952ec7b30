"""Who leads, and what the leader is told by the others."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import aclosing

import pytest

from libs.sql.addresses import is_sqlite
from services.scheduler.replicas.lead_store import NOBODY, UNELECTED, Claim, Outrun
from services.scheduler.storage.store import Deposed, JobStore
from tests.contract.job_store.samples import NOW, TENANT, a_job, a_start, queued

FIRST = Claim("etcd-1", 7, "127.0.0.1:1")
WITHIN_S = 30.0


def later(claim: Claim, revision: int) -> Claim:
    return dataclasses.replace(claim, revision=revision)


async def test_a_claim_is_kept_and_shown(unled_store: JobStore) -> None:
    assert (await unled_store.leader()).epoch == 0
    epoch = await unled_store.take_lead("a", NOW, FIRST)
    leader = await unled_store.leader()
    assert (leader.epoch, leader.holder, leader.claim, leader.updated_at) == (epoch, "a", FIRST, NOW)


async def test_a_winner_that_was_overtaken_is_refused(unled_store: JobStore) -> None:
    await unled_store.take_lead("a", NOW, later(FIRST, 9))
    for revision in (8, 9):
        with pytest.raises(Outrun):
            await unled_store.take_lead("b", NOW, later(FIRST, revision))
    assert (await unled_store.leader()).holder == "a"
    assert await unled_store.take_lead("b", NOW, later(FIRST, 10)) == 2


async def test_another_cluster_may_count_from_the_beginning(unled_store: JobStore) -> None:
    await unled_store.take_lead("a", NOW, later(FIRST, 9))
    assert await unled_store.take_lead("b", NOW, Claim("etcd-2", 1, "")) == 2
    assert await unled_store.take_lead("c", NOW, UNELECTED) == 3


async def test_a_claim_whose_answer_was_lost_is_answered_again(unled_store: JobStore) -> None:
    for claim in (FIRST, UNELECTED):
        epoch = await unled_store.take_lead("a", NOW, claim)
        assert await unled_store.take_lead("a", NOW + 1, claim) == epoch
        assert (await unled_store.leader()).epoch == epoch


async def test_the_leader_is_told_what_others_accept_and_cancel(store: JobStore) -> None:
    own, theirs = a_job(1), a_job(2)
    epoch = (await store.leader()).epoch
    await store.accept(own, [], epoch)
    await store.accept(theirs, [], NOBODY)
    await store.accept(theirs, [], NOBODY)  # again: it is there already
    await store.request_cancel(own.id, TENANT, epoch)
    await store.request_cancel(theirs.id, TENANT, epoch - 1)  # a leader that was deposed and does not know it
    notes = await store.notes(epoch, 10)
    assert [note.job_id for note in notes] == [theirs.id, theirs.id]
    assert await store.notes(epoch, 1) == notes[:1]
    await store.notes_taken([note.id for note in notes])
    assert await store.notes(epoch, 10) == []


async def test_who_listens_is_told_of_notes_and_of_another_leader(store: JobStore, url: str) -> None:
    async with aclosing(store.hear_notes()) as told, asyncio.timeout(WITHIN_S):
        if is_sqlite(url):  # there is one scheduler on a file
            assert [word async for word in told] == []
            return
        await anext(told)
        await store.accept(a_job(1), [], NOBODY)
        await anext(told)
        await store.request_cancel(a_job(1).id, TENANT)
        await anext(told)
        await store.take_lead("another", NOW)
        await anext(told)


async def test_a_leader_that_is_no_more_keeps_no_document(store: JobStore) -> None:
    epoch = (await store.leader()).epoch
    await store.save_document("catalog", {"version": 1}, epoch)
    await store.take_lead("another", NOW)
    with pytest.raises(Deposed):
        await store.save_document("catalog", {"version": 2}, epoch)
    with pytest.raises(Deposed):
        await store.rename_document("catalog", "aside", epoch)
    assert await store.load_document("catalog") == {"version": 1}


async def test_a_leader_that_is_no_more_gets_no_notes(store: JobStore) -> None:
    epoch = (await store.leader()).epoch
    await store.take_lead("another", NOW)
    with pytest.raises(Deposed):
        await store.notes(epoch, 10)


async def test_a_waiting_job_that_is_to_be_cancelled_never_starts(store: JobStore) -> None:
    job = await queued(store)
    marked = await store.request_cancel(job.id, TENANT)
    assert marked is not None
    assert marked.cancel_requested
    assert await store.start(a_start(job)) is None
