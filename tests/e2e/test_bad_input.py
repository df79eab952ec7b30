"""Bad input gets one clear JSON error with every invalid field, and leaves no trace of a crash or of a prompt."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.testing.stack import RunningStack

LIMIT_HEADERS = (
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-ratelimit-limit-cost",
    "x-ratelimit-remaining-cost",
    "x-ratelimit-reset-cost",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "ratelimit",
    "ratelimit-policy",
    "x-request-id",
)
SECRET_WORDS = "zanzibar-marzipan-orchestra"


def reason(answer: httpx.Response) -> str:
    """Return the one reason of an error, and check its shape."""
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert isinstance(body["code"], int)
    assert body["message"]
    found = [d["reason"] for d in body["details"] if d["@type"].endswith("ErrorInfo")]
    assert len(found) == 1
    return str(found[0])


def invalid_fields(answer: httpx.Response) -> set[str]:
    violations = [v for d in answer.json()["details"] for v in d.get("field_violations", [])]
    return {v["field"] for v in violations}


@pytest.mark.parametrize(
    ("body", "status", "expected", "fields"),
    [
        ({"prompt": SECRET_WORDS, "model": "no-such-model"}, 404, "MODEL_NOT_FOUND", set()),
        ({"prompt": SECRET_WORDS, "width": 7, "steps": 0}, 400, "INVALID_REQUEST", {"width", "steps"}),
        ({"prompt": SECRET_WORDS * 400}, 400, "INVALID_REQUEST", {"prompt"}),
        ({"prompt": SECRET_WORDS, "stepz": 3}, 400, "UNKNOWN_FIELD", {"stepz"}),
        ({"prompt": SECRET_WORDS, "steps": "many", "width": 7}, 400, "INVALID_REQUEST", {"steps", "width"}),
        ({}, 400, "INVALID_REQUEST", {"prompt"}),
    ],
)
async def test_invalid_requests(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, expected: str, fields: set[str]
) -> None:
    answer = await client.post("/v1/jobs", json=body)
    assert (answer.status_code, reason(answer)) == (status, expected)
    assert invalid_fields(answer) == fields
    assert [name for name in LIMIT_HEADERS if name not in answer.headers] == []
    assert "charged" in answer.json()["message"]


async def test_an_unknown_field_is_told_with_the_nearest_name(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/jobs", json={"prompt": "x", "guidence_scale": 3})
    assert "guidance_scale" in answer.json()["message"]


@pytest.mark.parametrize("content", [b'{"prompt": ', b"[]", b"", b'"x"', b"\xff\xfe", b'{"prompt": NaN}'])
async def test_broken_json(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/jobs", content=content)
    assert answer.status_code == 400
    assert reason(answer) in ("MALFORMED_JSON", "INVALID_REQUEST")
    assert [name for name in LIMIT_HEADERS if name not in answer.headers] == []


async def test_a_wrong_key(stack: RunningStack) -> None:
    wrong = {"authorization": "Bearer dk_wrong000_" + "x" * 43}
    async with httpx.AsyncClient(base_url=stack.base_url, headers=wrong) as client:
        answer = await client.post("/v1/jobs", json={"prompt": "x"})
    assert (answer.status_code, reason(answer)) == (401, "KEY_INVALID")
    assert [name for name in LIMIT_HEADERS if name not in answer.headers] == []


async def test_another_tenants_job_does_not_exist(stack: RunningStack, client: httpx.AsyncClient) -> None:
    mine = (await client.post("/v1/jobs", json={"prompt": "x", "steps": 1})).json()["id"]
    async with httpx.AsyncClient(base_url=stack.base_url) as nobody:
        for method, path in [
            ("GET", ""),
            ("GET", "/events"),
            ("GET", "/images/0"),
            ("POST", ":cancel"),
            ("DELETE", ""),
        ]:
            answer = await nobody.request(method, f"/v1/jobs/{mine}{path}")
            assert (answer.status_code, reason(answer)) == (404, "JOB_NOT_FOUND")
            assert [name for name in LIMIT_HEADERS if name not in answer.headers] == []
    assert (await client.get(f"/v1/jobs/{mine}")).status_code == 200


async def test_a_body_of_50_megabytes(stack: RunningStack, tmp_path: Path) -> None:
    """With curl: a client that reads only after it has sent everything loses the answer to the closed connection."""
    body = tmp_path / "body"
    body.write_bytes(b"x" * 50_000_000)
    command = ("curl", "-s", "-D", tmp_path / "headers", f"{stack.base_url}/v1/jobs", "--data-binary", f"@{body}")
    curl = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    out, _ = await asyncio.wait_for(curl.communicate(), 60)
    *_, final = (tmp_path / "headers").read_text().strip().split("\n\n")
    assert " 413 " in final.splitlines()[0]
    assert "x-request-id: " in final
    assert json.loads(out)["details"][0]["reason"] == "REQUEST_TOO_LARGE"


async def test_anonymous_callers_meet_their_limit_kindly(stack: RunningStack) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url) as nobody:
        answers = [await nobody.post("/v1/jobs", json={"prompt": "x", "steps": 1}) for _ in range(12)]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert refused
    # Which comes first depends on how fast pictures are drawn here: two in flight, or five requests a minute.
    assert {reason(answer) for answer in refused} <= {"CONCURRENCY_EXHAUSTED", "RPM_EXHAUSTED"}
    assert int(refused[0].headers["retry-after"]) >= 1
    assert {answer.status_code for answer in answers} <= {202, 429}


async def test_nothing_was_logged_as_a_crash_and_no_prompt_at_all(stack: RunningStack) -> None:
    logs = {name: stack.log(name) for name in ("gateway", "scheduler", "ratelimiter", "modelserver-0", "envoy")}
    assert [name for name, text in logs.items() if "Traceback" in text] == []
    assert [name for name, text in logs.items() if SECRET_WORDS in text] == []
