from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from libs import roles
from libs.roles import ENVOY, GATEWAY, MODELSERVER, OPERATOR, RATELIMITER, SCHEDULER
from libs.rpc.callers import CALLERS, may_call

PROTOS = Path(__file__).parents[4] / "protos"


def callers_of(method: str) -> set[str]:
    return {role for role in roles.EVERY if may_call(method, [roles.identity(role)])}


@pytest.mark.parametrize(
    ("method", "callers"),
    [
        ("/darkroom.v1.GenerationService/CreateJob", {ENVOY}),
        ("/envoy.service.auth.v3.Authorization/Check", {ENVOY}),
        ("/darkroom.ratelimiter.v1.LimiterService/Reserve", {GATEWAY, SCHEDULER, OPERATOR}),
        ("/darkroom.ratelimiter.v1.AccountService/Any", {GATEWAY}),
        ("/darkroom.ratelimiter.v1.AdminService/CreateKey", {OPERATOR}),
        ("/darkroom.ratelimiter.v1.TenantService/Any", {OPERATOR}),
        ("/darkroom.ratelimiter.v1.UsageService/Any", {OPERATOR}),
        ("/darkroom.ratelimiter.v1.WebhookService/Any", {GATEWAY}),
        ("/darkroom.scheduler.v1.DeliveryService/Any", {GATEWAY}),
        ("/darkroom.scheduler.v1.SchedulerService/Submit", {GATEWAY, RATELIMITER, SCHEDULER, OPERATOR}),
        ("/darkroom.scheduler.v1.AdminService/Drain", {OPERATOR, SCHEDULER}),
        ("/darkroom.modelserver.v1.ModelServerService/Execute", {SCHEDULER}),
        ("/grpc.health.v1.Health/Check", set(roles.EVERY)),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", set(roles.EVERY)),
        ("/somebody.Elses/Call", set()),
    ],
)
def test_each_call_has_its_callers(method: str, callers: set[str]) -> None:
    assert callers_of(method) == callers


def test_who_has_no_role_may_call_nothing() -> None:
    for method in (*(prefix + "Call" for prefix in CALLERS), "/darkroom.ratelimiter.v1.AdminService/CreateKey"):
        assert not may_call(method, [])
        assert not may_call(method, [roles.client_identity(role) for role in roles.EVERY])
        assert not may_call(method, ["operator", "spiffe://elsewhere/operator"])


def test_every_service_of_ours_has_callers() -> None:
    services = []
    for proto in (PROTOS / "darkroom").rglob("*_service.proto"):
        name = proto.relative_to(PROTOS)
        import_module(str(name.with_suffix("")).replace("/", ".") + "_pb2")
        services += descriptor_pool.Default().FindFileByName(str(name)).services_by_name.values()
    assert len(services) >= 8
    assert [s.full_name for s in services if not callers_of(f"/{s.full_name}/Any")] == []
    assert [s.full_name for s in services if MODELSERVER in callers_of(f"/{s.full_name}/Any")] == []
