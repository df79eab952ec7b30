"""Each limit of a tier refuses at the door by name, says when it frees, and then takes the request as promised."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.cli.target import Target
from libs.clients.limiter_admin import LimiterAdminClient
from libs.clients.scheduler_admin import SchedulerAdminClient
from libs.ids import TenantId
from libs.testing import waiting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import http_client

SMALL = {"prompt": "a red circle left of a blue square", "width": 120, "height": 120, "steps": 4}
LATE_S = 20.0  # a promise may be kept this much later: the machine is shared
ENDS_WITHIN_S = 60.0
WIDE = "requests_per_minute = 6000\nrequests_burst = 3000\nunits_per_minute = 60_000_000\nunits_burst = 120_000_000\n"
DAILY_UNITS = 1500
# What the model server's device has no memory for: wide pictures never; of tall ones nothing in the first two attempts
# at a job, and after that two rows at once, which is one picture with guidance.
WIDE_PICTURE, TALL_PICTURE = {"width": 128, "height": 120}, {"width": 120, "height": 128}
NO_MEMORY = "out_of_memory:128x120:0,out_of_memory:120x128:0:2,out_of_memory:120x128:2"
TIERS = (
    f"[enterprise]\n{WIDE}"
    f"[pro]\n{WIDE.replace('6000', '30').replace('3000', '2')}daily_units = {DAILY_UNITS}\n"
    f"[payg]\n{WIDE.replace('60_000_000', '12_000').replace('120_000_000', '1500')}"
    f"[free]\n{WIDE.replace('60_000_000', '60').replace('120_000_000', '1_000_000')}"  # what comes back was given back
    "in_flight_images = 2\nmax_steps = 60\nmax_pixels = 15_500\ndaily_images = 1000\ndaily_units = 2_000_000\n"
    f"[anonymous]\n{WIDE}daily_images = 3\naddress_daily_images = 5\n"
)


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Return a stack whose tiers have one narrow limit each."""
    folder = tmp_path_factory.mktemp("limits")
    tiers = folder / "tiers.toml"
    tiers.write_text(TIERS)
    running = RunningStack(Path(folder) / "data", {"DARKROOM_TIERS": str(tiers), "DARKROOM_FAILPOINT": NO_MEMORY})
    running.start()
    yield running
    assert running.stop() == 0, running.console()


