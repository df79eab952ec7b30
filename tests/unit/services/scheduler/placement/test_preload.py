from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.ids import WorkerId
from services.scheduler.placement.preload import Device, Load, Outlook, plan
from tests.unit.services.scheduler.fakes import record

MODELS = ("a@1", "b@1", "c@1", "d@1")
LOAD_S = 10.0


def device(name: str = "w0", *resident: str, **changes: Any) -> Device:
    fields: dict[str, Any] = {"spare_bytes": 0.0, "free_rows": 0}
    return Device(record(name, models=MODELS, resident=resident), **{**fields, **changes})


def outlook(chances: dict[str, float] | None = None, **changes: Any) -> Outlook:
    fields: dict[str, Any] = {
        "queued_s": {},
        "likelihood": lambda model: (chances or {}).get(model, 0.0),
        "load_s": lambda model, worker: LOAD_S,
        "bytes_of": dict.fromkeys(MODELS, 1.0),
        "expected": tuple(chances or ()),
    }
    return Outlook(**{**fields, **changes})


def told(loads: list[Load]) -> list[tuple[WorkerId, str, tuple[str, ...]]]:
    return [(load.worker.worker_id, load.model, load.evict) for load in loads]


def test_a_model_that_jobs_wait_for_comes_beside_one_that_draws() -> None:
    busy = device("w0", "a@1", "b@1", busy=("a@1",))
    assert told(plan([busy], outlook(queued_s={"c@1": 5.0}))) == [("w0", "c@1", ("b@1",))]
    assert plan([busy], outlook(queued_s={"c@1": 5.0, "b@1": 1.0})) == [], "jobs wait for the only one that could leave"
    assert plan([device("w0", "a@1", busy=("a@1",))], outlook(queued_s={"c@1": 5.0})) == []


def test_the_one_that_is_needed_first_comes_first() -> None:
    waits = {"c@1": 50.0, "d@1": 5.0}
    busy = device("w0", "a@1", "b@1", busy=("a@1",))
    assert told(plan([busy], outlook(queued_s=waits))) == [("w0", "c@1", ("b@1",))]
    assert told(plan([busy], outlook(queued_s=waits, next_cold="d@1"))) == [("w0", "d@1", ("b@1",))]


def test_what_is_only_likely_comes_where_nobody_is_in_the_way() -> None:
    chances = {"a@1": 0.1, "c@1": 0.9}
    assert told(plan([device("w0", "a@1")], outlook(chances))) == [("w0", "c@1", ("a@1",))]
    assert plan([device("w0", "a@1", "b@1", busy=("b@1",))], outlook(chances)) == []
    assert told(plan([device("w0", "a@1", busy=("a@1",), spare_bytes=1.0)], outlook(chances))) == [("w0", "c@1", ())]


def test_nearly_equal_models_do_not_push_each_other_out() -> None:
    assert plan([device("w0", "a@1")], outlook({"a@1": 0.8, "c@1": 0.9})) == []
    assert plan([device("w0", "a@1")], outlook({"a@1": 0.0, "c@1": 0.05})) == [], "hardly worth the load"
    assert told(plan([device("w0", "a@1"), device("w1", "a@1")], outlook({"a@1": 0.8, "c@1": 0.4}))) == [
        ("w1", "c@1", ("a@1",))
    ], "its twin stays"


def test_what_is_next_comes_in_time_for_the_one_that_is_needed_last() -> None:
    waits = {"a@1": 50.0, "b@1": 9.0, "c@1": 5.0, "d@1": 5.0}
    soon = outlook(queued_s=waits, turns=lambda: {"a@1": 0.0, "d@1": 3.0, "b@1": 8.0}, next_cold="d@1")
    full = device("w0", "a@1", "b@1", "c@1", busy=("a@1",), wait_s=2 * LOAD_S, next_cold="d@1")
    assert told(plan([full], soon)) == [("w0", "d@1", ("c@1",))], "nobody knows when c is needed: not for long"
    assert told(plan([replace(full, pinned=("c@1",))], soon)) == [("w0", "d@1", ("b@1",))]
    assert plan([replace(full, pinned=("b@1", "c@1"))], soon) == [], "nobody leaves who draws or is pinned"
    assert plan([replace(full, wait_s=2 * LOAD_S + 1)], soon) == [], "it would be there too early"
    assert plan([replace(full, next_cold="")], soon) == [], "something else is next there"


