from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from services.modelserver.engine.protocol import ModelBroken, OutOfMemory, Tier
from services.modelserver.engine.residency import Loaded, LoadFailed
from services.modelserver.options import ModelOptions
from tests.unit.services.modelserver.engine.resident_models import Place, own_weight, pinned

SIZES = {"a": 100, "b": 100, "c": 100, "d": 100, "large": 240, "huge": 400}


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path, SIZES)
    yield made
    made.residency.close()
    assert made.memory.registered == set(), "host memory freed while it was registered"


def failures(place: Place) -> list[tuple[str, str]]:
    return [(change.pinned, str(change.error)) for change in place.changes if isinstance(change, LoadFailed)]


def test_a_wanted_model_comes_from_disk_and_tells_how_far_it_is(place):
    end = place.loader.hold("a")
    place.want("a")
    assert place.woken.is_set()
    place.woken.clear()
    place.want("a")
    assert not place.woken.is_set(), "an engine that asks at every tick must not be woken by its own question"
    assert place.advance() == []
    assert place.loader.under_way.wait(10)
    assert place.residency.progress() == {"a@1": 0.5}
    assert place.tiers() == {}
    place.now_s = 8.0
    end.set()
    place.until(lambda: place.draws("a"))
    assert place.residency.progress() == {}
    (loaded,) = place.changes
    assert (loaded.pinned, loaded.tier, loaded.read_s) == ("a@1", Tier.VRAM, 8.0)
    assert loaded.end_s - loaded.start_s == 8.0
    assert place.loader.loaded == ["a"]


def test_the_one_used_longest_ago_leaves_for_the_host_and_comes_back_from_there(place):
    place.bring("a", "b", "c")
    place.now_s = 60.0
    assert place.draws("a")
    place.now_s = 120.0
    for name in "bcd":
        place.want(name)  # all as often as each other
    place.now_s = 121.0
    place.residency.on_device("c@1")
    place.residency.on_device("a@1")
    place.residency.hint({})
    place.until(lambda: place.draws("d"))
    left = ({"a", "b", "c"} - place.in_vram()).pop()
    assert place.tiers() == {**dict.fromkeys("abcd", "vram"), left: "ram"}
    assert torch.equal(place.weight(left), own_weight(left, 100))
    place.now_s = 200.0
    place.bring(left)
    assert place.loader.loaded == ["a", "b", "c", "d"]
    assert place.changes[-1].read_s == 0.0


def test_a_model_that_draws_stays_and_is_asked_to_finish(place):
    place.bring("a", "b", "c")
    place.now_s = 60.0
    place.want("large")
    place.until(lambda: place.tiers().get("large") == "ram", busy="abc")  # it is read meanwhile
    assert place.in_vram() == {"a", "b", "c"}
    assert place.blocked_by("large") == {"a", "b", "c"}
    place.advance(busy="c")
    assert place.blocked_by("large") == {"c"}
    assert place.in_vram() == {"a", "b", "c"}
    place.advance()
    assert place.in_vram() == {"large"}
    assert place.blocked_by("large") == set()


def test_the_choice_of_who_must_finish_stands(place):
    place.bring("a", "b", "c")
    place.now_s = 60.0
    place.want("d")
    place.until(lambda: place.tiers().get("d") == "ram", busy="abc")
    (leaving,) = place.blocked_by("d")
    place.residency.hint({f"{leaving}@1": 0.0}, complete_for_s=1000.0)  # now it would be the last to be chosen
    place.advance(busy="abc", waiting=leaving)
    assert place.blocked_by("d") == {leaving}
    idle = min({"a", "b", "c"} - {leaving})
    place.advance(busy={"a", "b", "c"} - {idle})
    assert place.in_vram() == {"a", "b", "c", "d"} - {idle}  # somebody idle made it needless


def test_nobody_behind_takes_the_room_that_another_waits_for(place):
    place.bring("a", "b")
    place.now_s = 60.0
    place.want("large", "c")
    place.until(lambda: {"large", "c"} <= place.tiers().keys(), busy="ab")
    assert place.blocked_by("large") == place.blocked_by("c") == place.blocked_by("d") | {"a", "b"}
    assert place.in_vram() == {"a", "b"}, "100 bytes are free, and large needs them"
    place.advance()
    assert place.draws("large")
    place.now_s = 120.0
    place.advance()
    assert place.draws("c")


def test_who_came_in_has_its_turn_before_it_is_asked_to_finish(place):
    place.bring("large")
    place.want("a")
    place.until(lambda: place.tiers().get("a") == "ram", busy=["large"])
    assert place.blocked_by("a") == set()
    place.now_s = 4.9
    place.advance(busy=["large"])
    assert place.blocked_by("a") == set()
    place.now_s = 5.1
    place.advance(busy=["large"])
    assert place.blocked_by("a") == {"large"}


