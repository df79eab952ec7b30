from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from libs.clients.modelserver import Preview, Progress
from services.scheduler.events.watch_inbox import MIN_GAP_S, Inbox, Transient


def step(n: int, total: int = 50, attempt: int = 1) -> Progress:
    return Progress(attempt, n, total, 1.0)


def preview(n: int) -> Preview:
    return Preview(1, n, 50, 0, "image/png", b"x")


def test_the_latest_wins_and_leaves_every_tenth_of_a_second() -> None:
    inbox = Inbox()
    inbox.put(step(1))
    assert inbox.take(0.0) == [step(1)]
    for n in range(2, 8):
        inbox.put(step(n))
    assert inbox.take(0.05) == []
    assert inbox.next_at() == MIN_GAP_S
    assert inbox.take(MIN_GAP_S) == [step(7)]
    assert inbox.next_at() is None


def test_first_and_last_step_always_leave_even_together() -> None:
    inbox = Inbox()
    for n in range(1, 51):
        inbox.put(step(n))
    assert inbox.take(0.0) == [step(1), step(50)]


def test_progress_does_not_starve_previews() -> None:
    inbox = Inbox()
    inbox.put(step(1))
    inbox.take(0.0)
    inbox.put(preview(2))
    inbox.put(step(3))
    assert inbox.take(0.1) == [preview(2)]
    inbox.put(step(4))
    assert inbox.take(0.2) == [step(4)]


def test_a_new_attempt_silences_the_old_one() -> None:
    inbox = Inbox()
    inbox.put(step(1))
    inbox.started(2)
    inbox.put(step(2))
    assert inbox.take(0.0) == []
    inbox.put(step(1, attempt=2))
    assert inbox.take(0.0) == [step(1, attempt=2)]


@given(st.lists(st.tuples(st.floats(0, 0.3), st.booleans()), min_size=1, max_size=60))
def test_steps_ascend_the_rate_holds_and_both_ends_arrive(turns: list[tuple[float, bool]]) -> None:
    inbox, now, total = Inbox(), 0.0, len(turns)
    left: list[tuple[float, Transient]] = []
    for n, (passed, reads) in enumerate(turns, start=1):
        now += passed
        inbox.put(step(n, total))
        left += [(now, item) for item in (inbox.take(now) if reads else [])]
    left += [(now, item) for item in inbox.take_certain()]
    steps = [item.step for _, item in left]
    assert steps == sorted(set(steps))
    assert {1, total} <= set(steps)
    paced = [at for at, item in left if item.step not in (1, total)]
    assert all(later - sooner >= MIN_GAP_S - 1e-9 for sooner, later in itertools.pairwise(paced))
