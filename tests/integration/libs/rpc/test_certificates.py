"""A listener and channels that know each other by certificates, over real connections."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub

from libs import certificates, roles
from libs.errors import DarkroomError, PermissionDenied, Unavailable
from libs.rpc import health
from libs.rpc.channel import open_channel, open_secure_channel
from libs.rpc.identity import Identity
from libs.rpc.mesh import Mesh
from libs.rpc.status import translated

METHOD = "/darkroom.modelserver.v1.Probe/"
DEADLINE_S = 10


async def who(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    return next(iter(context.auth_context()["x509_pem_cert"]))


async def whos(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
    for _ in range(2):
        yield next(iter(context.auth_context()["x509_pem_cert"]))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certificates.init(tmp_path / "tls", datetime.now(UTC))
    return tmp_path / "tls"


@asynccontextmanager
async def listening(folder: Path, role: str = roles.MODELSERVER) -> AsyncIterator[str]:
    """Give the address of a process of that role."""
    server = Mesh("", "", Identity(folder, role)).server("127.0.0.1:0")
    methods = {"Who": grpc.unary_unary_rpc_method_handler(who), "Whos": grpc.unary_stream_rpc_method_handler(whos)}
    handler = grpc.method_handlers_generic_handler(METHOD.strip("/"), methods)
    server.grpc.add_generic_rpc_handlers((handler,))
    await server.start(())
    await server.set_ready(True)
    yield f"127.0.0.1:{server.port}"
    await server.grpc.stop(None)


async def ask(channel: Any, *, patiently: bool = False) -> bytes:
    with translated("probe"):
        return await channel.unary_unary(METHOD + "Who")(b"", timeout=DEADLINE_S, wait_for_ready=patiently)


def ask_twice(channel: Any) -> Any:
    return channel.unary_stream(METHOD + "Whos")(b"", timeout=DEADLINE_S)


async def test_the_right_role_is_let_in_and_known(folder: Path) -> None:
    async with listening(folder) as address:
        scheduler = Identity(folder, roles.SCHEDULER)
        async with open_secure_channel(address, roles.MODELSERVER, identity=scheduler) as channel:
            assert (await ask(channel)).strip() == scheduler.papers().certificate.strip()
            stream = ask_twice(channel)
            assert len([part async for part in stream]) == 2


@pytest.mark.parametrize("role", [roles.GATEWAY, roles.ENVOY, roles.OPERATOR, "clients/scheduler"])
async def test_another_role_is_refused_in_words(folder: Path, role: str) -> None:
    if role.startswith("clients/"):
        certificates.issue(folder, role, datetime.now(UTC))
    caller = Identity(folder, role)
    async with (
        listening(folder) as address,
        open_secure_channel(address, roles.MODELSERVER, identity=caller) as channel,
    ):
        with pytest.raises(PermissionDenied, match="may make this call") as refusal:
            await ask(channel)
        assert refusal.value.reason == "CERTIFICATE_ROLE"
        stream = ask_twice(channel)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
        assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_caller_of_the_door_learns_nothing_inside_though_its_authority_is_ours(folder: Path) -> None:
    for name in ("clients/acme", "clients/operator"):
        certificates.issue(folder, name, datetime.now(UTC))
    for role in roles.SERVICES:
        async with listening(folder, role) as address:
            for name in ("clients/acme", "clients/operator"):
                connect = health.connect_as(Identity(folder, name), role)
                assert not await health.serves(address, connect=connect)
                async with connect(address) as channel:
                    assert await refusal_of(HealthStub(channel).Watch(HealthCheckRequest())) == "CERTIFICATE_ROLE"
                    asked = ServerReflectionStub(channel).ServerReflectionInfo()
                    assert await refusal_of(asked) == "CERTIFICATE_ROLE"
            ours = health.connect_as(Identity(folder, roles.OPERATOR), role)
            assert await health.serves(address, connect=ours)
            async with ours(address) as channel:
                watched = HealthStub(channel).Watch(HealthCheckRequest())
                assert (await watched.read()).status == HealthCheckResponse.SERVING
                watched.cancel()


async def refusal_of(call: Any) -> str:
    """Return the reason with which a stream is refused."""
    with pytest.raises(DarkroomError) as error, translated("probe"):
        await call.read()
    return error.value.reason


async def test_without_a_certificate_of_the_mesh_there_is_no_connection(folder: Path, tmp_path: Path) -> None:
    certificates.init(tmp_path / "theirs", datetime.now(UTC))
    stranger = Identity(tmp_path / "theirs", roles.SCHEDULER)
    believing = grpc.ssl_channel_credentials((folder / "ca" / "tls.crt").read_bytes())
    named = (("grpc.ssl_target_name_override", roles.MODELSERVER),)
    async with listening(folder) as address:
        for channel in (
            open_channel(address, mesh_token="m" * 20),
            open_secure_channel(address, roles.MODELSERVER, identity=stranger),
            grpc.aio.secure_channel(address, believing, options=named),
        ):
            async with channel:
                with pytest.raises(Unavailable):
                    await ask(channel)
        assert not await health.serves(address)


async def test_a_caller_believes_only_the_role_that_it_called(folder: Path) -> None:
    caller = Identity(folder, roles.SCHEDULER)
    async with listening(folder, roles.GATEWAY) as address:
        async with open_secure_channel(address, roles.MODELSERVER, identity=caller) as channel:
            with pytest.raises(Unavailable):
                await ask(channel)
        assert not await health.serves(address, connect=health.connect_as(caller, roles.MODELSERVER))
        assert await health.serves(address, connect=health.connect_as(caller, roles.GATEWAY))


async def test_a_renewal_on_both_sides_is_taken_without_a_restart(folder: Path) -> None:
    now = datetime.now(UTC)
    async with listening(folder) as address:
        caller = Identity(folder, roles.SCHEDULER)
        async with open_secure_channel(address, roles.MODELSERVER, identity=caller) as channel:
            method: Any = channel.unary_unary(METHOD + "Who")
            before = await method(b"", timeout=DEADLINE_S)
            stream = ask_twice(channel)
            await stream.read()
            for role in (roles.MODELSERVER, roles.SCHEDULER):
                certificates.issue(folder, role, now, life=timedelta(days=7))
            after = await method(b"", timeout=DEADLINE_S)
            assert after.strip() == (folder / "scheduler" / "tls.crt").read_bytes().strip() != before.strip()
            assert await stream.read() == before


@pytest.mark.parametrize("role", [roles.SCHEDULER, roles.MODELSERVER])
async def test_what_has_ended_on_either_side_is_refused_until_it_is_renewed(folder: Path, role: str) -> None:
    now = datetime.now(UTC)
    certificates.issue(folder, role, now - timedelta(days=8), life=timedelta(days=7))
    async with listening(folder) as address:
        caller = Identity(folder, roles.SCHEDULER)
        async with open_secure_channel(address, roles.MODELSERVER, identity=caller) as channel:
            with pytest.raises(DarkroomError):
                await ask(channel)
            certificates.renew(folder, now)
            assert await ask(channel, patiently=True)
