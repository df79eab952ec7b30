"""Which scope every public RPC needs, and that nothing is done without it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from darkroom.v1 import job_pb2
from libs import scopes
from libs.errors import PermissionDenied, Unauthenticated
from libs.ids import KeyId, TenantId
from libs.scopes import Scope
from services.gateway.app import SERVICES
from services.gateway.callers.identity import Caller
from services.gateway.callers.permissions import NEEDED, Guarded
from services.gateway.servicer import GenerationServicer
from services.gateway.webhooks.destinations import check_caller

GUARDED = sorted((method, scope) for method, scope in NEEDED.items() if scope is not None)


class Servicer:
    """Has every RPC as its like is declared, and writes down which were reached."""

    def __init__(self, streams: bool) -> None:
        self.reached: list[str] = []
        self._streams = streams

    def __getattr__(self, name: str) -> Any:
        async def answer(_request: Any, _context: Any) -> str:
            self.reached.append(name)
            return "done"

        async def stream(_request: Any, _context: Any) -> AsyncIterator[str]:
            self.reached.append(name)
            yield "done"

        return stream if self._streams else answer


def asked_by(allowed: scopes.Scopes, tier: str = "pro") -> Any:
    given = (("x-darkroom-tenant", "acme"), ("x-darkroom-tier", tier), ("x-darkroom-scopes", scopes.text(allowed)))
    return SimpleNamespace(invocation_metadata=lambda: given)


async def call(method: str, request: Any, context: Any, *, streams: bool) -> list[str]:
    """Call one RPC behind its guard and return what was reached."""
    service, name = method.split(".")
    servicer = Servicer(streams)
    answer = getattr(Guarded(servicer, service), name)(request, context)
    if streams:
        _ = [message async for message in answer]
    else:
        await answer
    return servicer.reached


def test_the_table_names_every_public_rpc_and_no_other():
    pool = descriptor_pool.Default()
    services = [pool.FindServiceByName(name) for name in SERVICES]
    assert {f"{service.name}.{method.name}" for service in services for method in service.methods} == set(NEEDED)


def test_an_rpc_that_the_table_does_not_name_is_not_served():
    with pytest.raises(KeyError, match=r"ForgottenService\.Do"):
        _ = Guarded(Servicer(streams=False), "darkroom.v1.ForgottenService").Do


def test_what_streams_still_streams_behind_the_guard():
    guarded = Guarded(GenerationServicer(None), "GenerationService")  # type: ignore[arg-type]
    assert inspect.isasyncgenfunction(guarded.WatchJob)
    assert inspect.isasyncgenfunction(guarded.DownloadBlob)
    assert inspect.iscoroutinefunction(guarded.CreateJob)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("method", "needed"), GUARDED)
async def test_all_scopes_but_the_needed_one_reach_nothing(method: str, needed: Scope, streams: bool):
    request = SimpleNamespace(token="")
    with pytest.raises(PermissionDenied, match=f"needs the scope {needed.value}") as caught:
        await call(method, request, asked_by(scopes.EVERY - {needed}), streams=streams)
    assert (caught.value.reason, caught.value.metadata) == ("SCOPE_MISSING", {"scope": needed.value})
    assert await call(method, request, asked_by(frozenset({needed})), streams=streams) == [method.split(".")[1]]


@pytest.mark.parametrize("metadata", [(), (("x-darkroom-scopes", "jobs:read"),), (("x-darkroom-tenant", "acme"),)])
async def test_whom_the_door_did_not_name_is_nobody(metadata: tuple[tuple[str, str], ...]):
    context = SimpleNamespace(invocation_metadata=lambda: metadata)
    with pytest.raises(Unauthenticated):
        await call("GenerationService.GetJob", SimpleNamespace(), context, streams=False)


async def test_a_door_that_says_nothing_of_scopes_allows_nothing():
    given = (("x-darkroom-tenant", "acme"), ("x-darkroom-tier", "pro"))
    context = SimpleNamespace(invocation_metadata=lambda: given)
    with pytest.raises(PermissionDenied):
        await call("GenerationService.GetJob", SimpleNamespace(), context, streams=False)


async def test_only_the_events_are_open_to_whoever_holds_their_token():
    nobody, request = asked_by(frozenset()), SimpleNamespace(token="signed")
    assert await call("GenerationService.StreamJobEvents", request, nobody, streams=True) == ["StreamJobEvents"]
    with pytest.raises(PermissionDenied):
        await call("GenerationService.WatchJob", request, nobody, streams=True)


async def test_what_needs_no_caller_asks_for_none():
    context = SimpleNamespace(invocation_metadata=lambda: ())
    for method in sorted(method for method, scope in NEEDED.items() if scope is None):
        assert await call(method, SimpleNamespace(), context, streams=False)


def test_a_webhook_needs_its_scope_and_a_job_without_one_does_not():
    without = Caller(TenantId("acme"), "pro", KeyId("key_1"), scopes.EVERY - {Scope.WEBHOOKS_WRITE})
    check_caller(without, job_pb2.JobSpec(prompt="a"))
    spec = job_pb2.JobSpec(prompt="a", webhook=job_pb2.Webhook(url="https://example.com/done"))
    with pytest.raises(PermissionDenied, match="needs the scope webhooks:write"):
        check_caller(without, spec)
    check_caller(Caller(TenantId("acme"), "pro", KeyId("key_1"), scopes.USUAL), spec)
