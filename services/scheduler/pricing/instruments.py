"""The prices as metrics; docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.metrics import CallbackOptions, Observation

from libs.telemetry import metrics


def observe(version: Callable[[], int], outcomes: Mapping[bool, int], unreadable: Callable[[], int]) -> None:
    """Show the version of the prices, what they learned from, and what was set aside. Read on the exporter's thread."""

    def in_force(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(version(), {})]

    def set_aside(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(unreadable(), {})]

    def heard(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(outcomes[learned], {"learned": told}) for learned, told in ((True, "yes"), (False, "no"))]

    meter = metrics.meter()
    meter.create_observable_gauge("darkroom_prices_version", [in_force], description="Version of the prices in force")
    meter.create_observable_gauge(
        "darkroom_prices_unreadable",
        [set_aside],
        description="Documents of prices that could not be read at the last start of the leader, and were set aside",
    )
    meter.create_observable_counter(
        "darkroom_price_measurements_total",
        [heard],
        description="Attempts whose cost was taken in, by whether prices learned from it",
    )