def test_a_turn_ends_when_nobody_wants_it(place):
    place.bring("large")
    place.advance(busy=["large"])
    place.want("a")
    place.until(lambda: place.draws("a"))
    assert place.in_vram() == {"a"}


def test_a_long_swap_earns_a_long_turn(place):
    place.memory.arrives = False
    place.want("large")
    place.until(lambda: place.tiers().get("large") == "ram", busy=["x"])
    place.now_s = 20.0
    place.advance()  # nothing draws any more, so it waits for the copy
    assert place.draws("large")
    place.want("a")
    place.now_s = 79.0
    place.advance(busy=["large"])
    place.until(lambda: place.tiers().get("a") == "ram", busy=["large"])
    assert place.blocked_by("a") == set()
    place.now_s = 81.0
    place.advance(busy=["large"])
    assert place.blocked_by("a") == {"large"}


def test_a_copy_under_way_stalls_nobody_and_is_not_drawn_with(place):
    place.bring("a")
    place.memory.arrives = False
    place.want("b")
    place.until(lambda: len(place.memory.copies) == 2, busy="a")
    assert not place.draws("b")
    assert place.tiers() == {"a": "vram", "b": "ram"}
    place.memory.arrives = True
    place.advance(busy="a")
    assert place.draws("b")


def test_a_failed_load_is_told_once_and_can_be_tried_again(place):
    place.loader.errors["a"] = ModelBroken("it does not load: OSError")
    place.want("a")
    place.until(lambda: bool(place.changes))
    assert failures(place) == [("a@1", "it does not load: OSError")]
    place.advance()
    assert place.tiers() == {}
    place.bring("a")
    assert len(failures(place)) == 1


def test_a_fault_of_a_library_fails_the_load_and_not_the_thread(place, caplog):
    place.loader.errors["a"] = ZeroDivisionError("oh")
    place.want("a", "b")
    place.until(lambda: place.draws("b"))
    assert failures(place) == [("a@1", "oh")]
    assert "load failed unexpectedly" in caplog.text


def test_a_model_that_can_never_fit_is_refused_unread_naming_both_numbers(place):
    place.want("huge", "a")
    place.until(lambda: place.draws("a"))
    assert failures(place) == [("huge@1", "it needs 400 bytes and the budget is 300 bytes")]
    assert place.loader.loaded == ["a"]


def test_one_that_turns_out_too_large_is_let_go(place):
    place.loader.sizes["a"] = 320
    place.want("a")
    place.until(lambda: bool(place.changes))
    assert failures(place) == [("a@1", "it needs 320 bytes and the budget is 300 bytes")]
    assert place.tiers() == {}
    assert place.weight("a").numel() == 0


def test_when_the_device_is_fuller_than_thought_idle_models_leave_and_it_is_tried_again(place):
    place.bring("a", "b")
    place.now_s = 60.0
    place.memory.room_bytes = 0

    def give_room():
        place.memory.room_bytes = math.inf

    place.device.on_release = give_room
    place.want("c")
    place.until(lambda: place.draws("c"), busy="b")
    assert place.tiers() == {"a": "ram", "b": "vram", "c": "vram"}


def test_when_that_does_not_help_it_stays_on_the_host_and_its_requests_hear_of_it(place):
    place.memory.room_bytes = 0
    place.want("a")
    place.until(lambda: bool(place.changes))
    (failed,) = place.changes
    assert isinstance(failed.error, OutOfMemory)
    assert place.tiers() == {"a": "ram"}
    place.memory.room_bytes = math.inf
    place.bring("a")
    assert place.loader.loaded == ["a"]


def test_the_hosts_budget_is_kept_too(tmp_path):
    place = Place(tmp_path, SIZES, budget=100, host=200)
    place.bring("a")
    place.now_s = 60.0
    place.bring("b")
    place.now_s = 120.0
    place.want("b")  # of the two on the host a is asked for less
    place.bring("c")
    assert place.tiers() == {"b": "ram", "c": "vram"}
    assert len(place.memory.registered) == 2
    place.residency.close()


def test_what_waits_for_the_device_is_not_dropped_for_what_comes_behind(tmp_path):
    place = Place(tmp_path, SIZES, budget=100, host=200)
    place.bring("a")
    place.want("b", "c", "d")
    place.until(lambda: {"b", "c"} <= place.tiers().keys(), busy="a")
    for _ in range(3):
        place.advance(busy="a")
    assert place.tiers() == {"a": "vram", "b": "ram", "c": "ram"}
    assert place.residency.progress() == {}, "d has no room before b or c is on the device"
    place.residency.close()


def test_the_hosts_copy_stays_while_it_is_copied(tmp_path):
    place = Place(tmp_path, SIZES, budget=300, host=100)
    place.memory.arrives = False
    place.want("a")
    place.until(lambda: len(place.memory.copies) == 1, busy="x")
    place.want("b", tier=Tier.RAM)
    place.advance(busy="x")
    assert place.tiers() == {"a": "ram"}
    place.memory.arrives = True
    place.until(lambda: "b" in place.tiers(), busy="x")
    assert place.tiers() == {"a": "vram", "b": "ram"}
    place.residency.close()


