"""The worker record and its JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from libs.fleet.model_rows import ModelRows
from libs.fleet.record import BadRecord, WorkerRecord
from libs.ids import WorkerId

RECORD = WorkerRecord(
    worker_id=WorkerId("modelserver-0"),
    incarnation="i1",
    address="127.0.0.1:20001",
    device="cpu",
    memory_bytes=8 << 30,
    models=("shapes@1", "other@2"),
    resident=("shapes@1",),
    rows=4,
    rows_in_use=1,
    started_at=1_700_000_000.5,
    draining=True,
)
TELLING = replace(
    RECORD,
    residency=(("shapes@1", "vram"), ("other@2", "ram")),
    load_share=0.5,
    step_table_version=7,
    utilisation_ratio=0.37,
    memory_used_bytes=1000,
    temperature_celsius=61.0,
    power_watts=250.5,
    throttle=("sw_power_cap",),
    memory_free_bytes=5 << 30,
    model_rows=(ModelRows("shapes@1", 3, (("512x768", 8), ("512x768x16", 2))), ModelRows("other@2", 0, ())),
)


def changed(**values: object) -> bytes:
    return json.dumps({**json.loads(RECORD.to_json()), **values}).encode()


def test_it_comes_back_as_it_was_stored() -> None:
    assert WorkerRecord.from_json(RECORD.to_json()) == RECORD
    assert WorkerRecord.from_json(TELLING.to_json()) == TELLING
    assert RECORD.key == "/darkroom/workers/modelserver-0"


def test_fields_of_a_newer_version_are_ignored() -> None:
    assert WorkerRecord.from_json(changed(step_time_table=3)) == RECORD


def test_a_record_of_an_older_version_is_read() -> None:
    stored = json.loads(RECORD.to_json())
    later = {"residency", "load_share", "step_table_version", "utilisation_ratio", "throttle", "power_watts"}
    later |= {"memory_free_bytes", "model_rows"}
    assert WorkerRecord.from_json(json.dumps({k: v for k, v in stored.items() if k not in later}).encode()) == RECORD


@pytest.mark.parametrize(
    "odd",
    [
        {"residency": [["shapes@1"]]},
        {"residency": {"shapes@1": "vram"}},
        {"load_share": "half"},
        {"step_table_version": -1},
        {"utilisation_ratio": float("nan")},
        {"memory_used_bytes": 1.5},
        {"temperature_celsius": True},
        {"power_watts": []},
        {"throttle": "sw_power_cap"},
        {"memory_free_bytes": -1},
        {"model_rows": {}},
        {"model_rows": [["shapes@1", 3, []]]},
        {"model_rows": [{"model": "shapes@1", "in_use": 3}]},
        {"model_rows": [{"model": "shapes@1", "in_use": -3, "most": []}]},
        {"model_rows": [{"model": "shapes@1", "in_use": 3, "most": [["512x512"]]}]},
        {"model_rows": [{"model": "shapes@1", "in_use": 3, "most": [["512x512", 1.5]]}]},
    ],
)
def test_what_came_later_may_be_odd(odd: dict[str, object]) -> None:
    assert WorkerRecord.from_json(changed(**odd)) == RECORD


@pytest.mark.parametrize(
    ("stored", "cause"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 2000, "not JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "worker_id"),
        (changed(worker_id=""), "worker_id"),
        (changed(address=7), "address"),
        (changed(models="shapes@1"), "models"),
        (changed(resident=[1]), "resident"),
        (changed(rows=-1), "rows"),
        (changed(rows_in_use=True), "rows_in_use"),
        (changed(memory_bytes=1.5), "memory_bytes"),
        (changed(started_at=float("nan")), "started_at"),
        (changed(started_at=None), "started_at"),
        (changed(more="x" * 16384), "16384"),
    ],
)
def test_a_bad_record_names_its_fault(stored: bytes, cause: str) -> None:
    with pytest.raises(BadRecord, match=cause):
        WorkerRecord.from_json(stored)


def test_a_record_too_large_is_not_written() -> None:
    with pytest.raises(BadRecord, match="modelserver-0"):
        replace(RECORD, models=tuple(f"model-{number}@1.0.0" for number in range(2000))).to_json()


def test_a_worker_with_a_large_shelf_fits() -> None:
    shelf = tuple(f"stable-diffusion-xl-refiner-{number}.0@0123456789ab" for number in range(200))
    assert WorkerRecord.from_json(replace(RECORD, models=shelf).to_json()).models == shelf
