"""Giving results again: a hit is whole or not at all, joiners end with their run, and a sweep takes nothing away."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest

from services.scheduler.job import Change, Failure, Job, JobState
from services.scheduler.results.reuse import MARGIN_S, REASON, Terms
from services.scheduler.results.store import HandOver, PicturesSwept
from services.scheduler.storage.store import Deposed, JobStore
from services.scheduler.storage.wishes import Accepted
from tests.contract.job_store.samples import (
    CONFIRM,
    NOW,
    OTHER,
    SETTLE,
    TENANT,
    a_job,
    a_requeue,
    a_spec,
    a_start,
    a_success,
    an_ending,
    an_image,
    kinds,
)

KEY = "k" * 64
LIFE_S = 86_400.0
LATER = NOW + 3600.0


async def offer(store: JobStore, number: int, now: float = LATER, **changes: Any) -> Job:
    """Accept a job that others may answer."""
    return (await accepted(store, number, now, **changes)).job


async def accepted(store: JobStore, number: int, now: float = LATER, **changes: Any) -> Accepted:
    job = a_job(number, **{"cache_key": KEY, "created_at": now, "queued_at": now, **changes})
    return await store.accept_reusing(job, [CONFIRM], Terms(now, now + LIFE_S))


async def drawn(store: JobStore, number: int = 1, **changes: Any) -> Job:
    job = await offer(store, number, NOW + number)
    await store.start(a_start(job))
    ended = await store.end(a_success(job, **changes))
    assert ended is not None
    return ended


async def runs(store: JobStore, number: int = 1, **changes: Any) -> Job:
    started = await store.start(a_start(await offer(store, number, **changes)))
    assert started is not None
    return started


async def test_a_hit_is_a_finished_job_with_pictures_events_and_a_settlement_of_nothing(store: JobStore) -> None:
    source = await drawn(store)
    before = len(await store.pending_messages(99, NOW))
    hit = await offer(store, 2)
    assert (hit.state, hit.cache, hit.drawn_by, hit.images) == (JobState.SUCCEEDED, "HIT", source.id, source.images)
    assert (hit.expires_at, hit.finished_at, hit.attempt) == (LATER + LIFE_S, LATER, 0)
    assert (hit.actual_units, hit.charged_units, hit.charge_reason) == (0.0, 0.0, REASON)
    assert await store.get(hit.id) == hit
    assert await store.open_jobs() == []
    assert await kinds(store, hit) == ["queued", "image", "image", "completed"]
    confirm, settle = (await store.pending_messages(99, NOW))[before:]
    assert (confirm.kind, settle.kind, settle.payload["reservation_id"]) == ("confirm", "settle", hit.id)
    assert (settle.payload["charged_units"], settle.payload["images"], settle.payload["outcome"]) == (
        *(0.0, 0, "succeeded"),
    )


async def test_a_hit_that_cannot_be_kept_whole_is_not_kept(store: JobStore) -> None:
    await drawn(store)
    bad = dataclasses.replace(CONFIRM, payload={"not": object()})
    with pytest.raises(Exception, match=r"."):
        await store.accept_reusing(a_job(2, cache_key=KEY), [bad], Terms(LATER, LATER + LIFE_S))
    assert await store.get(a_job(2).id) is None
    assert await store.events(a_job(2).id, 0) == []


async def test_a_hit_keeps_its_pictures_when_the_first_job_is_deleted_and_the_key_goes_with_that(
    store: JobStore,
) -> None:
    source = await drawn(store)
    hit = await offer(store, 2, tenant_id=OTHER)
    assert await store.delete(source.id, TENANT, NOW) == ()
    assert await store.get(hit.id) == hit
    assert (await offer(store, 3)).state is JobState.QUEUED
    assert await store.delete(hit.id, OTHER, NOW) == tuple(image.sha256 for image in hit.images)


@pytest.mark.parametrize(("left_s", "cache"), [(MARGIN_S + 1, "HIT"), (MARGIN_S, "MISS"), (-1.0, "MISS")])
async def test_pictures_that_go_soon_answer_nobody(store: JobStore, left_s: float, cache: str) -> None:
    await drawn(store, expires_at=LATER + left_s)
    assert (await offer(store, 2)).cache == cache


async def test_one_picture_that_goes_soon_is_enough_for_a_miss(store: JobStore) -> None:
    await drawn(store, expires_at=LATER + 60)
    other = await offer(store, 2, NOW, cache_key="l" * 64)
    await store.start(a_start(other))
    await store.end(a_success(other, images=(an_image(0),)))
    assert (await offer(store, 3)).cache == "MISS"


async def test_every_hit_makes_its_pictures_live_on(store: JobStore) -> None:
    source = await drawn(store, expires_at=LATER + MARGIN_S + 1)
    await offer(store, 2)
    late = await offer(store, 3, LATER + LIFE_S - MARGIN_S - 1)
    assert (late.cache, late.drawn_by) == ("HIT", source.id)


MISSES: dict[str, dict[str, Any]] = {
    "another key": {"cache_key": "l" * 64},
    "no key": {"cache_key": ""},
    "refresh": {"spec": a_spec(cache="refresh")},
    "another model": {"model_version": "shapes@2"},
}


@pytest.mark.parametrize("case", MISSES)
async def test_what_is_not_the_same_is_drawn(store: JobStore, case: str) -> None:
    await drawn(store)
    await runs(store, 2, spec=a_spec(cache="refresh"))
    job = await offer(store, 3, **MISSES[case])
    assert (job.state, job.cache, job.drawn_by) == (JobState.QUEUED, "MISS", "")


async def test_a_refresh_takes_the_place_of_what_was_there(store: JobStore) -> None:
    await drawn(store)
    fresh = await offer(store, 2, NOW + 60, spec=a_spec(cache="refresh"))
    await store.start(a_start(fresh))
    assert (await offer(store, 3)).cache == "HIT"
    await store.end(a_success(fresh, images=(an_image(0, "c" * 64), an_image(1, "d" * 64))))
    assert (await offer(store, 4)).drawn_by == fresh.id


async def test_of_many_alike_at_once_one_is_drawn(store: JobStore) -> None:
    jobs = await asyncio.gather(*(offer(store, number) for number in range(1, 21)))
    (run,) = [job for job in jobs if job.cache == "MISS"]
    assert {job.drawn_by for job in jobs if job.id != run.id} == {run.id}


@pytest.mark.parametrize(
    ("changes", "waiting", "running"),
    [
        ({}, "JOINED", "JOINED"),
        ({"tenant_id": OTHER}, "MISS", "JOINED"),
        ({"tier": "pro"}, "MISS", "JOINED"),
        ({"spec": a_spec(priority=1)}, "MISS", "JOINED"),
        ({"spec": a_spec(priority=-1)}, "JOINED", "JOINED"),
    ],
)
async def test_a_run_is_joined_by_all_but_nobody_waits_behind_another_in_the_order(
    store: JobStore, changes: dict[str, Any], waiting: str, running: str
) -> None:
    run = await offer(store, 1)
    assert (await offer(store, 2, **changes)).cache == waiting
    await store.start(a_start(run))
    assert (await offer(store, 3, **changes)).cache == running


async def test_a_run_that_is_to_be_cancelled_is_not_joined(store: JobStore) -> None:
    run = await runs(store)
    await store.request_cancel(run.id, TENANT)
    assert (await offer(store, 2)).cache == "MISS"


async def test_a_joiner_waits_and_ends_with_its_run_for_nothing(store: JobStore) -> None:
    run = await runs(store)
    joiner = await offer(store, 2, tenant_id=OTHER)
    assert (joiner.state, joiner.cache, joiner.drawn_by) == (JobState.QUEUED, "JOINED", run.id)
    assert await store.follow(joiner.id, 1, LATER) is None
    done = await store.end(a_success(run))
    followed = await store.follow(joiner.id, 1, LATER)
    assert done is not None
    assert followed is not None
    assert followed == await store.get(joiner.id, OTHER)
    assert (followed.state, followed.images, followed.charged_units) == (JobState.SUCCEEDED, done.images, 0.0)
    assert await kinds(store, followed) == ["queued", "image", "image", "completed"]
    settles = [m.payload for m in await store.pending_messages(99, NOW) if m.kind == "settle"]
    assert [(p["tenant_id"], p["charged_units"]) for p in settles if "tenant_id" in p] == [(OTHER, 0.0)]
    assert await store.follow(joiner.id, 1, LATER) is None
    assert await store.delete(run.id, TENANT, NOW) == ()


SHARED = Failure("SAFETY_OUTPUT_BLOCKED", "It shows what is not allowed.", {"charged": "true"})


async def test_a_failure_of_the_request_is_the_joiners_too_but_not_its_bill(store: JobStore) -> None:
    run = await runs(store)
    joiner = await offer(store, 2)
    await store.end(an_ending(run, 1, Change.FAIL, failure=SHARED))
    failed = await store.follow(joiner.id, 1, LATER)
    assert failed is not None
    assert (failed.state, failed.charged_units) == (JobState.FAILED, 0.0)
    assert failed.failure == Failure(SHARED.reason, SHARED.message, {"charged": "false"})


@pytest.mark.parametrize("change", [Change.FAIL, Change.CANCEL])
async def test_joiners_of_a_run_that_brought_nothing_go_on_the_first_for_the_others(
    store: JobStore, change: Change
) -> None:
    run = await runs(store)
    first, second, other = await offer(store, 2), await offer(store, 3), await offer(store, 4, tenant_id=OTHER)
    await store.end(an_ending(run, 1, change))
    free = await store.follow(first.id, 1, LATER + 5)
    assert free == first.evolve(cache="MISS", drawn_by="")
    again = await store.follow(second.id, 1, LATER + 5)
    assert again == second.evolve(drawn_by=first.id)
    alone = await store.follow(other.id, 1, LATER + 5)
    assert alone is not None
    assert alone.cache == "MISS"
    assert await kinds(store, first) == ["queued", "queued"]
    assert await kinds(store, second) == ["queued"]


async def test_a_lost_attempt_frees_nobody(store: JobStore) -> None:
    run = await runs(store)
    joiner = await offer(store, 2)
    await store.requeue(a_requeue(run))
    assert await store.follow(joiner.id, 1, LATER) is None
    assert await store.get(joiner.id) == joiner


async def test_a_run_that_is_drawn_otherwise_than_it_was_asked_for_answers_who_asks_so_now(store: JobStore) -> None:
    """The fleet draws or allows something else since it came: its joiners would get the same, others would not."""
    run = await offer(store, 1)
    joiner = await offer(store, 2)
    started = await store.start(dataclasses.replace(a_start(run), cache_key="l" * 64))
    assert started is not None
    assert (await store.get(run.id), started.cache_key) == (started, "l" * 64)
    assert (await offer(store, 3)).cache == "MISS"
    assert (await offer(store, 4, cache_key="l" * 64)).drawn_by == run.id
    await store.end(a_success(run))
    followed = await store.follow(joiner.id, 1, LATER)
    assert followed is not None
    assert followed.state is JobState.SUCCEEDED
    assert (await offer(store, 5)).cache == "JOINED"  # of job 3
    assert (await offer(store, 6, cache_key="l" * 64)).cache == "HIT"


async def test_an_heir_has_the_key_of_what_is_drawn(store: JobStore) -> None:
    run = await offer(store, 1)
    heir = await offer(store, 2)
    started = await store.start(dataclasses.replace(a_start(run), cache_key="l" * 64))
    assert started is not None
    both = await store.hand_over(handed(started, heir))
    assert both is not None
    assert both[1].cache_key == "l" * 64


async def test_joiners_of_a_deleted_run_are_drawn(store: JobStore) -> None:
    run = await runs(store)
    joiner = await offer(store, 2)
    await store.end(a_success(run))
    assert await store.delete(run.id, TENANT, NOW) is not None
    free = await store.follow(joiner.id, 1, LATER)
    assert free is not None
    assert free.cache == "MISS"


def handed(run: Job, heir: Job, epoch: int = 1) -> HandOver:
    return HandOver(run.id, run.attempt, heir.id, epoch, LATER + 9, "why", (SETTLE,))


async def test_a_run_whose_owner_goes_is_the_heirs(store: JobStore) -> None:
    run = await runs(store)
    heir, third = await offer(store, 2), await offer(store, 3)
    both = await store.hand_over(handed(run, heir))
    assert both is not None
    gone, runner = both
    assert (gone.state, gone.charge_reason, gone.charged_units) == (JobState.CANCELLED, "why", 0.0)
    assert (runner.state, runner.attempt, runner.worker, runner.cache, runner.drawn_by) == (
        *(JobState.RUNNING, 1, run.worker, "MISS", ""),
    )
    assert runner.run == (run.id, run.attempt)
    assert [await store.get(job.id) for job in (run, heir)] == [gone, runner]
    assert await kinds(store, gone) == ["queued", "started", "cancelled"]
    assert await kinds(store, runner) == ["queued", "started"]
    assert await store.get(third.id) == third.evolve(drawn_by=heir.id)
    assert await store.end(a_success(run)) is None
    assert await store.end(a_success(runner, charged_units=9.5)) is not None
    followed = await store.follow(third.id, 1, LATER)
    assert followed is not None
    assert followed.state is JobState.SUCCEEDED


async def test_a_run_keeps_its_name_and_its_beginning_from_heir_to_heir_and_loses_them_with_its_end(
    store: JobStore,
) -> None:
    run = await runs(store)
    first, second = await offer(store, 2), await offer(store, 3)
    await store.hand_over(handed(run, first))
    again = (await store.get(first.id)) or first
    both = await store.hand_over(handed(again, second))
    assert both is not None
    runner = both[1]
    assert (runner.run, runner.attempt) == ((run.id, 1), 1)
    assert {job.id: job.run for job in await store.open_jobs()} == {runner.id: (run.id, 1)}
    assert [a.started_at for a in await store.attempts(runner.id)] == [a_start(run).now]
    assert await store.requeue(a_requeue(runner)) is not None
    started = await store.start(a_start(runner, 2))
    assert started is not None
    assert started.run == (runner.id, 2)


async def test_an_heir_does_not_keep_what_was_swept_while_the_run_was_anothers(store: JobStore) -> None:
    await drawn(store, expires_at=NOW + 11)
    run = await runs(store, 2, spec=a_spec(cache="refresh"))
    heir = await offer(store, 3)
    swept = [image.sha256 for image in a_success(run).images]
    assert sorted(await store.doom(1, NOW + 11, 9)) == sorted(swept)
    await store.removed(swept, 1, NOW + 12)
    both = await store.hand_over(handed(run, heir))
    assert both is not None
    with pytest.raises(PicturesSwept):
        await store.end(a_success(both[1]))


async def test_a_hand_over_that_comes_too_late_changes_nothing(store: JobStore) -> None:
    run = await runs(store)
    heir, stranger = await offer(store, 2), await offer(store, 9, cache_key="")
    assert await store.hand_over(handed(run, stranger)) is None
    assert await store.hand_over(handed(run.evolve(attempt=2), heir)) is None
    await store.end(a_success(run))
    assert await store.hand_over(handed(run, heir)) is None
    assert await store.get(heir.id) == heir


async def test_a_deposed_leader_moves_no_joiner(store: JobStore) -> None:
    run = await runs(store)
    heir = await offer(store, 2)
    await store.take_lead("another", NOW)
    with pytest.raises(Deposed):
        await store.hand_over(handed(run, heir))
    with pytest.raises(Deposed):
        await store.follow(heir.id, 1, LATER)


async def test_an_end_beside_a_hand_over_leaves_one_of_both(store: JobStore) -> None:
    run = await runs(store)
    heir = await offer(store, 2)
    ended, both = await asyncio.gather(store.end(a_success(run)), store.hand_over(handed(run, heir)))
    assert (ended is None) != (both is None)


async def test_a_cancelled_joiner_leaves_the_run_alone(store: JobStore) -> None:
    run = await runs(store)
    joiner = await offer(store, 2)
    assert await store.end(an_ending(joiner, 0, Change.CANCEL)) is not None
    assert await store.get(run.id) == run
    assert await store.follow(joiner.id, 1, LATER) is None
