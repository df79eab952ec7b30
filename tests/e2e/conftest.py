"""One stack for all end-to-end tests, and stacks of their own for tests that need other settings."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from libs.testing.stack import RunningStack

REQUEST_TIMEOUT_S = 30.0
StartStack = Callable[..., RunningStack]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Return a running stack that all tests share; who breaks a part of it waits until it is ready again."""
    # Webhooks go to a receiver in the test's own process.
    running = RunningStack(tmp_path_factory.mktemp("stack") / "data", {"DARKROOM_WEBHOOK_INSECURE": "1"})
    running.start()
    yield running
    assert running.stop() == 0, running.console()


@pytest.fixture
def start_stack(tmp_path: Path) -> Iterator[StartStack]:
    """Return a function that starts a stack of the test's own: `start_stack(DARKROOM_TIERS=…)`."""
    started: list[RunningStack] = []

    def start(**variables: str) -> RunningStack:
        running = RunningStack(tmp_path / f"stack-{len(started)}", variables)
        started.append(running)
        running.start()
        return running

    yield start
    for running in started:
        running.stop()


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[httpx.AsyncClient]:
    """Return an HTTP client of the shared stack that sends the development key."""
    async with http_client(stack) as client:
        yield client


def http_client(stack: RunningStack) -> httpx.AsyncClient:
    """Return an HTTP client of a stack that sends its development key."""
    return httpx.AsyncClient(
        base_url=stack.base_url,
        headers={"authorization": f"Bearer {stack.key}"},
        timeout=REQUEST_TIMEOUT_S,
        trust_env=False,  # a proxy that the environment names is not the way to this machine
        verify=door_context(stack),
    )


def door_context(stack: RunningStack) -> ssl.SSLContext:
    """Return what believes the door of a stack that has its own authority, and shows what such a door asks for."""
    context, known = ssl.create_default_context(cafile=stack.addresses.get("door-ca")), stack.addresses
    if client := known.get("door-client"):
        context.load_cert_chain(f"{client}/tls.crt", f"{client}/tls.key")
    return context
