"""The whole service on a real listener, in a folder of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest

from libs import secret_files
from libs.clients.limiter import LimiterClient
from libs.clients.limiter_admin import LimiterAdminClient
from libs.rpc.channel import open_channel
from libs.testing.clock import ManualClock
from services.ratelimiter.app import running
from services.ratelimiter.settings import Settings
from services.ratelimiter.sql_database import Database

TIERS = "".join(
    f"[{tier}]\nrequests_per_minute = 60\nrequests_burst = {burst}\nunits_per_minute = 1000\nunits_burst = 1000\n"
    for tier, burst in (("enterprise", 200), ("pro", 60), ("payg", 60), ("free", 10), ("anonymous", 5))
)


@dataclass(frozen=True, slots=True)
class Service:
    """A running rate limiter and who may call it."""

    port: int
    channel: grpc.aio.Channel
    limiter: LimiterClient
    admin: LimiterAdminClient


Start = Callable[[], AbstractAsyncContextManager[Service]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    secret_files.ensure(tmp_path / "secrets")
    tiers = tmp_path / "tiers.toml"
    tiers.write_text(TIERS)
    return Settings(data=tmp_path, tiers=tiers, wrong_keys_per_min=1e6)


@pytest.fixture
def start(settings: Settings, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start the service on the same data folder, again and again."""
    # A loaded machine is no failure here: a start that finds the database away would wait by a clock that stands still.
    monkeypatch.setattr("services.ratelimiter.app.Database", partial(Database, deadline_s=30.0))

    @asynccontextmanager
    async def started() -> AsyncIterator[Service]:
        mesh = secret_files.read_token(settings.secrets_folder, secret_files.MESH_TOKEN)
        operator = secret_files.read_token(settings.secrets_folder, secret_files.OPERATOR_TOKEN)
        async with running(settings, clock) as server:
            address = f"127.0.0.1:{server.port}"
            async with open_channel(address, mesh_token=mesh, operator_token=operator) as channel:
                yield Service(server.port, channel, LimiterClient(channel), LimiterAdminClient(channel))

    return started


@pytest.fixture
async def service(start: Start) -> AsyncIterator[Service]:
    async with start() as started:
        yield started