@asynccontextmanager
async def caller(stack: RunningStack, tier: str, tenant: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a tenant of a tier, one for the tier unless named; of `anonymous` one without a key."""
    async with http_client(stack) as client:
        del client.headers["authorization"]
        if tier != "anonymous":
            async with Target(stack.folder.root, url="", key="", environ={}).admin("ratelimiter") as channel:
                made = await LimiterAdminClient(channel).create_key(TenantId(tenant or f"acme-{tier}"), tier, "limits")
            client.headers["authorization"] = f"Bearer {made.secret}"
        yield client


async def ask(client: httpx.AsyncClient, seed: int, **more: Any) -> httpx.Response:
    """Ask for a small picture that no other test asks for."""
    return await client.post("/v1/jobs", json=SMALL | {"seed": seed} | more)


async def until_refused(client: httpx.AsyncClient, first_seed: int, most: int, **more: Any) -> httpx.Response:
    """Ask again and again; return the first refusal."""
    for number in range(most):
        answer = await ask(client, first_seed + number, **more)
        if answer.status_code != 202:
            return answer
    raise AssertionError(f"{most} requests were taken")


def told(answer: httpx.Response, status: int, reason: str) -> dict[str, str]:
    """Return the details of a refusal."""
    assert answer.status_code == status, answer.text
    (info,) = [each for each in answer.json()["details"] if each["@type"].endswith("ErrorInfo")]
    assert info["reason"] == reason
    assert "othing was charged" in answer.json()["message"]
    metadata: dict[str, str] = info["metadata"]
    return metadata


async def is_kept(client: httpx.AsyncClient, refusal: httpx.Response, seed: int, **more: Any) -> None:
    """Check that the request is taken when the refusal says."""
    wait_s = int(refusal.headers["retry-after-ms"]) / 1000
    assert int(refusal.headers["retry-after"]) >= wait_s
    assert refusal.headers["x-should-retry"] == "true"

    async def is_taken() -> bool:
        return (await ask(client, seed, **more)).status_code in (200, 202)

    await waiting.until(is_taken, wait_s + LATE_S)


async def test_requests_of_the_minute(limited: RunningStack) -> None:
    async with caller(limited, "pro") as client:
        refusal = await until_refused(client, 1000, 5)
        assert told(refusal, 429, "RPM_EXHAUSTED")["limit"] == "30"
        assert refusal.headers["x-ratelimit-remaining-requests"] == "0"
        await is_kept(client, refusal, 1100)


async def test_units_of_the_minute(limited: RunningStack) -> None:
    async with caller(limited, "payg") as client:
        refusal = await until_refused(client, 2000, 40, steps=8)
        details = told(refusal, 429, "GPU_COST_EXHAUSTED")
        assert float(details["estimated_units"]) > float(details["available_units"])
        await is_kept(client, refusal, 2100, steps=8)


async def test_pictures_in_flight(limited: RunningStack) -> None:
    async with caller(limited, "free") as client:
        first = await ask(client, 3000, images=2, steps=60)
        assert first.headers["x-ratelimit-remaining-concurrent"] == "0"
        refusal = await ask(client, 3001)
        assert told(refusal, 429, "CONCURRENCY_EXHAUSTED")["limit"] == "2"
        assert "2 of your 2 pictures in flight" in refusal.json()["message"]
        cancelled = await client.post(f"/v1/jobs/{first.json()['id']}:cancel")
        assert cancelled.status_code == 200, cancelled.text
        await is_kept(client, refusal, 3002)


async def test_what_a_tier_never_draws(limited: RunningStack) -> None:
    async with caller(limited, "free") as client:
        for more, about in (
            ({"steps": 61}, "steps"),
            ({"width": 128, "height": 128}, "pixels"),
            ({"images": 3}, "in_flight"),
        ):
            refusal = await ask(client, 3500, **more)
            details = told(refusal, 400, "REQUEST_EXCEEDS_TIER_BUDGET")
            assert (details["about"], refusal.headers["x-should-retry"]) == (about, "false")
            assert details["suggestion"]
            assert "retry-after" not in refusal.headers


async def test_units_of_the_day(limited: RunningStack) -> None:
    async with caller(limited, "pro", "acme-day") as client:
        asked = await more_than_half_of_a_day(limited)
        assert (await ask(client, 3700, **asked)).status_code == 202
        refusal = await ask(client, 3701, **asked)
        details = told(refusal, 429, "DAILY_QUOTA_EXHAUSTED")
        assert (details["dimension"], details["limit"]) == ("daily_units", str(DAILY_UNITS))
        assert "units are left and this request needs" in refusal.json()["message"]
        assert "They reset at 00:00 UTC (in " in refusal.json()["message"]
        assert 0 < int(refusal.headers["retry-after"]) <= 86_400
        assert refusal.headers["x-should-retry"] == "false"
        width, height, steps, *images = map(int, details["fits_now"].split("x"))
        smaller = {"width": width, "height": height, "steps": steps, "images": images[0] if images else 1}
        assert (await ask(client, 3702, **smaller)).status_code == 202


async def more_than_half_of_a_day(stack: RunningStack) -> dict[str, int]:
    """Return what to ask for so that the day's units take it once, whatever pictures cost on this machine."""
    async with http_client(stack) as other:
        for images, steps in itertools.product((1, 2, 4), range(4, 100, 6)):
            asked = {"images": images, "steps": steps}
            units = (await other.post("/v1/jobs:estimate", json=SMALL | asked)).json()["units"]
            if 0.55 <= float(units) / DAILY_UNITS <= 0.9:
                return asked
    raise AssertionError("no request costs more than half of a day")


async def test_pictures_of_the_day_and_what_gives_them_back(limited: RunningStack) -> None:
    async with caller(limited, "anonymous") as client:
        drawn = await client.post("/v1/jobs", json=SMALL | {"seed": 4000}, headers={"prefer": "wait=30"})
        assert drawn.json()["state"] == "SUCCEEDED", drawn.text

        async def left_is(count: int) -> bool:
            return int((await client.get("/v1/models")).headers["x-ratelimit-remaining-daily"]) == count

        await waiting.until(lambda: left_is(2), ENDS_WITHIN_S)
        again = await ask(client, 4000)  # it lies there already
        assert again.headers["x-cache"] == "hit", again.text
        await waiting.until(lambda: left_is(2), ENDS_WITHIN_S)
        withdrawn = await ask(client, 4001, steps=30, images=2)
        await client.post(f"/v1/jobs/{withdrawn.json()['id']}:cancel")
        refusal = await ask(client, 4002, images=3)
        await waiting.until(lambda: is_refused_by_the_day(client), ENDS_WITHIN_S)
        assert refusal.status_code == 429, refusal.text


async def is_refused_by_the_day(client: httpx.AsyncClient) -> bool:
    """Ask for one more; whether the day is used, in kind words."""
    answer = await ask(client, 4100, cache="bypass")
    if answer.status_code != 429:
        return False
    details = told(answer, 429, "DAILY_QUOTA_EXHAUSTED")
    message = answer.json()["message"]
    assert "free images" in message
    assert "They reset at 00:00 UTC (in " in message
    assert details["dimension"] in ("daily_images", "address")
    assert int(answer.headers["retry-after"]) <= 86_400
    assert answer.headers["x-should-retry"] == "false"
    return True


def standing(answer: httpx.Response) -> dict[str, int]:
    """Return what is left of each limit but the requests of the minute, as the limiter tells it."""
    left = re.findall(r'"([a-z-]+)";r=(\d+)', answer.headers["ratelimit"])
    return {name: int(count) for name, count in left if name != "rpm"}


async def standing_of(client: httpx.AsyncClient) -> dict[str, int]:
    return standing(await client.get("/v1/models"))


async def taken(client: httpx.AsyncClient, seed: int, whole: dict[str, int], **more: Any) -> str:
    """Ask for two pictures, see that every limit counts them; return the job."""
    answer = await ask(client, seed, images=2, **more)
    assert answer.status_code == 202, answer.text
    left = standing(answer)
    assert whole.keys() == {"cost", "concurrent", "daily", "daily-units"} == left.keys()
    assert (whole["daily"] - left["daily"], left["concurrent"]) == (2, 0)
    assert max(left["cost"] - whole["cost"], left["daily-units"] - whole["daily-units"]) < -10
    job_id: str = answer.json()["id"]
    return job_id


async def ended(client: httpx.AsyncClient, job_id: str, within_s: float = ENDS_WITHIN_S) -> dict[str, Any]:
    """Return a job once it is over."""
    job: dict[str, Any] = {}

    async def is_over() -> bool:
        job.update((await client.get(f"/v1/jobs/{job_id}")).json())
        return job["state"] not in ("QUEUED", "RUNNING")

    await waiting.until(is_over, within_s)
    return job


async def is_all_back(client: httpx.AsyncClient, whole: dict[str, int], job: dict[str, Any]) -> None:
    """Check that a job was charged nothing and that every limit stands where it stood; two pictures fit again."""
    assert job["cost"].get("charged_units", 0) == 0, job

    async def is_back() -> bool:
        return await standing_of(client) == whole

    await waiting.until(is_back, ENDS_WITHIN_S)


@asynccontextmanager
async def nobody_draws(stack: RunningStack) -> AsyncIterator[None]:
    """Let the only model server take nothing meanwhile."""
    async with Target(stack.folder.root, url="", key="", environ={}).admin("scheduler") as channel:
        scheduler = SchedulerAdminClient(channel)
        await scheduler.drain_worker("modelserver-0")
        yield
        await scheduler.undrain_worker("modelserver-0")


async def test_what_never_began_is_given_back(limited: RunningStack) -> None:
    async with caller(limited, "free", "acme-late") as client, nobody_draws(limited):
        whole = await standing_of(client)
        late = await ended(client, await taken(client, 5100, whole, deadline_s=1))
        assert late["state"] == "EXPIRED"
        await is_all_back(client, whole, late)
        withdrawn = await taken(client, 5101, whole)
        await client.post(f"/v1/jobs/{withdrawn}:cancel")
        job = await ended(client, withdrawn)
        assert job["state"] == "CANCELLED"
        await is_all_back(client, whole, job)


async def test_what_lies_there_already_is_given_back(limited: RunningStack) -> None:
    async with caller(limited, "free", "acme-again") as client:
        drawn = await ended(client, await taken(client, 5200, await standing_of(client)))
        charged = drawn["cost"]["charged_units"]
        assert charged > 0

        async def is_settled() -> bool:
            left = await standing_of(client)
            return (left["concurrent"], left["daily"], left["daily-units"]) == (2, 998, int(2_000_000 - charged))

        await waiting.until(is_settled, ENDS_WITHIN_S)
        before = await standing_of(client)
        again = await ask(client, 5200, images=2)
        assert again.headers["x-cache"] == "hit", again.text
        assert standing(again)["daily"] == 996
        assert again.json()["cost"].get("charged_units", 0) == 0
        await waiting.until(is_settled, ENDS_WITHIN_S)
        assert (await standing_of(client))["cost"] >= before["cost"]


async def test_what_does_not_fit_at_first_is_drawn_and_charged_as_any_other(limited: RunningStack) -> None:
    async with caller(limited, "free", "acme-tall") as client:
        whole = await standing_of(client)
        job = await ended(client, await taken(client, 5300, whole, **TALL_PICTURE))
        assert job["state"] == "SUCCEEDED", job
        tries = [(attempt["outcome"], attempt.get("reason", "")) for attempt in job["attempts"]]
        assert tries == [("lost", "GPU_OUT_OF_MEMORY")] * 2 + [("succeeded", "")]
        charged = job["cost"]["charged_units"]
        assert 0 < charged <= 1.5 * job["cost"]["estimated_units"] + 0.1  # both are told in tenths
        assert charged == job["cost"]["actual_units"] or "capped" in job["cost"]["reason"]
        expected = whole | {"daily": 998, "daily-units": int(2_000_000 - charged)}

        async def is_charged() -> bool:
            left = await standing_of(client)
            return left | {"cost": 0} == expected | {"cost": 0} and left["cost"] < whole["cost"]

        await waiting.until(is_charged, ENDS_WITHIN_S)


async def test_what_never_fits_is_said_honestly_and_given_back(limited: RunningStack) -> None:
    async with caller(limited, "free", "acme-wide") as client:
        whole = await standing_of(client)
        job = await ended(client, await taken(client, 5400, whole, **WIDE_PICTURE))
        assert job["state"] == "FAILED", job
        assert {attempt["reason"] for attempt in job["attempts"]} == {"GPU_OUT_OF_MEMORY"}
        assert len(job["attempts"]) == 3
        (info,) = [each for each in job["error"]["details"] if each["@type"].endswith("ErrorInfo")]
        assert (info["reason"], info["metadata"]["charged"]) == ("GPU_OUT_OF_MEMORY", "false")
        assert "does not fit into a device's memory" in job["error"]["message"]
        assert "Nothing was charged" in job["error"]["message"]
        await is_all_back(client, whole, job)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_a_job_whose_workers_die_gives_all_back(limited: RunningStack) -> None:
    async with caller(limited, "free", "acme-lost") as client:
        whole = await standing_of(client)
        job_id = await taken(client, 6000, whole, steps=60, cache="bypass")
        for attempt in itertools.count(1):
            if not await runs(client, job_id, attempt):
                break
            limited.kill("modelserver-0")
            await limited.wait_ready("modelserver-0")
        job = await ended(client, job_id)
        assert job["state"] == "FAILED", job
        assert job["error"]["details"][0]["reason"] == "WORKER_LOST"
        assert [attempt["outcome"] for attempt in job["attempts"]].count("lost") >= 2
        await is_all_back(client, whole, job)


async def runs(client: httpx.AsyncClient, job_id: str, attempt: int) -> bool:
    """Wait for an attempt at a job; False when the job has failed instead."""
    state = ""

    async def is_known() -> bool:
        nonlocal state
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        state = job["state"]
        return state == "FAILED" or (state == "RUNNING" and len(job.get("attempts", [])) >= attempt)

    await waiting.until(is_known, 2 * ENDS_WITHIN_S)
    return state == "RUNNING"
