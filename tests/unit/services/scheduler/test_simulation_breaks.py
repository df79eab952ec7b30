"""The simulation sees it when the scheduler forgets one of its rules: each is broken in turn, and some seed fails."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import replace
from typing import Any

import pytest

from services.scheduler import open_jobs
from services.scheduler.attempts.closer import AttemptCloser
from services.scheduler.attempts.reattachment import Reattachment
from services.scheduler.attempts.reconciler import Reconciler
from services.scheduler.dispatcher import Dispatcher
from services.scheduler.job import Job, JobState
from services.scheduler.order.tenant import Tenant
from services.scheduler.order.waiting import Entry
from services.scheduler.placement import preempter
from services.scheduler.placement.placement import Seat
from services.scheduler.placement.takers import Takers
from services.scheduler.replicas.handover import Handover
from services.scheduler.replicas.memory_lead import MemoryLead
from services.scheduler.results.follower import Follower
from services.scheduler.settlement import endings
from services.scheduler.storage import changes
from services.scheduler.storage.persistence import persistently
from tests.unit.services.scheduler.simulation import world
from tests.unit.services.scheduler.simulation.run import run

Break = Callable[[pytest.MonkeyPatch], None]
SEEDS = 40


def ends_by_state(patch: pytest.MonkeyPatch) -> None:
    """A result counts while the job runs, whichever attempt it is that runs."""

    def speaks_of(job: Job, attempt: int) -> bool:
        return job.state is (JobState.RUNNING if attempt else JobState.QUEUED)

    patch.setattr(changes, "_speaks_of", speaks_of)


def takes_no_notes(patch: pytest.MonkeyPatch) -> None:
    """The leader does not look at what standbys accepted."""

    async def look(handover: Any) -> bool:
        await persistently(handover._clock, lambda: handover._store.notes(handover._reconciler.epoch, 1))
        return False

    patch.setattr(Handover, "look", look)


def parks_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What was parked never goes on."""
    patch.setattr(preempter.preemption, "goes_on", lambda *_: None)


def writes_unfenced(patch: pytest.MonkeyPatch) -> None:
    """No write looks at the epoch."""
    patch.setattr(MemoryLead, "_check", lambda *_: None)


def gives_more_than_fits(patch: pytest.MonkeyPatch) -> None:
    """Rows are not counted."""

    def put(takers: Any, seat: Seat) -> None:
        for rule in takers._rules_of(seat).values():
            rule.workers[seat.record.worker_id] = None

    patch.setattr(Takers, "put", put)


def doubts_nothing(patch: pytest.MonkeyPatch) -> None:
    """What a lost answer may have done is not looked at."""
    patch.setattr(Reconciler, "doubt", lambda *_: None)


def takes_nothing_up(patch: pytest.MonkeyPatch) -> None:
    """What ran when the last leader went is forgotten."""
    patch.setattr(Reattachment, "run", _nothing)


def leaves_joiners(patch: pytest.MonkeyPatch) -> None:
    """Whoever joined a run does not hear of its end."""
    patch.setattr(Follower, "run", _nothing)


def forgets_heirs(patch: pytest.MonkeyPatch) -> None:
    """Who took over a run does not get its end."""
    patch.setattr(AttemptCloser, "_owned", lambda closer, attempt: attempt)


def charges_twice(patch: pytest.MonkeyPatch) -> None:
    """A job is charged by another sum than it says."""
    right = endings.settlement

    def settlement(*given: Any, **named: Any) -> Any:
        message = right(*given, **named)
        payload = {**message.payload, "charged_units": 2 * message.payload["charged_units"]}
        return type(message)(message.kind, payload)

    patch.setattr(endings, "settlement", settlement)


def takes_the_newest(patch: pytest.MonkeyPatch) -> None:
    """The order goes by arrival, but backwards."""
    right = open_jobs._waiting
    patch.setattr(open_jobs, "_waiting", lambda job: replace(right(job), queued_at=-job.queued_at))


def goes_line_by_line(patch: pytest.MonkeyPatch) -> None:
    """A tenant's jobs go by arrival only within what needs the same rows."""

    def first(tenant: Any, models: Container[str]) -> Entry:
        firsts = [queue.first() for model, queue in tenant.queues.items() if model in models]
        return min(firsts, key=lambda entry: (-entry[2].priority, entry[2].line))

    patch.setattr(Tenant, "first", first)


def leaves_what_did_not_begin(patch: pytest.MonkeyPatch) -> None:
    """A job whose attempt could not be committed is not put back."""
    patch.setattr(Dispatcher, "_put_back", _nothing)


async def _nothing(*_: object) -> None:
    return None


BREAKS: Sequence[tuple[Break, str]] = (
    (ends_by_state, "still open"),
    (takes_no_notes, "jobs wait while workers have nothing to do"),
    (parks_for_ever, "some jobs never end"),
    (writes_unfenced, "] lead"),
    (gives_more_than_fits, " rows"),
    (doubts_nothing, "jobs wait while workers have nothing to do"),
    (takes_nothing_up, "is still RUNNING"),
    (leaves_joiners, "is still QUEUED"),
    (forgets_heirs, "is still RUNNING"),
    (charges_twice, "was charged"),
    (takes_the_newest, "which had come before it"),
    (goes_line_by_line, "which had come before it"),
    (leaves_what_did_not_begin, "has lost"),
    (takes_no_notes, "and does not know"),
)


@pytest.mark.slow
@pytest.mark.parametrize(("breaks", "told"), BREAKS, ids=lambda value: getattr(value, "__name__", ""))
def test_it_is_caught(breaks: Break, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breaks(monkeypatch)
    monkeypatch.setattr(world, "REST_S", 150.0)
    assert any(told in failure(seed) for seed in range(SEEDS))


def failure(seed: int) -> str:
    """Return what a seed tells; empty when nothing is wrong."""
    try:
        run(seed)
    except AssertionError as error:
        return str(error)
    return ""
