"""OpenTelemetry metrics: a Prometheus port per process, and OTLP when an endpoint is set.

Every series is listed in docs/metrics.md; a test makes one job and looks for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from prometheus_client import start_http_server

from libs.telemetry.tracing import ENDPOINT, export_timeout_s, resource

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_EXPORT_EVERY_MS = 10_000


def start(service: str, listen: str, environ: Mapping[str, str]) -> Callable[[], None]:
    """Serve metrics on `listen` (host:port, empty for none) and export them when an endpoint is set.

    Returns what stops both.
    """
    readers: list[MetricReader] = []
    closers: list[Callable[[], object]] = []
    if environ.get(ENDPOINT):
        exporter = OTLPMetricExporter(timeout=export_timeout_s(environ))
        readers.append(PeriodicExportingMetricReader(exporter, export_interval_millis=_EXPORT_EVERY_MS))
    if listen:
        host, _, port = listen.rpartition(":")
        readers.append(PrometheusMetricReader())
        server, _thread = start_http_server(int(port), addr=host)
        closers += [server.shutdown, server.server_close]
    provider = MeterProvider(metric_readers=readers, resource=resource(service))
    metrics.set_meter_provider(provider)
    closers.append(provider.shutdown)

    def stop() -> None:
        for close in closers:
            close()

    return stop


def meter() -> metrics.Meter:
    """Return the meter of the product's own series; call after `start`, in a composition root."""
    return metrics.get_meter("darkroom")


def seconds_histogram(name: str, description: str) -> metrics.Histogram:
    """Return a histogram of seconds with buckets from 5 ms to half an hour."""
    return meter().create_histogram(
        name, unit="s", description=description, explicit_bucket_boundaries_advisory=list(SECONDS)
    )
