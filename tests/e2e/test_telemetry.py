"""One job is one trace through Envoy and all four services, and every listed metric has a value after it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest

from libs.testing import waiting
from libs.testing.spans import SpanCollector, collecting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
SERVICES = {f"darkroom-{name}" for name in ("envoy", "gateway", "ratelimiter", "scheduler", "modelserver")}
STAGES = {"queue", "load", "encode", "denoise", "decode", "store"}


@pytest.mark.timeout(180)
async def test_one_job_is_one_trace(start_stack: StartStack) -> None:
    with collecting() as collected:
        stack = await asyncio.to_thread(start_stack, OTEL_EXPORTER_OTLP_ENDPOINT=collected.endpoint)
        async with http_client(stack) as client:
            answer = await client.post(
                "/v1/jobs", json={"prompt": "a red circle"}, headers={"prefer": "wait=60"}, timeout=90
            )
        assert answer.json()["state"] == "SUCCEEDED"
        await waiting.until(lambda: is_told(collected), 60)
        assert len(traces(collected)) == 1


async def is_told(collected: SpanCollector) -> bool:
    """Return whether a trace has spans of all services and of all stages."""
    found = traces(collected)
    return bool(found) and {span.name for span in collected.spans if span.trace == found[0]} >= STAGES


def traces(collected: SpanCollector) -> list[str]:
    """Return the traces that hold a span of every service."""
    services: dict[str, set[str]] = {}
    for span in tuple(collected.spans):
        services.setdefault(span.trace, set()).add(span.service)
    return [trace for trace, found in services.items() if found >= SERVICES]


def listed() -> dict[str, set[str]]:
    """Return the series of docs/metrics.md by the process that has them; rows marked `gpu` need a device."""
    rows = re.findall(r"^\| `(darkroom_\w+)` \| (\w+) \|[^|]*\|[^|]*\|[^|]*\| ?(\w*) ?\|", METRICS.read_text(), re.M)
    series: dict[str, set[str]] = {}
    for name, process, where in rows:
        if where != "gpu":
            series.setdefault(process, set()).add(name)
    return series


async def test_every_listed_series_has_a_value_after_one_job(stack: RunningStack, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"prompt": "a red circle"}, headers={"prefer": "wait=60"}, timeout=90)
    assert answer.json()["state"] == "SUCCEEDED"
    await client.post("/v1/jobs", json={})
    await client.get("/v1/jobs", headers={"authorization": "Bearer dk_nobody00_" + "x" * 43})
    series = listed()
    assert set(series) == {"gateway", "ratelimiter", "scheduler", "modelserver"}
    for process, names in series.items():
        name = "modelserver-0" if process == "modelserver" else process
        async with asyncio.timeout(30):
            missing = names
            while missing:
                text = (await client.get(f"http://{stack.addresses['metrics'][name]}/metrics")).text
                missing = {n for n in names if not re.search(rf"^{n}(_bucket|_total)?[{{ ]", text, re.M)}
