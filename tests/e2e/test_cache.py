"""Two jobs that ask for the same are one run, and both have the same picture."""

from __future__ import annotations

import asyncio

import httpx

BODY = {"prompt": "a green triangle", "steps": 20, "seed": 4711}


async def finished(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/v1/jobs", json=BODY, headers={"prefer": "wait=60"}, timeout=70)


async def test_alike_jobs_are_drawn_once(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(finished(client), finished(client))
    answers.append(await client.post("/v1/jobs", json=BODY))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    jobs = [answer.json() for answer in answers]
    assert sorted(answer.headers["x-cache"] for answer in answers) == ["hit", "joined", "miss"]
    assert len({job["images"][0]["sha256"] for job in jobs}) == 1
    assert [len(job.get("attempts", [])) for job in jobs].count(1) == 1
    assert sum(job["cost"].get("chargedUnits", job["cost"].get("charged_units", 0)) > 0 for job in jobs) == 1
    pictures = [(await client.get(f"/v1/jobs/{job['id']}/images/0")).content for job in jobs]
    assert len(set(pictures)) == 1