def test_beside_work_nothing_comes_by_a_guess_that_is_not_nearly_certain() -> None:
    spare = device("w0", "a@1", busy=("a@1",), spare_bytes=1.0)
    assert plan([spare], outlook({"c@1": 0.89})) == []
    assert told(plan([replace(spare, busy=())], outlook({"c@1": 0.89}))) == [("w0", "c@1", ())]


def test_one_load_at_a_time() -> None:
    chances = {"c@1": 0.9, "d@1": 0.8}
    assert told(plan([device("w0", spare_bytes=4.0)], outlook(chances))) == [("w0", "c@1", ())]
    assert plan([device("w0", spare_bytes=4.0, loading=True)], outlook(chances)) == []


def test_a_pinned_model_comes_back_and_never_leaves() -> None:
    pinned = device("w0", "a@1", "b@1", pinned=("c@1", "a@1"))
    assert told(plan([pinned], outlook({"a@1": 0.0, "b@1": 1.0}))) == [("w0", "c@1", ("b@1",))]
    assert plan([device("w0", "a@1", pinned=("a@1",))], outlook({"c@1": 1.0})) == []


def test_another_replica_when_waiting_takes_longer_than_loading() -> None:
    warm, cold = device("w0", "a@1", busy=("a@1",)), device("w1", "b@1")
    assert plan([warm, cold], outlook(queued_s={"a@1": LOAD_S})) == []
    assert told(plan([warm, cold], outlook(queued_s={"a@1": LOAD_S + 1}))) == [("w1", "a@1", ("b@1",))]
    late = device("w1", "b@1", "c@1", busy=("c@1",), wait_s=5.0)
    assert plan([warm, late], outlook(queued_s={"a@1": LOAD_S + 5})) == []
    assert told(plan([warm, late], outlook(queued_s={"a@1": LOAD_S + 6}))) == [("w1", "a@1", ("b@1",))]


SETS = st.frozensets(st.sampled_from(MODELS))
DEVICES = st.lists(
    st.builds(
        lambda resident, busy, pinned, spare, loading: device(
            "w0", *sorted(resident | busy), busy=busy, pinned=pinned, spare_bytes=float(spare), loading=loading
        ),
        SETS,
        SETS,
        SETS,
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=4,
)


@given(
    DEVICES,
    st.dictionaries(st.sampled_from(MODELS), st.floats(0, 1)),
    st.dictionaries(st.sampled_from(MODELS), st.floats(0.1, 99)),
)
def test_nobody_leaves_who_is_needed(
    devices: list[Device], chances: dict[str, float], queued_s: dict[str, float]
) -> None:
    named = [Device(**{**fields_of(each), "record": renamed(each, index)}) for index, each in enumerate(devices)]
    loads = plan(named, outlook(chances, queued_s=queued_s))
    by_name = {each.record.worker_id: each for each in named}
    assert len({load.worker.worker_id for load in loads}) == len(loads), "two loads on one device"
    for load in loads:
        there = by_name[load.worker.worker_id]
        kept = {*there.busy, *there.pinned, *queued_s}
        assert not kept & set(load.evict)
        assert set(load.evict) <= set(there.record.resident)
        assert load.model not in there.record.resident
        assert not there.loading
        assert there.spare_bytes + len(load.evict) >= 1.0, "it does not fit"


def fields_of(device: Device) -> dict[str, Any]:
    return {name: getattr(device, name) for name in Device.__dataclass_fields__}


def renamed(device: Device, index: int) -> Any:
    return record(f"w{index}", models=MODELS, resident=device.record.resident)
