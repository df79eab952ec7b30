"""Deliveries of webhooks: one an event, committed with it, claimed under a lease until somebody says what became of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from libs.generation.webhook import FINAL_EVENTS, Webhook
from libs.ids import TenantId
from libs.sql import claims
from libs.webhooks.shares import Claim
from libs.webhooks.tries import TRIED_FOR_S, Fate, Told
from services.scheduler.job import Change, Job, JobState
from services.scheduler.storage.store import JobStore
from services.scheduler.webhooks.store import Delivery, Report
from tests.contract.job_store.samples import NOW, TENANT, a_spec, a_success, an_ending, queued, running, succeeded
from tests.contract.job_store.test_reuse import drawn, offer

URL = "https://hook.example/done"
ENDED = NOW + 20  # when the samples end
SOON = ENDED + 1


def told(*events: str, url: str = URL) -> dict[str, Any]:
    return {"spec": a_spec(webhook=Webhook(url, events or FINAL_EVENTS))}


async def done(store: JobStore, number: int = 1, *events: str, url: str = URL) -> Job:
    return await succeeded_with(store, number, told(*events, url=url))


async def succeeded_with(store: JobStore, number: int, changes: dict[str, Any]) -> Job:
    job = await store.end(a_success(await running(store, number, **changes)))
    assert job is not None
    return job


async def claim(store: JobStore, now: float = SOON, limit: int = 9, *busy: str) -> list[Delivery]:
    return await store.claim_deliveries(Claim(limit, 60.0, now, frozenset((TENANT, host) for host in busy)))


def report(delivery: Delivery, what: Told, now: float = SOON, **changes: Any) -> Report:
    return Report(delivery.job_id, delivery.seq, delivery.tries, what, now, 0.5, **changes)


async def test_a_job_without_a_webhook_tells_nobody(store: JobStore) -> None:
    await succeeded(store)
    assert (await claim(store), await store.deliveries_waiting(9)) == ([], 0)


async def test_a_url_that_nobody_can_read_does_not_keep_a_job_from_its_end(store: JobStore) -> None:
    job = await done(store, 1, "started", "completed", url="https://a]b/")
    assert (job.state, await claim(store)) == (JobState.SUCCEEDED, [])


async def test_the_end_of_a_job_is_told_with_what_a_receiver_needs(store: JobStore) -> None:
    job = await done(store)
    final = (await store.events(job.id, 0))[-1]
    [delivery] = await claim(store)
    assert delivery == Delivery(
        job.id, final.seq, TENANT, URL, "hook.example", "completed", ENDED, JobState.SUCCEEDED, "shapes", "shapes@1",
        {"team": "shapes"}, tries=1, due_at=SOON + 60,
    )  # fmt: skip


async def test_every_chosen_event_is_told_once(store: JobStore) -> None:
    job = await done(store, 1, "started", "image", "completed")
    events = {event.seq: event.kind for event in await store.events(job.id, 0) if event.kind != "queued"}
    claimed = await claim(store)
    assert {delivery.seq: delivery.kind for delivery in claimed} == events
    assert [(d.state, d.image_index) for d in claimed] == [
        (JobState.RUNNING, None), (JobState.SUCCEEDED, 0), (JobState.SUCCEEDED, 1), (JobState.SUCCEEDED, None),
    ]  # fmt: skip


async def test_a_failure_says_why(store: JobStore) -> None:
    run = await running(store, **told())
    assert await store.end(an_ending(run, 1, Change.FAIL)) is not None
    [delivery] = await claim(store)
    assert (delivery.kind, delivery.state, delivery.error_reason) == ("failed", JobState.FAILED, "WORKER_LOST")


async def test_a_change_that_is_too_late_tells_nothing(store: JobStore) -> None:
    run = await running(store, **told())
    assert await store.end(a_success(run, attempt=2)) is None
    assert await claim(store) == []


async def test_an_answer_from_the_cache_is_told_too(store: JobStore) -> None:
    await drawn(store)
    hit = await offer(store, 2, **told())
    assert hit.cache == "HIT"
    assert [(d.job_id, d.kind) for d in await claim(store, hit.created_at)] == [(hit.id, "completed")]


async def test_a_claim_is_a_lease_and_a_claimer_that_dies_leaves_it_due(store: JobStore) -> None:
    await done(store)
    [first] = await claim(store)
    assert await claim(store, SOON + 59) == []
    [again] = await claim(store, SOON + 60)
    assert (again.job_id, again.seq, again.tries) == (first.job_id, first.seq, 2)


async def test_the_longest_due_go_first_and_busy_hosts_are_left_out(store: JobStore) -> None:
    one, other = await done(store), await done(store, 2, url="https://other.example/")
    assert [d.job_id for d in await claim(store, SOON, 1)] == [one.id]
    assert await claim(store, SOON, 9, "other.example", "third.example") == []
    assert [d.job_id for d in await claim(store, SOON, 9, "hook.example")] == [other.id]


@pytest.mark.parametrize("look", [2, 64])
async def test_no_tenant_and_no_receiver_gets_more_than_its_share(
    store: JobStore, look: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of one is due before the others."""
    monkeypatch.setattr(claims, "LOOK", look)
    other = TenantId("other")
    for number in range(1, 8):
        await done(store, number, "started", "image", "completed")
    second = await done(store, 11, url="https://second.example/")
    third = await done(store, 12, url="https://third.example/")
    theirs = await store.end(a_success(await running(store, 13, tenant_id=other, **told())))
    assert theirs is not None
    claimed = await store.claim_deliveries(Claim(99, 60.0, SOON, most_a_receiver=2, most_a_tenant=3))
    assert [(d.tenant_id, d.host) for d in claimed] == [(TENANT, "hook.example")] * 2 + [
        (TENANT, "second.example"), (other, "hook.example"),
    ]  # fmt: skip
    rest = await store.claim_deliveries(Claim(99, 60.0, SOON, frozenset({(TENANT, "hook.example")})))
    assert [d.job_id for d in rest] == [third.id]
    assert second.id in {d.job_id for d in claimed}
    assert await store.claim_deliveries(Claim(99, 60.0, SOON, busy_tenants=frozenset({TENANT}))) == []


