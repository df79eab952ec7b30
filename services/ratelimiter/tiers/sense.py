"""Whether the limits of one tier go together: what it allows in one request must be what it can grant. Pure.

The largest request is one picture of `max_pixels` at `max_steps` with guidance, at the prior price. Tiers that leave
either out allow what the models allow, which no file can know; nor can it know the prices that are measured later:
the gateway compares those all the time (`services/gateway/tier_watch.py`), and `darkroom tiers check` does when asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.generation.cost import CostTable
from libs.generation.largest import picture


def largest_units(fields: Mapping[str, Any]) -> float | None:
    """Return the units of the largest request that checked fields allow; None when they name no largest."""
    pixels, steps = fields.get("max_pixels"), fields.get("max_steps")
    if pixels is None or steps is None:
        return None
    return CostTable({}).units(picture(pixels, steps), "")


def problems(fields: Mapping[str, Any]) -> list[str]:
    """Return what does not go together, each beginning with the name of the field."""
    found = []
    largest = largest_units(fields)
    shape = f"one picture of {fields.get('max_pixels')} pixels at {fields.get('max_steps')} steps costs"
    for name in ("units_burst", "daily_units"):
        granted = fields.get(name)
        if largest is not None and granted is not None and granted < largest:
            found.append(f"{name}: must be {largest:_.0f} or more, which {shape}; or allow less")
    address, network = fields.get("address_daily_images"), fields.get("network_daily_images")
    if network is not None and (address is None or network < address):
        found.append(f"network_daily_images: must be at least address_daily_images, which is {address or 'not there'}")
    running, in_flight = fields.get("running_images"), fields.get("in_flight_images")
    if running is not None and in_flight is not None and running > in_flight:
        found.append(f"running_images: must be at most in_flight_images, {in_flight}")
    return found
