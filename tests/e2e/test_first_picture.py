"""One prompt becomes one picture, the same over REST, gRPC, gRPC-web and the command line."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import grpc
import httpx
import pytest
from PIL import Image
from standardwebhooks import Webhook

from darkroom.v1 import generation_service_pb2 as api
from darkroom.v1 import generation_service_pb2_grpc as rpc
from darkroom.v1 import job_pb2
from libs import secret_files
from libs.testing import waiting
from libs.testing.job_events import read_all
from libs.testing.stack import RunningStack
from services.modelserver.default_model.training.judge import HeldOut, held_out_prompts, judge
from tests.integration.services.gateway.receiver import Receiver

ASKED: HeldOut = held_out_prompts(seed=3, singles=0, relations=1)[0]
STEPS, SEED = 20, 7


def assert_matches(data: bytes) -> None:
    verdict = judge(Image.open(io.BytesIO(data)), ASKED.scene)
    assert verdict.right, verdict


async def test_rest_and_events_and_webhook(client: httpx.AsyncClient, stack: RunningStack) -> None:
    receiver = Receiver()
    async with receiver.serving():
        done = await drawn_and_followed(client, {"url": f"http://127.0.0.1:{receiver.port}/done"})
        await waiting.until(receiver.was_reached, within_s=30)
    [post] = receiver.posts
    deployment = secret_files.read_token(stack.folder.root / "secrets", secret_files.WEBHOOK_SECRET)
    told = Webhook(secret_files.webhook_secret(deployment, "dev")).verify(post.body, post.headers)
    assert (told["type"], told["data"]["id"], told["data"]["state"]) == ("generation.completed", done, "SUCCEEDED")


async def test_an_endpoint_of_the_account_is_sent_to_with_the_secret_that_was_shown(client: httpx.AsyncClient) -> None:
    async with Receiver().serving() as receiver:
        made = await client.post("/v1/webhookEndpoints", json={"url": f"http://127.0.0.1:{receiver.port}/told"})
        assert made.status_code == 201
        at = f"/v1/webhookEndpoints/{made.json()['endpoint']['id']}"
        assert (await client.post(f"{at}:test")).json() == {"delivered": True, "status": 200, "reason": ""}
    assert (await client.delete(at)).status_code == 200
    [post] = receiver.posts
    assert Webhook(made.json()["secret"]).verify(post.body, post.headers)["data"]["account"] == "dev"


async def drawn_and_followed(client: httpx.AsyncClient, webhook: dict[str, str]) -> str:
    body = {"prompt": ASKED.prompt, "seed": SEED, "cache": "bypass", "webhook": webhook}
    created = await client.post("/v1/jobs", json=body)
    assert created.status_code == 202
    job = created.json()
    assert created.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(created.headers["retry-after"]) >= 1
    assert job["state"] == "QUEUED"

    events = await read_all(client, job["id"])
    names = [event.name for event in events]
    durable = [name for name in names if name not in ("progress", "preview")]
    assert durable == ["queued", "started", "image", "completed"]
    progress = [event.data for event in events if event.name == "progress"]
    steps = [p["step"] for p in progress]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, STEPS)
    assert names.index("started") < names.index("progress") < names.index("image")

    done = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert done["state"] == "SUCCEEDED"
    assert {"queue", "load", "encode", "denoise", "decode", "store"} >= {s["name"] for s in done["timeline"]}
    assert {"denoise", "store"} <= {s["name"] for s in done["timeline"]}
    assert 0 < done["cost"]["charged_units"] <= round(1.5 * done["cost"]["estimated_units"], 1)
    image = await client.get(f"/v1/jobs/{job['id']}/images/0")
    assert image.headers["content-type"] == "image/png"
    assert image.headers["etag"].strip('"') == hashlib.sha256(image.content).hexdigest() == done["images"][0]["sha256"]
    assert_matches(image.content)

    async with httpx.AsyncClient(base_url=client.base_url) as nobody:
        linked = await nobody.get(done["images"][0]["url"])
        assert linked.content == image.content
        assert "public" in linked.headers["cache-control"]
        assert (await nobody.get(done["images"][0]["url"].replace("s=", "s=x"))).status_code == 404
    return str(job["id"])


async def test_grpc_with_generated_stubs(stack: RunningStack) -> None:
    metadata = (("authorization", f"Bearer {stack.key}"),)
    async with grpc.aio.insecure_channel(stack.addresses["http"]) as channel:
        jobs = rpc.GenerationServiceStub(channel)
        spec = job_pb2.JobSpec(prompt=ASKED.prompt, seed=SEED, cache="bypass")
        job = await jobs.CreateJob(api.CreateJobRequest(spec=spec), metadata=metadata, timeout=30)
        watch = jobs.WatchJob(api.WatchJobRequest(id=job.id), metadata=metadata, timeout=60)
        kinds = [event.WhichOneof("event") async for event in watch]
        assert kinds[0] == "queued"
        assert kinds[-1] == "completed"
        request = api.DownloadImageRequest(id=job.id, index=0)
        parts = [part.data async for part in jobs.DownloadImage(request, metadata=metadata, timeout=30)]
    assert_matches(b"".join(parts))


async def test_grpc_web(stack: RunningStack, client: httpx.AsyncClient) -> None:
    spec = job_pb2.JobSpec(prompt=ASKED.prompt, seed=SEED, cache="bypass")
    job = job_pb2.Job.FromString(
        (await web_call(client, "CreateJob", api.CreateJobRequest(spec=spec).SerializeToString()))[0]
    )
    messages = await web_call(client, "WatchJob", api.WatchJobRequest(id=job.id).SerializeToString())
    events = [job_pb2.JobEvent.FromString(message) for message in messages]
    assert events[-1].WhichOneof("event") == "completed"
    image = events[-1].completed.images[0]
    assert_matches((await client.get(image.url)).content)


async def web_call(client: httpx.AsyncClient, method: str, message: bytes) -> list[bytes]:
    """Call over gRPC-web; return the answer's messages and check that its trailer says OK."""
    answer = await client.post(
        f"/darkroom.v1.GenerationService/{method}",
        content=b"\0" + len(message).to_bytes(4, "big") + message,
        headers={"content-type": "application/grpc-web+proto"},
        timeout=60,
    )
    assert answer.status_code == 200
    frames, rest = [], answer.content
    while rest:
        length = int.from_bytes(rest[1:5], "big")
        frames.append((rest[0], rest[5 : 5 + length]))
        rest = rest[5 + length :]
    assert b"grpc-status:0" in frames[-1][1], frames[-1]
    return [body for flag, body in frames if not flag & 0x80]


