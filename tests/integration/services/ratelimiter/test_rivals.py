"""Several rate limiters, each a process of its own, on one Redis: together they admit what one would."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.clients.limiter import LimiterClient, Reservation, Settlement
from libs.errors import Unavailable
from libs.ids import JobId, KeyId, TenantId
from libs.testing import waiting
from libs.testing.limiter import LimiterProcess
from libs.testing.redis import RedisServer

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

_COUNT, _BURST, _REQUESTS, _IN_FLIGHT, _DAY = 3, 1000.0, 12, 16, 20
# So slow that nothing drains while a test runs.
TIERS = "".join(
    f"[{tier}]\nrequests_per_minute = 0.01\nrequests_burst = {_REQUESTS}\nunits_per_minute = 0.01\n"
    f"units_burst = {_BURST}\nin_flight_images = {_IN_FLIGHT}\ndaily_images = {_DAY}\noutage_share = 0.5\n"
    for tier in ("pro", "payg", "free", "anonymous")
)
TIERS += (
    TIERS[: TIERS.index("[payg]")]
    .replace("[pro]", "[enterprise]")
    .replace(f"= {_REQUESTS}", "= 100")
    .replace(f"= {_DAY}", "= 100")
)
R = TypeVar("R")
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
async def redis() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def processes(shared: Path, redis: RedisServer) -> AsyncIterator[list[LimiterProcess]]:
    started = [LimiterProcess(shared, f"limiter-{n}", redis.url, shared / "tiers.toml") for n in range(_COUNT)]
    try:
        for each in started:  # one after the other: they share a database file
            await each.start()
        yield started
    finally:
        for each in started:
            await each.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def single(shared: Path) -> AsyncIterator[LimiterProcess]:
    """One rate limiter that keeps its ledger itself."""
    started = LimiterProcess(shared, "single", "", shared / "tiers.toml")
    try:
        await started.start()
        yield started
    finally:
        await started.kill()


@pytest.fixture(params=["redis", "memory"])
def rivals(request: pytest.FixtureRequest) -> list[LimiterClient]:
    """Those who may be asked for the same: several processes on one Redis, or one process by several callers."""
    if request.param == "memory":
        return [request.getfixturevalue("single").client] * _COUNT
    return [each.client for each in request.getfixturevalue("processes")]


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


@pytest.mark.parametrize("loses_all", [False, True], ids=["killed", "emptied"])
async def test_redis_that_ends_under_load_costs_no_charge_and_makes_none_twice(
    processes: list[LimiterProcess], redis: RedisServer, loses_all: bool
):
    tenant, done = next(_tenants), asyncio.Semaphore(0)
    ran = [asyncio.create_task(_jobs(each.client, tenant, f"{n}", done)) for n, each in enumerate(processes)]
    await _jobs_done(done, 6)
    await redis.kill()
    await _jobs_done(done, 12)
    if loses_all:
        redis.forget()
    await redis.start()
    taken = sum(await asyncio.gather(*ran))
    assert taken >= 18
    for each in processes:

        async def is_whole(each: LimiterProcess = each) -> bool:
            seen = await each.client.peek(Reservation(JobId("any"), tenant, "enterprise", 0.0, 0))
            return ("x-ratelimit-degraded", "1") not in seen.headers and not _journal_bytes(each)

        await waiting.until(is_whole, 60.0)
    seen = await processes[0].client.peek(Reservation(JobId("any"), tenant, "enterprise", 0.0, 0))
    assert seen.available_units == pytest.approx(_BURST - 10.0 * taken, abs=1)
    assert seen.available_images == _IN_FLIGHT  # every place is free
    assert dict(seen.headers)["x-ratelimit-remaining-daily"] == str(100 - taken)


async def _jobs(limiter: LimiterClient, tenant: TenantId, name: str, done: asyncio.Semaphore) -> int:
    """Run jobs one after the other as gateway and scheduler do, who come again; return how many were taken."""
    taken = 0
    for n in range(10):
        reservation = Reservation(JobId(f"{tenant}_{name}_{n}"), tenant, "enterprise", 20.0, 1)
        decision = await _again(lambda of=reservation: limiter.reserve(of))
        if decision.denial is None:
            taken += 1
            await _again(lambda of=reservation: limiter.confirm(of))
            await _again(lambda of=reservation: _end(limiter, of, Job(20.0, 1, (), charged=10.0)))
        done.release()
    return taken


async def _again(call: Callable[[], Awaitable[R]]) -> R:
    while True:
        try:
            return await call()
        except Unavailable:
            await waiting.pause()


async def _jobs_done(done: asyncio.Semaphore, count: int) -> None:
    for _ in range(count):
        await done.acquire()


def _journal_bytes(process: LimiterProcess) -> int:
    journal = process.folder / "ledger-journal"
    return journal.stat().st_size if journal.exists() else 0


async def _end(limiter: LimiterClient, reservation: Reservation, job: Job) -> bool:
    if job.charged is None:
        return await limiter.release(reservation.tenant_id, reservation.reservation_id)
    settlement = Settlement(
        reservation.reservation_id,
        reservation.tenant_id,
        reservation.tier,
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
