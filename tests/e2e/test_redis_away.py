"""The stack's own Redis stands still and is killed: jobs go on by a share of the limits, and it is told of all of them."""

from __future__ import annotations

import signal

import httpx
import pytest

from libs.testing import waiting
from tests.e2e.conftest import StartStack, http_client

DEGRADED = "x-ratelimit-degraded"
WITHIN_S = 60.0
JOB = {"prompt": "a red circle", "steps": 4}


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_limits_go_on_without_redis_and_are_whole_after_it(start_stack: StartStack) -> None:
    stack = start_stack(DARKROOM_REDIS="embedded")
    journal = stack.folder.root / "ledger-journal"
    async with http_client(stack) as client:

        async def is_whole() -> bool:
            return DEGRADED not in (await client.get("/v1/jobs")).headers

        await waiting.until(is_whole, WITHIN_S)
        stack.kill("redis", signal.SIGSTOP)
        assert (await drawn(client)).headers[DEGRADED] == "1"
        assert (await client.get("/v1/no-such-path")).headers[DEGRADED] == "1"
        assert journal.stat().st_size > 0
        stack.kill("redis", signal.SIGKILL)  # the supervisor starts it again

        async def has_heard() -> bool:
            return journal.stat().st_size == 0 and await is_whole()

        await waiting.until(has_heard, WITHIN_S)
        await drawn(client)


async def drawn(client: httpx.AsyncClient) -> httpx.Response:
    answer = await client.post("/v1/jobs", json=JOB, headers={"prefer": "wait=60"}, timeout=90)
    assert answer.json()["state"] == "SUCCEEDED", answer.text
    return answer
