"""Removing what is over: marked before it goes, and nothing that is referred to goes."""

from __future__ import annotations

import pytest

from services.scheduler.results.store import REMOVAL_MARGIN_S, TOMBSTONE_S, PicturesSwept
from services.scheduler.storage.store import Deposed, JobStore
from tests.contract.job_store.samples import NOW, a_start, a_success, an_image, queued, running, succeeded
from tests.contract.job_store.test_reuse import LATER, LIFE_S, drawn, offer

SHAS = [an_image(0).sha256, an_image(1).sha256]
OVER = NOW + 86_400


async def test_pictures_are_doomed_when_their_time_is_over_and_then_answer_nobody(store: JobStore) -> None:
    await drawn(store)
    assert await store.doom(1, OVER - 1, 9) == []
    assert sorted(await store.doom(1, OVER, 9)) == SHAS
    assert sorted(await store.doom(1, OVER, 9)) == SHAS  # until they are removed
    assert (await offer(store, 2)).cache == "MISS"
    await store.removed(SHAS, 1, OVER)
    assert await store.doom(1, OVER, 9) == []


async def test_a_hit_before_the_sweep_keeps_its_pictures(store: JobStore) -> None:
    await drawn(store)
    hit = await offer(store, 2, OVER - 700)
    assert hit.cache == "HIT"
    assert await store.doom(1, OVER + 1, 9) == []
    assert sorted(await store.doom(1, OVER - 700 + LIFE_S, 9)) == SHAS


async def test_a_picture_that_is_being_removed_is_brought_by_nobody(store: JobStore) -> None:
    await succeeded(store)
    run = await running(store, 2)
    await store.doom(1, OVER, 9)
    with pytest.raises(PicturesSwept):
        await store.end(a_success(run))
    assert await store.get(run.id) == run
    await store.removed(SHAS, 1, OVER)
    with pytest.raises(PicturesSwept):  # its worker may have found them before they went
        await store.end(a_success(run))


async def test_a_picture_drawn_after_the_removal_is_kept(store: JobStore) -> None:
    await succeeded(store)
    await store.doom(1, OVER, 9)
    gone_at = a_start(await queued(store, 2)).now - REMOVAL_MARGIN_S - 1
    await store.removed(SHAS, 1, gone_at)
    run = await running(store, 3)
    assert await store.end(a_success(run)) is not None
    assert await store.doom(1, OVER - 1, 9) == []


async def test_an_object_of_a_lost_commit_is_doomed_and_one_that_was_committed_is_not(store: JobStore) -> None:
    await drawn(store)
    lost = "e" * 64
    assert await store.unknown([lost, *SHAS]) == [lost]
    await store.doom_unknown([lost, *SHAS], 1, LATER)
    assert await store.doom(1, LATER, 9) == [lost]
    await store.removed([lost], 1, LATER)
    await store.removed([], 1, LATER + TOMBSTONE_S + 1)
    assert await store.unknown([lost]) == [lost]


async def test_records_go_with_all_that_is_kept_of_them(store: JobStore) -> None:
    old, open_job = await succeeded(store), await queued(store, 2)
    assert await store.forget_records(1, NOW + 20, 9) == 0
    assert await store.forget_records(1, NOW + 21, 9) == 1
    assert await store.get(old.id) is None
    assert (await store.events(old.id, 0), await store.attempts(old.id)) == ([], [])
    assert await store.get(open_job.id) == open_job


async def test_a_deposed_leader_removes_nothing(store: JobStore) -> None:
    await succeeded(store)
    await store.take_lead("another", NOW)
    with pytest.raises(Deposed):
        await store.doom(1, OVER, 9)
    with pytest.raises(Deposed):
        await store.forget_records(1, OVER, 9)
