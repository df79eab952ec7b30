"""Time with work, by whichever thread: what two do at once counts once."""

from __future__ import annotations

import threading

from services.modelserver.engine.busy import Busy


class Clock:
    """Stands still until a test says otherwise."""

    now_s = 100.0

    def now(self) -> float:
        return self.now_s


def test_work_beside_work_counts_once_and_what_is_under_way_counts_too() -> None:
    clock = Clock()
    busy, begun, end = Busy(clock.now), threading.Event(), threading.Event()

    def beside() -> None:
        with busy.working():
            begun.set()
            end.wait(10)

    thread = threading.Thread(target=beside)
    with busy.working():
        clock.now_s += 1.0
        thread.start()
        assert begun.wait(10)
        clock.now_s += 2.0
        assert busy.seconds == 3.0
    clock.now_s += 4.0
    assert busy.seconds == 7.0  # the other goes on by itself
    end.set()
    thread.join()
    clock.now_s += 8.0
    assert busy.seconds == 7.0
    with busy.working():
        clock.now_s += 0.5
    assert busy.seconds == 7.5
