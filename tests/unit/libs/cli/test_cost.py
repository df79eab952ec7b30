"""What pictures cost, from the devices' time and usage."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from libs.cli import cost, cost_report
from libs.cli.cost_report import DeviceUse, Rates
from libs.cli.target import Target
from libs.clients.device_state import DeviceTime
from libs.clients.limiter_usage import UsageFilter, UsageRecord
from libs.clients.scheduler_devices import DeviceDay, DeviceTimes
from libs.ids import KeyId, TenantId, WorkerId

HOUR_MS = 3_600_000.0


def line(model: str, gpu_h: float, images: int, succeeded_h: float | None = None) -> UsageRecord:
    done = gpu_h if succeeded_h is None else succeeded_h
    counts = (1, 1, 0, 0, 0, images)
    return UsageRecord(
        "", TenantId(""), KeyId(""), model, *counts, gpu_h * HOUR_MS, 0.0, 0.0, 0, succeeded_gpu_ms=done * HOUR_MS
    )


def test_every_hour_is_told_once_and_paid_once() -> None:
    time = DeviceTime(5 * HOUR_MS, 1 * HOUR_MS, 4 * HOUR_MS, failed_ms=0.75 * HOUR_MS, stopped_ms=0.25 * HOUR_MS)
    lines = [line("a@1", 3.0, 60, succeeded_h=2.5), line("b@1", 1.0, 40, succeeded_h=0.5)]
    uses = cost_report.uses(time, lines, Rates(hour=2.0, kw=0.5, kwh=0.4))
    assert [(use.hours, round(use.cost, 6)) for use in uses] == [
        (3.0, 6.6),
        (0.75, 1.65),
        (0.25, 0.55),
        (1.0, 2.2),
        (1.0, 2.2),
        (4.0, 8.8),
        (10.0, 22.0),
    ]


def test_each_device_and_day_has_what_was_in_vain() -> None:
    time = DeviceTime(3 * HOUR_MS, 1 * HOUR_MS, 4 * HOUR_MS, failed_ms=2 * HOUR_MS, stopped_ms=HOUR_MS / 2)
    days = [DeviceDay(day, WorkerId(w), "gpu", time) for day in ("2026-11-20", "2026-11-21") for w in "ab"]
    devices = cost_report.of_devices(days[:3], Rates(hour=2.0))
    assert devices[1] == DeviceUse("2026-11-20", WorkerId("b"), "gpu", 3.0, 2.0, 0.5, 1.0, 4.0, 16.0)
    together = DeviceUse("2026-11-20", WorkerId(""), "", 6.0, 4.0, 1.0, 2.0, 8.0, 32.0)
    assert cost_report.by_day(devices) == [together, replace(devices[2], worker_id=WorkerId(""), device="")]


def test_the_cost_of_all_time_is_laid_on_what_was_drawn() -> None:
    lines = [line("a@1", 3.0, 60), line("b@1", 1.0, 0)]
    first, second = cost_report.parts(lines, ["model_version"], 22.0, Rates(hour=2.2))
    assert (first.part, first.own_cost, first.full_cost) == (("a@1",), pytest.approx(6.6), 16.5)
    assert first.per_image == pytest.approx(0.275)
    assert (second.full_cost, second.per_image) == (5.5, None)
    assert cost_report.parts([line("a@1", 0.0, 1)], ["model_version"], 22.0, Rates())[0].full_cost == 0.0


async def test_the_command_asks_both_and_tells_one(monkeypatch, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
    asked: list[UsageFilter] = []

    class Usage:
        def __init__(self, _channel: object) -> None:
            pass

        async def read(self, wanted: UsageFilter):
            asked.append(wanted)
            yield line("a@1", 1.0, 10, succeeded_h=0.5)

    async def times(_channel: object, _from_day: str, _to_day: str) -> DeviceTimes:
        time = DeviceTime(1 * HOUR_MS, 0.0, 1 * HOUR_MS, failed_ms=0.5 * HOUR_MS)
        return DeviceTimes([DeviceDay("2026-11-20", WorkerId("w"), "gpu", time)], 1.5, 0.0, 0.0)

    @asynccontextmanager
    async def channel(_target: Target, _service: str):
        yield None

    monkeypatch.setattr(cost, "UsageClient", Usage)
    monkeypatch.setattr(cost, "device_times", times)
    monkeypatch.setattr(Target, "admin", channel)
    target = Target(tmp_path, "", "", {})
    await cost._cost(target, UsageFilter(("model",)), (None, None, None), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert [wanted.from_day for wanted in asked] == ["2026-11-20"]  # of other days no device told anything
    assert told["time"][-1] == {"name": "all", "hours": 2.0, "cost": 3.0}
    assert told["devices"] == [
        {"day": "2026-11-20", "worker_id": "w", "device": "gpu", "busy_hours": 1.0, "failed_hours": 0.5}
        | {"stopped_hours": 0.0, "loading_hours": 0.0, "idle_hours": 1.0, "cost": 3.0}
    ]
    assert told["parts"][0]["per_image"] == pytest.approx(0.3)
    await cost._cost(target, UsageFilter(("model",)), (0.0, None, None), as_json=False)
    printed = capsys.readouterr()
    assert "2026-11-20  1.000       0.500" in printed.out
    assert printed.out.splitlines()[-1].split() == ["a@1", "10", "1.000", "0.0000", "0.0000", "0.000000"]
    assert "DARKROOM_COST_PER_DEVICE_HOUR" in printed.err
