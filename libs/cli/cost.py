"""`darkroom cost`: what pictures, tenants, models and days cost, from measured device time (operators only)."""

from __future__ import annotations

import dataclasses
import sys
from functools import reduce
from typing import Annotated

import typer

from libs.cli import cost_report, output
from libs.cli.cost_report import HOURS, DeviceUse, Rates, Use
from libs.cli.target import Target
from libs.cli.usage import COLUMNS, parts_of
from libs.clients.device_state import DeviceTime
from libs.clients.limiter_usage import PARTS, UsageClient, UsageFilter, UsageRecord
from libs.clients.scheduler_devices import DeviceTimes, device_times

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def cost(
    context: typer.Context,
    by: Annotated[str, typer.Option(help=f"One of {', '.join(PARTS)}, or some with commas.")] = "model",
    from_day: Annotated[
        str, typer.Option("--from", help="First day of UTC, like 2026-11-21; empty: 30 days ago.")
    ] = "",
    to_day: Annotated[str, typer.Option("--to", help="Last day of UTC; empty: today.")] = "",
    hour: Annotated[
        float | None, typer.Option(help="Cost of a device-hour; else as the scheduler's settings say.")
    ] = None,
    kw: Annotated[float | None, typer.Option(help="Kilowatts of a device; else as the settings say.")] = None,
    kwh: Annotated[float | None, typer.Option(help="Cost of a kilowatt-hour; else as the settings say.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what the devices' time cost, and what that makes for a picture: idle, loading and failed work included."""
    wanted = UsageFilter(parts_of(by, least=1), "", "", "", from_day, to_day)
    output.run(_cost(context.obj, wanted, (hour, kw, kwh), as_json))


async def _cost(
    target: Target, wanted: UsageFilter, said: tuple[float | None, float | None, float | None], as_json: bool
) -> None:
    async with target.admin("scheduler") as channel:
        devices = await device_times(channel, wanted.from_day, wanted.to_day)
    if devices.days:  # of other days nobody knows what the devices did
        wanted = dataclasses.replace(wanted, from_day=devices.days[0].day, to_day=wanted.to_day)
    async with target.admin("ratelimiter") as channel:
        lines = [line async for line in UsageClient(channel).read(wanted)]
    rates = _rates(devices, said)
    time = reduce(DeviceTime.plus, (day.time for day in devices.days), DeviceTime())
    costs = cost_report.uses(time, lines, rates), cost_report.of_devices(devices.days, rates)
    _print(costs, lines, wanted.by, rates, as_json)


def _rates(devices: DeviceTimes, said: tuple[float | None, float | None, float | None]) -> Rates:
    settings = (devices.hour_cost, devices.device_kw, devices.kwh_cost)
    return Rates(*(setting if one is None else one for one, setting in zip(said, settings, strict=True)))


def _print(
    time: tuple[list[Use], list[DeviceUse]], lines: list[UsageRecord], by: tuple[str, ...], rates: Rates, as_json: bool
) -> None:
    uses, devices = time
    costs = cost_report.parts(lines, [COLUMNS[part] for part in by], uses[-1].cost, rates)
    if as_json:
        told = [output.as_json(one) | {"per_image": one.per_image} for one in costs]
        days = [output.as_json(device) for device in devices]
        output.print_json(
            {
                "rates": output.as_json(rates),
                "time": [output.as_json(use) for use in uses],
                "devices": days,
                "parts": told,
            }
        )
        return
    output.print_table(
        ("time of devices", "hours", "cost"), ((u.name, f"{u.hours:.3f}", f"{u.cost:.4f}") for u in uses)
    )
    sys.stdout.write("\n")
    output.print_table(("day", *(name.replace("_", " ") for name in HOURS)), map(_day_row, cost_report.by_day(devices)))
    rows = (
        (
            *(name or "-" for name in one.part),
            one.images,
            f"{one.gpu_hours:.3f}",
            f"{one.own_cost:.4f}",
            f"{one.full_cost:.4f}",
            "-" if one.per_image is None else f"{one.per_image:.6f}",
        )
        for one in costs
    )
    sys.stdout.write("\n")
    output.print_table((*by, "images", "device h", "own time", "with its share of all", "per image"), rows)
    if not rates.of(1.0):
        sys.stderr.write("An hour of a device costs nothing here: give --hour, or set DARKROOM_COST_PER_DEVICE_HOUR.\n")


def _day_row(day: DeviceUse) -> tuple[str, ...]:
    return day.day, *(f"{getattr(day, name):.3f}" for name in HOURS)