async def test_what_was_given_back_is_due_at_once_and_was_no_try(store: JobStore) -> None:
    await done(store)
    [delivery] = await claim(store)
    after = await store.report_delivery(report(delivery, Told.RETURNED, SOON + 2))
    assert after is not None
    assert (after.fate, after.tries, after.due_at) == (Fate.WAITING, 0, SOON + 2)
    [again] = await claim(store, SOON + 2)
    assert again.tries == 1
    [other] = await claim(store, SOON + 62)
    assert await store.report_delivery(report(again, Told.RETURNED, SOON + 63)) is None
    assert other.tries == 2


async def test_claimers_side_by_side_get_different_ones(store: JobStore) -> None:
    for number in range(1, 9):
        await done(store, number)
    claims = await asyncio.gather(*(claim(store, SOON, 3) for _ in range(4)))
    claims.append(await claim(store))  # what was skipped because another claimer held it
    keys = [(d.job_id, d.seq) for claimed in claims for d in claimed]
    assert (len(keys), len(set(keys))) == (8, 8)


async def test_what_was_delivered_is_over(store: JobStore) -> None:
    await done(store)
    [delivery] = await claim(store)
    assert await store.deliveries_waiting(9) == 1
    after = await store.report_delivery(report(delivery, Told.DELIVERED, status=204))
    assert after is not None
    assert (after.fate, after.status, after.due_at) == (Fate.DELIVERED, 204, None)
    assert await store.report_delivery(report(delivery, Told.FAILED)) is None
    assert (await claim(store, SOON + 3600), await store.deliveries_waiting(9)) == ([], 0)


async def test_what_failed_is_due_again_and_dead_after_a_day(store: JobStore) -> None:
    await done(store)
    [delivery] = await claim(store)
    after = await store.report_delivery(report(delivery, Told.FAILED, status=500, reason="status"))
    assert after is not None
    assert (after.fate, after.status, after.reason, after.due_at) == (Fate.WAITING, 500, "status", SOON + 2.5)
    [again] = await claim(store, SOON + 3)
    dead = await store.report_delivery(report(again, Told.FAILED, ENDED + TRIED_FOR_S))
    assert dead is not None
    assert (dead.fate, dead.due_at) == (Fate.DEAD, None)


async def test_the_failure_of_an_earlier_try_changes_nothing_its_success_does(store: JobStore) -> None:
    await done(store)
    [first] = await claim(store)
    await claim(store, SOON + 60)
    assert await store.report_delivery(report(first, Told.FAILED)) is None
    assert await claim(store, SOON + 61) == []
    after = await store.report_delivery(report(first, Told.DELIVERED))
    assert after is not None
    assert (after.fate, after.tries) == (Fate.DELIVERED, 2)


async def test_a_receiver_that_is_gone_hears_no_more_of_the_job(store: JobStore) -> None:
    run = await running(store, **told("started", "image", "completed"))
    second = await done(store, 2)
    [started] = await claim(store, SOON - 5)
    third = await running(store, 3, **told("started"))
    gone = await store.report_delivery(report(started, Told.GONE, status=410))
    assert gone is not None
    assert (gone.fate, gone.status) == (Fate.GONE, 410)
    assert await store.end(a_success(run)) is not None
    assert {delivery.job_id for delivery in await claim(store)} == {second.id, third.id}


async def test_a_receiver_that_is_gone_takes_what_waits_with_it(store: JobStore) -> None:
    await done(store, 1, "image", "completed")
    await done(store, 2)
    delivery, *_ = await claim(store, SOON, 1)
    await store.report_delivery(report(delivery, Told.GONE, status=410))
    assert await store.deliveries_waiting(9) == 1


async def test_two_that_say_so_at_once_do_not_wait_for_each_other(store: JobStore) -> None:
    await done(store, 1, "started", "image", "completed")
    claimed = await claim(store)
    said = [report(delivery, Told.GONE, status=410) for delivery in (claimed[-1], *claimed[:-1])]
    answers = await asyncio.gather(*(store.report_delivery(each) for each in said))
    assert len([after for after in answers if after is not None]) == 1
    assert await store.deliveries_waiting(9) == 0


async def test_the_count_of_what_waits_is_bounded(store: JobStore) -> None:
    await done(store, 1, "started", "image", "completed")
    assert (await store.deliveries_waiting(3), await store.deliveries_waiting(9)) == (3, 4)


async def test_deliveries_go_with_their_job(store: JobStore) -> None:
    deleted, forgotten = await done(store), await done(store, 2)
    [one, other] = await claim(store)
    await store.delete(deleted.id, TENANT, NOW)
    kept = await store.get(forgotten.id)
    assert kept is not None
    assert await store.report_delivery(report(one, Told.FAILED)) is None
    assert await store.forget_records(1, SOON, 9) == 2
    assert await store.report_delivery(report(other, Told.DELIVERED)) is None
    assert await store.deliveries_waiting(9) == 0


async def test_a_deleted_job_forgets_whom_it_told(store: JobStore) -> None:
    job = await queued(store, **told())
    assert job.spec.webhook is not None
    ended = await store.end(an_ending(job, 0, Change.CANCEL))
    assert ended is not None
    await store.delete(job.id, TENANT, NOW)
    assert await claim(store) == []
