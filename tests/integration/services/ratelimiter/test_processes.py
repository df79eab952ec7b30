"""Several processes at one rate limiter, and processes that die between reserving and settling."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from libs import secret_files
from libs.clients.limiter import OpenReservation, Reservation, Settlement
from libs.errors import DarkroomError
from libs.ids import JobId, KeyId, TenantId
from libs.testing.clock import ManualClock
from services.ratelimiter.settings import Settings
from tests.integration.services.ratelimiter.conftest import TIERS, Service, Start

ACME = TenantId("acme")
CHILD = "tests.integration.services.ratelimiter.reserving_child"
PLACES, TTL_S, LEASE_S = 20, 60, 120
NARROW = TIERS.replace("[pro]\n", f"[pro]\nin_flight_images = {PLACES}\n").replace("burst = 60\n", "burst = 600\n")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    secret_files.ensure(tmp_path / "secrets")
    (tmp_path / "tiers.toml").write_text(NARROW)
    return Settings(data=tmp_path, tiers=tmp_path / "tiers.toml", wrong_keys_per_min=1e6)


@asynccontextmanager
async def child(service: Service, settings: Settings, name: str, count: int, confirmed: int = 0) -> AsyncIterator[int]:
    """Run a process that reserves; give how many it was given. It is killed, never asked to stop."""
    token = secret_files.read_token(settings.secrets_folder, secret_files.MESH_TOKEN)
    arguments = (f"127.0.0.1:{service.port}", token, name, str(count), str(confirmed))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", CHILD, *arguments, env=dict(os.environ), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield int(await asyncio.wait_for(process.stdout.readline(), 60))
    finally:
        process.kill()
        await process.wait()


async def places(service: Service) -> int:
    headers = dict((await service.limiter.peek(Reservation(JobId(""), ACME, "pro", 0.0, 0))).headers)
    return int(headers["x-ratelimit-remaining-concurrent"])


async def pass_time(service: Service, clock: ManualClock, seconds: int) -> None:
    """Let the process look every second, as it does."""
    for _ in range(seconds):
        await clock.advance(1)
    await service.limiter.peek(Reservation(JobId(""), ACME, "pro", 0.0, 0))


async def test_processes_together_are_given_no_more_than_there_is(service: Service, settings: Settings):
    children = [child(service, settings, f"child_{n}", 30) for n in range(3)]
    given = await asyncio.gather(*(each.__aenter__() for each in children))
    assert sum(given) == PLACES / 2
    assert await places(service) == 0
    await asyncio.gather(*(each.__aexit__(None, None, None) for each in children))


async def test_places_of_who_was_killed_are_free_again_and_charges_come_right(
    service: Service, settings: Settings, clock: ManualClock
):
    async with child(service, settings, "killed", 6, confirmed=4) as given:
        assert given == 6
    assert await places(service) == PLACES - 12
    await pass_time(service, clock, TTL_S + 2)
    assert await places(service) == PLACES - 8  # two were tentative
    await pass_time(service, clock, LEASE_S - 4 - TTL_S)
    still_open = [OpenReservation(JobId(f"killed_{n}"), ACME, "pro") for n in range(2)]
    assert await service.limiter.renew(still_open) == []
    await pass_time(service, clock, 4)
    assert await places(service) == PLACES - 4  # nobody renewed the other two; they stay charged until they are settled
    applied = [await service.limiter.settle(settled(f"killed_{n}")) for n in range(4)]
    assert applied == [True] * 4
    assert await places(service) == PLACES


async def test_a_restart_forgets_places_until_the_next_renewal(start: Start):
    async with start() as first:
        await first.limiter.reserve(reservation("job_1"))
        await first.limiter.confirm(reservation("job_1"))
    async with start() as second:
        assert await places(second) == PLACES
        assert await second.limiter.renew([OpenReservation(JobId("job_1"), ACME, "pro")]) == ["job_1"]
        await second.limiter.confirm(reservation("job_1"), reserved_s=1.0)
        assert await places(second) == PLACES - 2


async def test_renewing_says_what_is_wrong_with_a_call(service: Service):
    for wrong in ([OpenReservation(JobId(""), ACME, "pro")], [OpenReservation(JobId("job_1"), ACME, "pro")] * 501):
        with pytest.raises(DarkroomError, match=r"reservation"):
            await service.limiter.renew(wrong)


def reservation(name: str) -> Reservation:
    return Reservation(JobId(name), ACME, "pro", 10.0, images=2)


def settled(name: str) -> Settlement:
    return Settlement(JobId(name), ACME, "pro", KeyId(""), 10.0, 10.0, 10.0, 2, "tiny@1", "succeeded", 10.0)
