"""Device time ⇄ the wire."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from libs.errors import InvalidRequest, Violation, listed
from libs.ids import WorkerId
from services.scheduler.devices.book import DeviceCosts, WorkerDay, day_of

_EPOCH = date(1970, 1, 1)
_USUAL_DAYS = 30


def days_from_pb(message: pb.GetDeviceTimeRequest, now: float) -> tuple[int, int]:
    """Return the first and last day, in days since 1970. Raises InvalidRequest."""
    problems: list[Violation] = []
    to_day = _day("to_day", message.to_day, day_of(now), problems)
    from_day = _day("from_day", message.from_day, to_day - _USUAL_DAYS, problems)
    if problems:
        raise InvalidRequest(f"These days cannot be read: {listed(problems)}.", violations=problems)
    return from_day, min(to_day, day_of(now))


def days_to_pb(
    days: Iterable[tuple[int, Mapping[WorkerId, WorkerDay]]], costs: DeviceCosts
) -> pb.GetDeviceTimeResponse:
    """Return device time as it travels, by day and worker."""
    told = [
        pb.DeviceDay(
            day=(_EPOCH + timedelta(days=day)).isoformat(),
            worker_id=worker_id,
            device=spent.device,
            **dataclasses.asdict(spent.time),
        )
        for day, workers in days
        for worker_id, spent in sorted(workers.items())
    ]
    return pb.GetDeviceTimeResponse(days=told, hour_cost=costs.hour, device_kw=costs.kw, kwh_cost=costs.kwh)


def _day(name: str, text: str, otherwise: int, problems: list[Violation]) -> int:
    if not text:
        return otherwise
    try:
        return (date.fromisoformat(text) - _EPOCH).days
    except ValueError:
        problems.append(Violation(name, "must be a day like 2026-11-21"))
        return otherwise