async def run_cli(stack: RunningStack, *arguments: str) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    child = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("darkroom")),
        "--data",
        str(stack.folder.root),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environ,
    )
    out, err = await asyncio.wait_for(child.communicate(), 90)
    assert child.returncode == 0, err.decode()
    return out.decode()


async def test_command_line(stack: RunningStack, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    job = json.loads(await run_cli(stack, "generate", ASKED.prompt, "-o", str(out), "--seed", str(SEED), "--json"))
    assert job["state"] == "SUCCEEDED"
    assert_matches(out.read_bytes())
    assert json.loads(await run_cli(stack, "jobs", "show", job["id"], "--json"))["id"] == job["id"]
    assert job["id"] in await run_cli(stack, "jobs", "list")
    assert [w["id"] for w in json.loads(await run_cli(stack, "workers", "--json"))] == ["modelserver-0"]
    assert "shapes" in await run_cli(stack, "models")
    made = json.loads(await run_cli(stack, "keys", "create", "acme", "--tier", "pro", "--json"))
    assert made["secret"].startswith("dk_")
    assert json.loads(await run_cli(stack, "keys", "revoke", made["key"]["id"], "--json"))["revoked_s"]
    await run_cli(stack, "jobs", "delete", job["id"])


async def test_a_deleted_job_takes_its_picture_along(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/jobs", json={"prompt": ASKED.prompt, "seed": 99, "steps": 4}, headers={"prefer": "wait=60"}, timeout=70
    )
    assert (answer.status_code, answer.json()["state"]) == (200, "SUCCEEDED")
    url, path = answer.json()["images"][0]["url"], f"/v1/jobs/{answer.json()['id']}"
    assert (await client.get(url)).status_code == 200
    assert (await client.delete(path)).status_code == 200
    assert [(await client.get(p)).status_code for p in (path, f"{path}/images/0", url)] == [404, 404, 404]


async def test_an_idempotency_key_leads_to_one_job(client: httpx.AsyncClient) -> None:
    body, key = {"prompt": ASKED.prompt, "steps": 2}, {"idempotency-key": "once-and-only-once"}
    answers = [await client.post("/v1/jobs", json=body, headers=key) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 1
    other = await client.post("/v1/jobs", json={"prompt": "a blue square"}, headers=key)
    assert (other.status_code, other.json()["details"][0]["reason"]) == (400, "IDEMPOTENCY_KEY_REUSED")


@pytest.mark.parametrize("path", ["/healthz", "/", "/v1/models"])
async def test_what_else_the_door_serves(stack: RunningStack, path: str) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url) as nobody:
        assert (await nobody.get(path)).status_code == 200
