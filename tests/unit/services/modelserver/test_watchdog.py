"""How long a device may be silent, and that the watchdog says so."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from libs.generation.model import Model
from libs.generation.spec import GenerationSpec
from libs.testing.clock import ManualClock
from services.modelserver.engine.protocol import Request
from services.modelserver.models import ModelFolder
from services.modelserver.options import ModelOptions
from services.modelserver.pulse import FIRST_TIME_S, FLOOR_S, Pulse
from services.modelserver.watchdog import LOOK_EVERY_S, Watchdog, stack_of

SPEC = GenerationSpec("a cat", "", "m", 64, 64, 1, 3, 2.0, 1, "euler")
REQUEST = Request("job_1/1", ModelFolder(Path("m"), Model("m", "1", "P")), SPEC)
COMPILED = Request("job_3/1", ModelFolder(Path("m"), Model("m", "1", "P"), ModelOptions(compile=True)), SPEC)


class Life:
    """A pulse whose time and memory a test moves."""

    def __init__(self):
        self.now_s, self.loaded = 100.0, True
        self.pulse = Pulse(lambda: self.now_s, lambda pinned: self.loaded)

    def draw(self, request=REQUEST, step_s=1.0, ends=True):
        """Draw three steps of a request, each in a tick of its own."""
        self.pulse.began(request)
        for _ in range(3):
            self.pulse.calling(True)
            self.now_s += step_s
            self.pulse.stepped(request.id)
            self.pulse.calling(False)
        if ends:
            self.pulse.ended(request.id, well=True)

    def dead_after_s(self):
        """Return the silence from which on it counts as dead; None when it may last."""
        signs = self.pulse.signs()
        assert not signs.silent_too_long(signs.heard_s + signs.limit_s)
        assert signs.silent_too_long(signs.heard_s + signs.limit_s + 1) is signs.busy
        return signs.limit_s if signs.busy else None


@pytest.fixture
def life():
    return Life()


def test_a_device_without_work_may_be_silent_for_ever(life):
    assert life.dead_after_s() is None
    life.draw()
    assert life.dead_after_s() is None


def test_a_call_that_does_not_return_is_noticed_without_any_request(life):
    life.pulse.calling(True)
    assert life.dead_after_s() == FLOOR_S


def test_what_was_never_drawn_has_the_bound_of_loading_and_compiling(life):
    life.pulse.began(REQUEST)
    assert life.dead_after_s() == FIRST_TIME_S
    life.draw()
    for changes in ({"width": 512}, {"images": 4}, {"guidance_scale": 1.0}):
        other = replace(REQUEST, id="job_2/1", spec=replace(SPEC, **changes))
        life.pulse.began(other)
        assert life.dead_after_s() == FIRST_TIME_S
        life.pulse.ended(other.id, well=False)


def test_what_was_parked_has_the_time_of_loading_again(life):
    life.draw()
    life.draw(ends=False)
    life.pulse.parked(REQUEST.id, True)
    life.loaded = False
    life.pulse.parked(REQUEST.id, False)
    assert life.dead_after_s() == FIRST_TIME_S


def test_compiling_is_no_silence_while_a_request_has_not_stepped(life):
    life.draw(COMPILED)
    life.pulse.began(COMPILED)
    assert life.dead_after_s() == FIRST_TIME_S
    life.pulse.stepped(COMPILED.id)
    assert life.dead_after_s() == FLOOR_S


@pytest.mark.parametrize("by_request", [True, False])
def test_a_model_that_comes_is_compiled_in_its_time_although_no_request_waits_for_it(life, by_request):
    life.loaded = False
    life.pulse.calling(True)
    if by_request:
        life.pulse.began(COMPILED)
        life.pulse.ended(COMPILED.id, well=False)
    else:
        life.pulse.coming("m@1")
    life.pulse.calling(False)
    life.pulse.calling(True)
    life.loaded = True  # it is compiled in the rest of this call
    assert life.dead_after_s() == FIRST_TIME_S
    life.pulse.calling(False)
    life.pulse.calling(True)
    assert life.dead_after_s() == FLOOR_S


def test_a_model_that_never_comes_does_not_keep_the_long_bound(life):
    life.loaded = False
    life.pulse.coming("m@1")
    life.now_s += FIRST_TIME_S
    life.pulse.calling(False)
    life.pulse.calling(True)
    assert life.dead_after_s() == FLOOR_S


def test_what_was_drawn_before_has_five_times_its_longest_silence_and_at_least_the_floor(life):
    life.draw(step_s=1.0)
    life.pulse.began(REQUEST)
    assert life.dead_after_s() == FLOOR_S
    life.pulse.ended(REQUEST.id, well=True)
    life.draw(step_s=40.0)
    life.pulse.began(REQUEST)
    assert life.dead_after_s() == 200.0


def test_a_model_that_has_to_be_loaded_again_has_its_time(life):
    life.draw()
    life.loaded = False
    life.pulse.began(REQUEST)
    assert life.dead_after_s() == FIRST_TIME_S
    life.pulse.stepped(REQUEST.id)
    assert life.dead_after_s() == FLOOR_S


def test_nothing_is_expected_of_what_is_parked(life):
    life.draw(ends=False)
    life.pulse.parked(REQUEST.id, True)
    life.now_s += 5000.0
    assert life.dead_after_s() is None
    life.pulse.parked(REQUEST.id, False)
    assert life.dead_after_s() is not None
    assert not life.pulse.signs().silent_too_long(life.now_s)
    life.pulse.ended(REQUEST.id, well=True)
    life.pulse.began(REQUEST)
    assert life.dead_after_s() == FLOOR_S  # the time in the park was no silence


async def test_the_watchdog_says_so_once_it_is_silent_for_too_long_and_not_before():
    clock, kept_off = ManualClock(), []
    pulse = Pulse(clock.monotonic, lambda _pinned: True)
    watching = asyncio.create_task(Watchdog(pulse, clock, kept_off.append).run())
    pulse.calling(True)
    await clock.advance(FLOOR_S)
    assert not watching.done()
    await clock.advance(2 * LOOK_EVERY_S)
    assert "61 s" in await watching
    assert len(kept_off) >= FLOOR_S / LOOK_EVERY_S


def test_where_a_thread_stands_is_told():
    go_on = threading.Event()
    thread = threading.Thread(target=go_on.wait)
    thread.start()
    assert "wait" in stack_of(thread)
    go_on.set()
    thread.join()
    assert stack_of(thread) == ""


def test_a_process_that_stands_still_ends_itself_although_nothing_can_run_in_it():
    stuck = (
        "import ctypes\n"
        "from services.modelserver import watchdog\n"
        "watchdog.end_process_after(0.2)\n"
        "ctypes.PyDLL(None).pause()\n"  # waits with the interpreter's lock in its hand
    )
    ended = subprocess.run([sys.executable, "-c", stuck], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