def test_a_model_larger_than_the_hosts_budget_passes_through_it(tmp_path):
    place = Place(tmp_path, SIZES, budget=300, host=150)
    place.bring("large")
    assert place.memory.registered == set()
    assert torch.equal(place.weight("large"), own_weight("large", 240))
    place.now_s = 60.0
    place.want("large", tier=Tier.RAM)  # it is better off already
    place.bring("a")
    assert place.tiers() == {"a": "vram"}
    place.want("large", tier=Tier.RAM)
    place.advance()
    assert failures(place) == [("large@1", "it needs 240 bytes and the budget is 150 bytes")]
    place.residency.close()


def test_a_preload_into_ram_does_not_touch_the_device(place):
    place.bring("a", "b", "c")
    place.want("d", tier=Tier.RAM)
    place.until(lambda: isinstance(place.changes[-1], Loaded) and place.changes[-1].pinned == "d@1", busy="abc")
    assert place.changes[-1].tier is Tier.RAM
    assert place.tiers() == {"a": "vram", "b": "vram", "c": "vram", "d": "ram"}
    assert not place.residency._wants


def test_idle_models_leave_the_device_and_later_the_host(tmp_path):
    place = Place(tmp_path, SIZES, idle_s=60.0)
    place.bring("a", "b", "c")
    place.residency.keep(pinned("c"))
    place.now_s = 61.0
    place.advance(busy="b")
    assert place.tiers() == {"a": "ram", "b": "vram", "c": "vram"}
    place.now_s = 120.0
    place.advance()
    assert place.tiers() == {"a": "ram", "b": "vram", "c": "vram"}
    place.now_s = 122.0
    place.advance()
    assert place.tiers() == {"b": "ram", "c": "vram"}
    place.residency.close()


def test_a_model_may_have_an_idle_time_of_its_own(place):
    place.folders["a"] = replace(place.folders["a"], options=ModelOptions(idle_s=10.0))
    place.bring("a", "b")
    place.now_s = 10.0
    place.advance()
    assert place.tiers() == {"a": "ram", "b": "vram"}


def test_pinned_models_leave_only_when_told(place):
    place.bring("a", "b", "c")
    place.now_s = 60.0
    place.residency.keep(pinned("abc"))
    place.want("d")
    place.until(lambda: bool(failures(place)))
    assert "300 of them held by pinned models" in failures(place)[0][1]
    assert place.residency.evict("a@1", busy=())
    assert place.tiers() == {"b": "vram", "c": "vram", "d": "ram"}


def test_the_schedulers_word_overrides_what_was_counted(place):
    place.bring("a", "b", "c")
    place.now_s = 60.0
    place.residency.on_device("b@1")
    place.residency.hint({"a@1": 30.0, "b@1": math.inf, "c@1": 500.0})
    place.want("d")
    place.until(lambda: place.draws("d"))
    assert place.tiers()["b"] == "ram"


def test_a_model_that_draws_or_is_not_here_cannot_be_evicted(place):
    place.bring("a")
    assert not place.residency.evict("a@1", busy={"a@1"})
    assert not place.residency.evict("b@1", busy=())
    assert place.residency.evict("a@1", busy=())
    assert place.tiers() == {}
    place.bring("a")
    assert place.loader.loaded == ["a", "a"]


def test_evicted_while_it_is_read_nothing_comes_of_it_until_wanted_again(place):
    end = place.loader.hold("a")
    place.want("a")
    place.advance()
    assert place.loader.under_way.wait(10)
    assert place.residency.evict("a@1", busy=())
    assert not place.residency.evict("a@1", busy=())
    place.want("b")
    end.set()
    place.until(lambda: place.draws("b"))
    assert place.tiers() == {"b": "vram"}
    assert failures(place) == []
    assert place.loader.loaded == ["b"]
    place.bring("a")


def test_a_want_taken_back_before_its_turn_brings_nothing(place):
    place.want("a")
    place.residency.unwant("a@1")
    place.bring("b")
    assert place.loader.loaded == ["b"]


def test_on_a_device_without_memory_of_its_own_there_is_one_tier_and_nothing_is_copied(tmp_path):
    place = Place(tmp_path, SIZES, host=0)
    place.memory.own = False
    place.want("a", tier=Tier.RAM)
    place.until(lambda: place.draws("a"))
    place.bring("b", "c")
    assert place.memory.copies == []
    place.now_s = 60.0
    place.want("large")
    place.advance(busy="ab")
    assert place.blocked_by("large") == {"a", "b"}
    assert place.in_vram() == {"a", "b", "c"}
    place.until(lambda: place.draws("large"))
    assert place.tiers() == {"large": "vram"}
    assert place.weight("a").numel() == 0
    place.residency.close()
