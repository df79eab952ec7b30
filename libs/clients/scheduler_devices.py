"""What the devices' time went into, as operators read it; the channel carries the operator token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from darkroom.scheduler.v1 import admin_service_pb2 as pb
from darkroom.scheduler.v1 import admin_service_pb2_grpc as rpc
from libs.clients.device_state import DeviceTime
from libs.ids import WorkerId
from libs.rpc import deadlines
from libs.rpc.status import translated


@dataclass(frozen=True, slots=True)
class DeviceDay:
    """One device in one day of UTC, like `2026-11-21`."""

    day: str
    worker_id: WorkerId
    device: str
    time: DeviceTime


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """Devices by day and worker; what an hour costs, the kilowatts of a device and what a kilowatt-hour costs."""

    days: Sequence[DeviceDay]
    hour_cost: float
    device_kw: float
    kwh_cost: float


async def device_times(channel: grpc.aio.Channel, from_day: str, to_day: str) -> DeviceTimes:
    """Return device time of days like `2026-11-21`, both included; empty: the last 30. Raises InvalidRequest."""
    stub: rpc.AdminServiceAsyncStub = rpc.AdminServiceStub(channel)
    request = pb.GetDeviceTimeRequest(from_day=from_day, to_day=to_day)
    with translated("scheduler"):
        answer = await stub.GetDeviceTime(request, timeout=deadlines.ADMIN_S)
    days = [
        DeviceDay(
            day.day,
            WorkerId(day.worker_id),
            day.device,
            DeviceTime(day.busy_ms, day.loading_ms, day.idle_ms, day.failed_ms, day.stopped_ms),
        )
        for day in answer.days
    ]
    return DeviceTimes(days, answer.hour_cost, answer.device_kw, answer.kwh_cost)
