"""The real Envoy between a caller with TLS and stand-ins that ask for certificates of the mesh."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from darkroom.v1 import generation_service_pb2_grpc as api_grpc
from libs import certificates, roles
from libs.rpc.identity import Identity
from libs.rpc.mesh import Mesh
from libs.testing.envoy import EnvoyServer
from tests.integration.services.gateway.edge import Asked, StandIn, authorization


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.init(tmp_path / "tls", datetime.now(UTC))
    certificates.issue(tmp_path / "tls", "clients/acme", datetime.now(UTC))
    return tmp_path / "tls"


@asynccontextmanager
async def door(folder: Path, *flags: str, gateway: str = roles.GATEWAY, mesh: str = roles.ENVOY) -> AsyncIterator[str]:
    """Give host:port of an Envoy with the certificate of `mesh` before a gateway with that of `gateway`."""
    fronts = [Mesh("", "", Identity(folder, role)).server("127.0.0.1:0") for role in (gateway, roles.RATELIMITER)]
    api_grpc.add_GenerationServiceServicer_to_server(StandIn(), fronts[0].grpc)
    fronts[1].grpc.add_generic_rpc_handlers((authorization(Asked()),))
    secrets = folder.parent / "secrets"
    secrets.mkdir(exist_ok=True)
    secured = ("--mesh-certificates", str(folder / mesh), "--secrets", str(secrets), *flags)
    async with AsyncExitStack() as stack:
        for front in fronts:
            await front.start(())
            stack.push_async_callback(front.grpc.stop, 0)
        upstreams = [f"127.0.0.1:{front.port}" for front in fronts]
        envoy = EnvoyServer(gateway=upstreams[0], ratelimiter=upstreams[1], mesh_token="", flags=secured)
        yield (await stack.enter_async_context(envoy)).address


def door_flags(folder: Path) -> tuple[str, ...]:
    return ("--door-certificate", str(folder / "door" / "tls.crt"), "--door-key", str(folder / "door" / "tls.key"))


async def ask(address: str, context: ssl.SSLContext | None = None) -> httpx.Response:
    scheme = "https" if context else "http"
    async with httpx.AsyncClient(verify=context or True, timeout=10, trust_env=False) as caller:
        return await caller.get(f"{scheme}://{address}/v1/jobs/job_7")


def believing(folder: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=folder / "door" / "ca.crt")


async def test_a_door_with_certificates_before_a_mesh_of_certificates(folder: Path) -> None:
    clients = ("--door-clients", str(folder / "door" / "ca.crt"))
    async with door(folder, *door_flags(folder), *clients) as address:
        with pytest.raises(httpx.TransportError):
            await ask(address)
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            await ask(address, believing(folder))
        known = believing(folder)
        known.load_cert_chain(folder / "clients" / "acme" / "tls.crt", folder / "clients" / "acme" / "tls.key")
        answer = await ask(address, known)
        assert (answer.status_code, answer.json()["id"]) == (202, "job_7")
        known.set_alpn_protocols(["h2", "http/1.1"])
        assert await asyncio.to_thread(spoken, address, known) == ("h2", "TLSv1.3")
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.to_thread(spoken, address, ssl.create_default_context())


def spoken(address: str, context: ssl.SSLContext) -> tuple[str | None, str | None]:
    """Return the protocols that a connection agrees on."""
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host, int(port)), 5) as plain,
        context.wrap_socket(plain, server_hostname=host) as on,
    ):
        return on.selected_alpn_protocol(), on.version()


@pytest.mark.slow
async def test_who_is_not_the_gateway_is_not_called_whatever_its_address(folder: Path) -> None:
    async with door(folder, gateway=roles.SCHEDULER) as address:
        assert (await ask(address)).status_code == 503


@pytest.mark.slow
async def test_who_is_not_envoy_is_let_in_by_nobody(folder: Path) -> None:
    async with door(folder, mesh=roles.OPERATOR) as address:
        assert (await ask(address)).json()["details"][0]["reason"] == "LIMITER_DEGRADED"
