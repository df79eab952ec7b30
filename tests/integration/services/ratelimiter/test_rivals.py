"""Several rate limiters, each a process of its own, on one Redis: together they admit what one would."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.clients.limiter import LimiterClient, Reservation, Settlement
from libs.ids import JobId, KeyId, TenantId
from libs.testing.limiter import LimiterProcess
from libs.testing.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

_COUNT, _BURST, _REQUESTS, _IN_FLIGHT, _DAY = 3, 1000.0, 12, 16, 20
# So slow that nothing drains while a test runs.
TIERS = "".join(
    f"[{tier}]\nrequests_per_minute = 0.01\nrequests_burst = {_REQUESTS}\nunits_per_minute = 0.01\n"
    f"units_burst = {_BURST}\nin_flight_images = {_IN_FLIGHT}\ndaily_images = {_DAY}\n"
    for tier in ("enterprise", "pro", "payg", "free", "anonymous")
)
_tenants = (TenantId(f"tenant_{n}") for n in itertools.count())


@dataclass(frozen=True, slots=True)
class Job:
    """What one client does: ask some of the processes at once, then have them all settle, or give it back."""

    units: float
    images: int
    asked: tuple[int, ...]
    charged: float | None


jobs = st.builds(
    Job,
    units=st.sampled_from([50.0, 100.0, 300.0]),
    images=st.integers(1, 4),
    asked=st.lists(st.integers(0, _COUNT - 1), min_size=1, max_size=3).map(tuple),
    charged=st.none() | st.sampled_from([0.0, 20.0, 60.0]),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rivals")
    (folder / "tiers.toml").write_text(TIERS)
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rivals(shared: Path) -> AsyncIterator[list[LimiterClient]]:
    async with RedisServer() as redis:
        started = [LimiterProcess(shared, f"limiter-{n}", redis.url, shared / "tiers.toml") for n in range(_COUNT)]
        try:
            for each in started:  # one after the other: they share a database file
                await each.start()
            yield [each.client for each in started]
        finally:
            for each in started:
                await each.kill()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(jobs, min_size=1, max_size=24))
async def test_they_never_admit_more_than_one_would_and_charge_once(rivals: list[LimiterClient], asked: list[Job]):
    tenant = next(_tenants)
    names = [
        (Reservation(JobId(f"{tenant}_{n}"), tenant, "pro", job.units, job.images), job) for n, job in enumerate(asked)
    ]
    decisions = await asyncio.gather(
        *(rivals[at].reserve(reservation) for reservation, job in names for at in job.asked)
    )
    owners = [reservation for reservation, job in names for _ in job.asked]
    admitted = {owner.reservation_id for owner, each in zip(owners, decisions, strict=True) if each.denial is None}
    taken = [(reservation, job) for reservation, job in names if reservation.reservation_id in admitted]
    units, images = sum(job.units for _, job in taken), sum(job.images for _, job in taken)
    assert units <= _BURST + 1
    assert images <= min(_IN_FLIGHT, _DAY)
    assert len(taken) <= _REQUESTS
    seen = await rivals[0].peek(Reservation(JobId("any"), tenant, "pro", 0.0, 0))
    assert seen.available_units == pytest.approx(_BURST - units, abs=1)  # a denial took nothing, a repetition neither

    ends = await asyncio.gather(*(_end(each, reservation, job) for reservation, job in taken for each in rivals))
    assert sum(ends) == len(taken)  # of three that end a job one does it
    seen = await rivals[-1].peek(Reservation(JobId("any"), tenant, "pro", 0.0, 0))
    charged = sum(job.charged or 0.0 for _, job in taken)
    assert seen.available_units == pytest.approx(_BURST - charged, abs=1)


async def _end(limiter: LimiterClient, reservation: Reservation, job: Job) -> bool:
    if job.charged is None:
        return await limiter.release(reservation.tenant_id, reservation.reservation_id)
    settlement = Settlement(
        reservation.reservation_id,
        reservation.tenant_id,
        "pro",
        KeyId(""),
        reserved_units=job.units,
        actual_units=job.charged,
        charged_units=job.charged,
        images=job.images,
        model_version="tiny@1",
        outcome="succeeded",
        gpu_ms=job.charged,
        reserved_images=job.images,
    )
    return await limiter.settle(settlement)
