from __future__ import annotations

import threading

import pytest
import torch

from services.modelserver.engine.load_thread import LoadThread
from services.modelserver.engine.protocol import Cancelled, OutOfMemory


@pytest.fixture
def woken():
    return threading.Semaphore(0)


@pytest.fixture
def thread(woken):
    made: LoadThread[object] = LoadThread(woken.release, lambda: 0.0)
    yield made
    made.close()


def result(thread: LoadThread[object], woken: threading.Semaphore):
    assert woken.acquire(timeout=20)
    return next(thread.results())


def test_it_takes_one_thread_of_torch_and_leaves_the_others_theirs(woken):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread: LoadThread[object] = LoadThread(woken.release, lambda: 0.0)
        thread.put("a", lambda tell: torch.get_num_threads())
        assert result(thread, woken).value == 1
        assert torch.get_num_threads() == 2
        later: list[int] = []
        another = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        another.start()
        another.join()
        assert later == [2]
        thread.close()
    finally:
        torch.set_num_threads(before)


def test_a_lack_of_memory_is_named(thread, woken, caplog):
    def load(tell):
        raise MemoryError

    thread.put("a", load)
    read = result(thread, woken)
    assert isinstance(read.error, OutOfMemory)
    assert (read.value, read.pinned) == (None, "a")


def test_what_is_dropped_before_its_turn_is_not_begun(thread, woken):
    gate, begun = threading.Event(), []
    thread.put("a", lambda tell: gate.wait(20))
    thread.put("b", lambda tell: begun.append("b"))
    thread.drop("b")
    assert thread.shares() == {"a": 0.0, "b": 0.0}
    gate.set()
    assert result(thread, woken).value is True
    assert isinstance(result(thread, woken).error, Cancelled)
    assert begun == []
    thread.put("b", lambda tell: begun.append("b"))  # wanted again
    assert result(thread, woken).error is None
    assert begun == ["b"]


def test_closing_ends_a_load_where_it_tells_how_far_it_is(woken):
    thread: LoadThread[object] = LoadThread(woken.release, lambda: 0.0)
    begun, closing = threading.Event(), threading.Event()

    def load(tell):
        begun.set()
        assert closing.wait(20)
        while True:
            tell(0.5)

    thread.put("a", load)
    assert begun.wait(20)
    closer = threading.Thread(target=thread.close)
    closer.start()
    closing.set()
    closer.join(20)
    assert not closer.is_alive()


def test_it_wakes_when_it_was_told_to(thread, woken):
    thread.remind(3600.0)
    assert not woken.acquire(blocking=False)
    thread.remind(0.0)
    assert woken.acquire(timeout=20)
    thread.put("a", lambda tell: 1)
    assert result(thread, woken).value == 1
