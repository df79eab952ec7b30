"""The gateway behind the real Envoy: what a REST client sees of it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from envoy_data_plane.envoy.config.core.v3 import HeaderValue, HeaderValueOption
from envoy_data_plane.envoy.service.auth.v3 import CheckRequest, CheckResponse, OkHttpResponse
from envoy_data_plane.google.rpc import Status
from PIL import Image

from darkroom.v1 import job_pb2
from libs import scopes
from libs.blobs.memory import MemoryBlobs
from libs.blobs.store import image_key
from libs.clients.limiter import LimiterClient
from libs.clients.public import PublicClient
from libs.clients.scheduler import SchedulerClient
from libs.clock import SystemClock
from libs.generation.model import Model, ModelDefaults
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer
from libs.secret_files import SigningKeys
from libs.testing.envoy import EnvoyServer
from services.gateway.app import SERVICES, Gateway
from tests.integration.services.gateway.peers import LIMITS, MESH, FakeLimiter, FakeScheduler

pytestmark = pytest.mark.asyncio(loop_scope="module")

PICTURE = os.urandom(3_000_000)
SHA = hashlib.sha256(PICTURE).hexdigest()
MODELS = (
    Model("shapes", "abc", "P", workers=1),
    Model("watercolour", "1", "P", tasks=("text", "image"), defaults=ModelDefaults(strength=0.8), workers=1),
)


@dataclass
class Edge:
    """Everything between a REST client and two fake peers."""

    scheduler: FakeScheduler
    client: httpx.AsyncClient
    address: str

    async def create(self, document: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.client.post("/v1/jobs", content=json.dumps(document), headers=headers)

    async def finished(self) -> dict[str, Any]:
        """Create a job and return it with its picture."""
        made = (await self.create({"prompt": "a"})).json()
        self.scheduler.jobs[made["id"]].images.add(sha256=SHA, content_type="image/png", width=64, height=64)
        answer: dict[str, Any] = (await self.client.get(f"/v1/jobs/{made['id']}")).json()
        return answer


def doorkeeper() -> grpc.GenericRpcHandler:
    """Let everybody in: with `Authorization: Bearer NAME` as tenant NAME, else as anonymous."""

    async def check(request: Any, _context: Any) -> CheckResponse:
        given = request.attributes.request.http.headers.get("authorization", "")
        tenant, tier = (given.removeprefix("Bearer "), "pro") if given else ("anon:127.0.0.1", "anonymous")
        headers = {"x-darkroom-tenant": tenant, "x-darkroom-tier": tier, "x-darkroom-key-id": "key_1" if given else ""}
        headers["x-darkroom-scopes"] = scopes.text(scopes.USUAL)
        options = [HeaderValueOption(header=HeaderValue(key=name, value=value)) for name, value in headers.items()]
        return CheckResponse(status=Status(code=0), ok_response=OkHttpResponse(headers=options))

    method = grpc.unary_unary_rpc_method_handler(check, CheckRequest.parse, bytes)
    return grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": method})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge() -> AsyncIterator[Edge]:
    scheduler, limiter, blobs = FakeScheduler(models=MODELS), FakeLimiter(), MemoryBlobs()
    await blobs.put(image_key(SHA), PICTURE, "image/png")
    async with AsyncExitStack() as stack:
        peers = [await scheduler.serve(), await limiter.serve()]
        channels = [
            await stack.enter_async_context(open_channel(f"127.0.0.1:{peer.port}", mesh_token=MESH)) for peer in peers
        ]
        keys = SigningKeys("k1", {"k1": b"1" * 32})
        gateway = Gateway(SchedulerClient(channels[0]), LimiterClient(channels[1]), blobs, keys, SystemClock())
        front, door = RpcServer("127.0.0.1:0", mesh_token=MESH), grpc.aio.server()
        gateway.add_to(front.grpc)
        await front.start(SERVICES)
        door.add_generic_rpc_handlers((doorkeeper(),))
        door_port = door.add_insecure_port("127.0.0.1:0")
        await door.start()
        for server in (*(peer.grpc for peer in peers), front.grpc, door):
            stack.push_async_callback(server.stop, 0)
        stack.callback(asyncio.create_task(gateway.watcher.run()).cancel)
        await gateway.catalog.arrived()
        upstreams = {"gateway": f"127.0.0.1:{front.port}", "ratelimiter": f"127.0.0.1:{door_port}"}
        envoy = await stack.enter_async_context(EnvoyServer(**upstreams, mesh_token=MESH))
        bearer = {"authorization": "Bearer acme"}
        client = httpx.AsyncClient(base_url=f"http://{envoy.address}", headers=bearer, timeout=30)
        yield Edge(scheduler, await stack.enter_async_context(client), envoy.address)


async def test_a_job_is_accepted(edge: Edge) -> None:
    answer = await edge.create({"prompt": "a"}, **{"idempotency-key": "once"})
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, f"/v1/jobs/{made['id']}")
    assert (made["state"], made["images"], answer.headers[LIMITS[0]]) == ("QUEUED", [], LIMITS[1])
    assert answer.headers["retry-after"].isdecimal()
    assert (await edge.create({"prompt": "b"}, **{"idempotency-key": "once"})).status_code == 400


async def test_a_wait_answers_200(edge: Edge) -> None:
    answer = await edge.create({"prompt": "a"}, prefer="wait=20")
    assert (answer.status_code, answer.json()["state"]) == (200, "SUCCEEDED")
    assert answer.headers["preference-applied"] == "wait=20"


async def test_the_largest_refusal_arrives_whole(edge: Edge) -> None:
    fields = job_pb2.JobSpec.DESCRIPTOR.fields
    wrong: dict[str, Any] = {field.name: 1 if field.name == "loras" else [] for field in fields}
    answer = await edge.create({**wrong, **{f"{number}" + "é" * 60: 1 for number in range(300)}})
    details = {detail["@type"].rpartition(".")[2]: detail for detail in answer.json()["details"]}
    named = {violation["field"] for violation in details["BadRequest"]["field_violations"]}
    assert (answer.status_code, named >= set(wrong)) == (400, True)
    assert details["ErrorInfo"]["reason"] == "INVALID_REQUEST"
    assert "more fields are invalid" in answer.json()["message"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"prompt": "a", "steps": "many"}', "INVALID_REQUEST"),
        (b'{"prompt": "a", "stepz": 1}', "UNKNOWN_FIELD"),
        (b'{"prompt": ', "MALFORMED_JSON"),
        (b"", "MALFORMED_JSON"),
        (b"\xff", "MALFORMED_JSON"),
        (b'{"prompt": "a", "width": 7}', "INVALID_DIMENSIONS"),
        (json.dumps({"prompt": "x" * 10_000}).encode(), "INVALID_REQUEST"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs:estimate"])
async def test_bad_bodies_are_400_with_one_reason(edge: Edge, path: str, body: bytes, reason: str) -> None:
    answer = await edge.client.post(path, content=body)
    reasons = [detail["reason"] for detail in answer.json()["details"] if "reason" in detail]
    assert (answer.status_code, reasons) == (400, [reason])


async def test_events_need_no_key_with_their_token(edge: Edge) -> None:
    made = (await edge.create({"prompt": "a"})).json()
    answer = await edge.client.get(made["events_url"], headers={"authorization": ""})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    names = [line for line in answer.text.splitlines() if line.startswith(("event:", "id:"))]
    assert names == ["event: queued", "id: 1", "event: started", "id: 2", "event: completed", "id: 3"]
    seen = await edge.client.get(f"/v1/jobs/{made['id']}/events", headers={"last-event-id": "3"})
    assert (seen.status_code, seen.content) == (204, b"")


async def test_a_large_picture_arrives_byte_exact(edge: Edge) -> None:
    made = await edge.finished()
    keyed = await edge.client.get(f"/v1/jobs/{made['id']}/images/0")
    linked = await edge.client.get(made["images"][0]["url"], headers={"authorization": ""})
    for answer, scope in ((keyed, "private"), (linked, "public")):
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
        assert answer.content == PICTURE
        assert answer.headers["cache-control"].startswith(scope)
        unchanged = {"if-none-match": answer.headers["etag"]}
        again = await edge.client.get(answer.request.url, headers=unchanged)
        assert (again.status_code, again.content) == (304, b"")


async def test_what_is_not_there_is_404(edge: Edge) -> None:
    made = await edge.finished()
    cut = made["images"][0]["url"][:-3]
    strangers = {"authorization": "Bearer other"}
    for path in (f"/v1/jobs/{made['id']}", f"/v1/jobs/{made['id']}/events", f"/v1/jobs/{made['id']}/images/0", cut):
        assert (await edge.client.get(path, headers=strangers)).status_code == 404
    assert (await edge.client.get(f"/v1/jobs/{made['id']}/images/7")).status_code == 404


async def test_pages_of_jobs(edge: Edge) -> None:
    bearer = {"authorization": "Bearer pager"}
    for _ in range(3):
        assert (await edge.create({"prompt": "one of three"}, **bearer)).status_code == 202

    async def page(**more: str) -> httpx.Response:
        return await edge.client.get("/v1/jobs", params={"page_size": 2, "state": "QUEUED", **more}, headers=bearer)

    token = (await page()).json()["next_page_token"]
    assert (await page(page_token=token)).status_code == 200
    assert (await page(page_token=token, state="FAILED")).status_code == 400


async def test_a_page_of_the_longest_jobs_arrives_whole(edge: Edge) -> None:
    longest = {"prompt": "\N{ARTIST PALETTE}" * 2000, "negative_prompt": "\x01" * 2000}  # 4 bytes; 6 in JSON
    bearer = {"authorization": "Bearer wordy"}
    for _ in range(200):
        assert (await edge.create(longest, **bearer)).status_code == 202
    answer = await edge.client.get("/v1/jobs", params={"page_size": 200}, headers=bearer)
    assert (answer.status_code, len(answer.json().get("jobs", []))) == (200, 200)


async def test_documents(edge: Edge) -> None:
    health = await edge.client.get("/healthz")
    assert (health.status_code, health.json()["status"]) == (200, "ok")
    page = await edge.client.get("/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    again = await edge.client.get("/", headers={"if-none-match": page.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    models = (await edge.client.get("/v1/models")).json()
    assert (models["object"], models["data"][0]["id"]) == ("list", "shapes")
    assert (await edge.client.get("/v1/models/nope")).status_code == 404


def photograph(width: int = 1500, height: int = 1000) -> bytes:
    """Return a JPEG of noise, taken sideways: several MB."""
    exif = Image.Exif()
    exif[0x0112] = 6
    kept = io.BytesIO()
    Image.frombytes("RGB", (width, height), os.urandom(width * height * 3)).save(kept, "JPEG", quality=95, exif=exif)
    return kept.getvalue()


def reason_of(answer: httpx.Response) -> str:
    return next(detail["reason"] for detail in answer.json()["details"] if "reason" in detail)


async def test_a_picture_is_taken_in_and_a_request_starts_from_it(edge: Edge) -> None:
    data = photograph()
    assert len(data) > 1_000_000
    answer = await edge.client.post("/v1/uploads", content=data, headers={"content-type": "text/plain"})
    upload = answer.json()
    assert (answer.status_code, upload["content_type"], upload["size_bytes"]) == (201, "image/jpeg", len(data))
    assert (upload["width"], upload["height"]) == (1000, 1500)
    assert answer.headers[LIMITS[0]] == LIMITS[1]
    asked = {"prompt": "a", "model": "watercolour", "input_image": upload["id"]}
    spec = (await edge.create(asked)).json()["spec"]
    assert (spec["input_image"], spec["strength"]) == (upload["id"], 0.8)
    submitted = edge.scheduler.requests[-1].spec
    assert (submitted.input_image, submitted.strength) == (upload["id"], 0.8)
    stranger = await edge.create(asked, authorization="Bearer other")
    assert (stranger.status_code, reason_of(stranger)) == (404, "UPLOAD_NOT_FOUND")
    old = {**asked, "input_image": "upl_01HF7YAT000000000000000000"}
    for path in ("/v1/jobs", "/v1/jobs:estimate"):
        over = await edge.client.post(path, content=json.dumps(old))
        assert (over.status_code, reason_of(over)) == (400, "UPLOAD_EXPIRED")
    words_only = await edge.create({**asked, "model": "shapes"})
    assert (words_only.status_code, reason_of(words_only)) == (400, "INVALID_REQUEST")


async def test_callers_without_a_key_and_over_grpc_send_pictures_too(edge: Edge) -> None:
    data = photograph(64, 48)
    anonymous = {"authorization": ""}
    upload = (await edge.client.post("/v1/uploads", content=data, headers=anonymous)).json()
    asked = {"prompt": "a", "model": "watercolour", "input_image": upload["id"]}
    assert (await edge.create(asked, **anonymous)).status_code == 202
    assert (await edge.create(asked)).status_code == 404
    async with grpc.aio.insecure_channel(edge.address) as channel:
        client = PublicClient(channel, "acme")
        typed = await client.upload(photograph())
        job = await client.create(job_pb2.JobSpec(prompt="a", model="watercolour", input_image=typed.id), "")
        assert (typed.width, job.spec.input_image) == (1000, typed.id)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "PICTURE_UNREADABLE"),
        (b"GIF89a", 400, "PICTURE_UNREADABLE"),
        (b"\xff\xd8\xff" + bytes(21_000_000), 413, "REQUEST_TOO_LARGE"),
    ],
)
async def test_what_is_no_picture_is_refused(edge: Edge, body: bytes, status: int, reason: str) -> None:
    answer = await edge.client.post("/v1/uploads", content=body)
    assert (answer.status_code, reason_of(answer)) == (status, reason)
    assert answer.headers["x-request-id"]


async def test_other_bodies_are_still_bounded_at_the_door(edge: Edge) -> None:
    answer = await edge.client.post("/v1/jobs", content=bytes(300_000))
    assert (answer.status_code, reason_of(answer)) == (413, "REQUEST_TOO_LARGE")
