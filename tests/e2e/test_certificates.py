"""A stack whose services know each other by certificates, behind a door with TLS."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from libs import certificates, roles
from libs.rpc import health
from libs.rpc.identity import Identity
from libs.testing import waiting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, door_context, http_client

PROMPT = "a red circle left of a blue square"
WITHIN_S = 60.0


async def draw(client: httpx.AsyncClient, seed: int) -> bytes:
    asked = {"prompt": PROMPT, "seed": seed, "steps": 4}
    made = await client.post("/v1/jobs", json=asked, headers={"prefer": "wait=30"})
    assert made.json()["state"] == "SUCCEEDED", made.text
    return (await client.get(f"/v1/jobs/{made.json()['id']}/images/0")).content


async def darkroom(stack: RunningStack, *arguments: str) -> Any:
    """Run a command against the stack, which it finds by its folder; return the JSON that it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("darkroom")),
        *("--data", str(stack.folder.root), *arguments, "--json"),
        env=inherited, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_S):
        told, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return json.loads(told)


def shown(address: str, context: ssl.SSLContext) -> bytes:
    """Return the certificate that a new connection is shown."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as plain, context.wrap_socket(plain) as secured:
        return secured.getpeercert(binary_form=True) or b""


def written(folder: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert((folder / "tls.crt").read_text())


def serial_number(folder: Path) -> int:
    return x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes()).serial_number


@pytest.mark.slow
async def test_a_picture_is_drawn_and_strangers_reach_nothing(start_stack: StartStack, tmp_path: Path) -> None:
    stack = await asyncio.to_thread(start_stack, DARKROOM_MTLS="on", DARKROOM_DOOR_TLS="mtls")
    folder = stack.folder.root / "secrets" / "tls"
    async with http_client(stack) as client:
        assert (await draw(client, 1)).startswith(b"\x89PNG")
        assert client.base_url.scheme == "https"
        await assert_only_the_mesh_gets_in(stack, folder, tmp_path)
        assert [one["state"] for one in await darkroom(stack, "schedulers")] == ["leads"]
        assert [one["id"] for one in await darkroom(stack, "workers")] == ["modelserver-0"]
        assert await darkroom(stack, "jobs", "list")
        await renew_all(stack, folder)
    async with http_client(stack) as client:
        assert (await draw(client, 2)).startswith(b"\x89PNG")


async def assert_only_the_mesh_gets_in(stack: RunningStack, folder: Path, elsewhere: Path) -> None:
    certificates.init(elsewhere / "theirs", datetime.now(UTC))
    ours, theirs = (Identity(place, roles.OPERATOR) for place in (folder, elsewhere / "theirs"))
    for role in roles.SERVICES:
        address = stack.addresses["modelserver-0" if role == roles.MODELSERVER else role]
        assert await health.serves(address, connect=health.connect_as(ours, role))
        assert not await health.serves(address, connect=health.connect_as(theirs, role))
        assert not await health.serves(address)
    async with httpx.AsyncClient(verify=ssl.create_default_context(cafile=folder / "door" / "ca.crt")) as nobody:
        with pytest.raises((httpx.TransportError, ssl.SSLError)):  # its reset may come before its reason
            await nobody.get(stack.base_url + "/livez")


async def renew_all(stack: RunningStack, folder: Path) -> None:
    """Issue everything anew; every listener must show it to who comes then, without a restart."""
    pids = {name: stack.pid(name) for name in stack.names()}
    for one in certificates.find(folder)[1:]:
        certificates.issue(folder, one.name, datetime.now(UTC), hosts=one.hosts)
    caller = ssl.create_default_context(cafile=folder / "gateway" / "ca.crt")
    caller.check_hostname = False
    caller.load_cert_chain(folder / "operator" / "tls.crt", folder / "operator" / "tls.key")
    for role in roles.SERVICES:
        address = stack.addresses["modelserver-0" if role == roles.MODELSERVER else role]
        assert await asyncio.to_thread(shown, address, caller) == written(folder / role)

    door = door_context(stack)
    door.check_hostname = False

    async def door_shows_it() -> bool:
        return await asyncio.to_thread(shown, stack.addresses["http"], door) == written(folder / "door")

    async def envoy_shows_the_mesh_its_own() -> bool:
        async with httpx.AsyncClient(trust_env=False) as client:
            told = (await client.get(f"http://{stack.addresses['envoy-admin']}/certs")).text
        return f"{serial_number(folder / 'envoy'):x}" in told

    await waiting.until(door_shows_it, WITHIN_S)
    await waiting.until(envoy_shows_the_mesh_its_own, WITHIN_S)
    assert {name: stack.pid(name) for name in stack.names()} == pids
