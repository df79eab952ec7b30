"""What each process is given, and what a person is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from libs import secret_files
from libs.devstack import devices, envoy_config
from libs.devstack.addresses import Addresses
from libs.devstack.folder import DataFolder
from libs.devstack.process import Process
from libs.devstack.settings import StackSettings
from libs.devstack.stack import Stack, service_names
from libs.devstack.up import welcome
from libs.settings import BadSetting, load
from services.gateway.settings import Settings as Gateway
from services.modelserver.settings import ModelServerSettings as Modelserver
from services.ratelimiter.settings import Settings as Ratelimiter
from services.scheduler.settings import Settings as Scheduler

EVERY_SERVICE = {"DATA", "LISTEN", "METRICS_LISTEN", "LOG_LEVEL", "LOG_FORMAT", "DRAIN_S"}
CHECKPOINTS = {"CHECKPOINT_STEPS", "CHECKPOINT_S", "CHECKPOINT_WORTH_S"}
MODELS = {"SLOTS", "MODEL_MEMORY_GB", "IDLE_S"}
MODELSERVER = {"WORKER_ID", "DEVICE", "ETCD_ENDPOINTS", "LEASE_TTL_S", "THREADS"} | CHECKPOINTS | MODELS
OWN = {
    "gateway": {"SCHEDULER_ADDRESS", "LIMITER_ADDRESS"},
    "scheduler": {"ETCD_ENDPOINTS", "LIMITER_ADDRESS", "LEASE_TTL_S"},
    "ratelimiter": {"RESERVATION_TTL_S", "WRONG_KEYS_PER_MIN"},
    "modelserver-0": MODELSERVER,
    "modelserver-1": MODELSERVER,
}


def make_stack(root: Path, chosen: tuple[str, ...] = ("cuda:0", "cpu"), **settings: str) -> Stack:
    names = service_names(chosen, int(settings.get("DARKROOM_SCHEDULERS", 1)))
    addresses = Addresses(
        http="127.0.0.1:8080",
        grpc={name: f"127.0.0.1:{20000 + index}" for index, name in enumerate(names)},
        metrics={name: f"127.0.0.1:{21000 + index}" for index, name in enumerate(names)},
        etcd="127.0.0.1:22000",
        etcd_peer="127.0.0.1:22001",
        envoy_admin="127.0.0.1:22002",
        redis="127.0.0.1:22003" if settings.get("DARKROOM_REDIS") == "embedded" else "",
    )
    parent = {
        "PATH": "/bin",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:1",
        "ETCD_NAME": "other",
        "DARKROOM_DATA": "elsewhere",
    }
    stack = Stack(load(StackSettings, settings), chosen, DataFolder(root), addresses, parent)
    secret_files.ensure(stack.secrets)
    return stack


def processes(stack: Stack) -> dict[str, Process]:
    return {process.name: process for group in stack.groups() for process in group}


def own_variables(process: Process) -> set[str]:
    return {name.removeprefix("DARKROOM_") for name in process.env if name.startswith("DARKROOM_")}


def test_the_order_of_starting(tmp_path: Path) -> None:
    names = [[process.name for process in group] for group in make_stack(tmp_path).groups()]
    assert names == [
        ["etcd", "ratelimiter"],
        ["scheduler"],
        ["modelserver-0", "modelserver-1"],
        ["gateway"],
        ["envoy"],
    ]


def test_several_schedulers_are_replicas_and_whoever_calls_knows_all(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, DARKROOM_SCHEDULERS="3", DARKROOM_DATABASE_URL="postgresql+asyncpg://x")
    assert [process.name for process in stack.groups()[1]] == ["scheduler", "scheduler-1", "scheduler-2"]
    started = processes(stack)
    listens = [started[name].env["DARKROOM_LISTEN"] for name in ("scheduler", "scheduler-1", "scheduler-2")]
    assert started["gateway"].env["DARKROOM_SCHEDULER_ADDRESS"] == ",".join(listens)
    assert len(set(listens)) == 3
    path = tmp_path / "addresses.json"
    stack.addresses.write(path)
    assert json.loads(path.read_text())["scheduler"] == ",".join(listens)


def test_each_service_gets_its_own_variables_and_no_others(tmp_path: Path) -> None:
    started = processes(make_stack(tmp_path))
    for name, own in OWN.items():
        assert own_variables(started[name]) == EVERY_SERVICE | own, name
        assert started[name].env["DARKROOM_DATA"] == str(tmp_path)
        assert started[name].env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:1"
    assert own_variables(started["envoy"]) == {"MESH_TOKEN"}
    assert own_variables(started["etcd"]) == set()
    assert "ETCD_NAME" not in started["etcd"].env


def test_with_certificates_the_services_are_told_where_and_envoy_shows_no_token(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, DARKROOM_MTLS="on")
    stack.trust.prepare(datetime.now(UTC))
    started = processes(stack)
    assert {started[name].env["DARKROOM_MTLS"] for name in OWN} == {str(tmp_path / "secrets" / "tls")}
    assert started["envoy"].env["DARKROOM_MESH_TOKEN"] == ""


def test_a_secured_door_says_how_it_is_called(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, DARKROOM_DOOR_TLS="mtls")
    text = welcome(stack)
    assert "https://localhost:8080/v1/jobs" in text
    for word in ("--cacert", "--cert", "--key"):
        assert f" {word} {tmp_path / 'secrets' / 'tls'}" in text
    assert welcome(make_stack(tmp_path)).count("https") == 0


def test_settings_reach_the_services_they_are_for(tmp_path: Path) -> None:
    started = processes(
        make_stack(
            tmp_path,
            DARKROOM_DATABASE_URL="postgresql+asyncpg://x",
            DARKROOM_MODELS="/models",
            DARKROOM_TIERS="tiers.toml",
            DARKROOM_RESERVATION_TTL_S="2",
            DARKROOM_FAILPOINT="after_reserve",
            PYTEST_VERSION="9",
            DARKROOM_BLOBS="s3://bucket",
            DARKROOM_COST_PER_DEVICE_HOUR="1234567",
            DARKROOM_IDLE_S="1234567.5",
        )
    )
    having = {
        variable: {name for name, process in started.items() if f"DARKROOM_{variable}" in process.env}
        for variable in ("DATABASE_URL", "MODELS", "TIERS", "FAILPOINT", "BLOBS")
    }
    servers = {"modelserver-0", "modelserver-1"}
    assert having == {
        "DATABASE_URL": {"scheduler", "ratelimiter"},
        "MODELS": servers,
        "TIERS": {"ratelimiter"},
        "FAILPOINT": {"gateway"},
        "BLOBS": {"gateway", "scheduler", *servers},
    }
    assert float(started["ratelimiter"].env["DARKROOM_RESERVATION_TTL_S"]) == 2
    assert float(started["scheduler"].env["DARKROOM_COST_PER_DEVICE_HOUR"]) == 1_234_567
    assert float(started["modelserver-0"].env["DARKROOM_IDLE_S"]) == 1_234_567.5


@pytest.mark.parametrize("lease_s", ["", "7"])
def test_every_service_takes_what_a_stack_hands_it(tmp_path: Path, lease_s: str) -> None:
    chosen = {"DARKROOM_LEASE_TTL_S": lease_s} if lease_s else {}
    started = processes(make_stack(tmp_path, ("cpu",), DARKROOM_DRAIN_S="0.5", DARKROOM_SLOTS="3", **chosen))
    taken = {"gateway": Gateway, "scheduler": Scheduler, "ratelimiter": Ratelimiter, "modelserver-0": Modelserver}
    for name, kind in taken.items():
        own = {variable: value for variable, value in started[name].env.items() if variable.startswith("DARKROOM_")}
        assert load(kind, own)


def test_only_a_modelserver_on_the_cpu_is_nice(tmp_path: Path) -> None:
    niceness = {name: process.niceness for name, process in processes(make_stack(tmp_path)).items()}
    assert {name for name, value in niceness.items() if value} == {"modelserver-1"}
    assert niceness["modelserver-1"] == 10


@pytest.mark.parametrize(
    ("endpoint", "given"),
    [
        ("", ()),
        ("http://127.0.0.1:5000", ("--otlp", "127.0.0.1:5000")),
        ("http://collector", ("--otlp", "collector:4317")),
        ("collector:9", ("--otlp", "collector:9")),
        ("https://collector:9", ()),
    ],
)
def test_envoy_exports_to_a_plain_collector(tmp_path: Path, endpoint: str, given: tuple[str, ...]) -> None:
    flags = envoy_config.flags(make_stack(tmp_path).addresses, endpoint)
    assert flags[8:] == given
    assert flags[:2] == ("--listen", "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("gpus", "visible", "expected"),
    [
        (0, None, ("cpu",)),
        (2, None, ("cuda:0", "cuda:1")),
        (4, "2,3", ("cuda:0", "cuda:1")),
        (4, "", ("cpu",)),
        (4, "-1", ("cpu",)),
        (1, "0,1", ("cuda:0",)),
        (4, "1,-1,2", ("cuda:0",)),
        (0, "0", ("cpu",)),
    ],
)
def test_default_devices(
    monkeypatch: pytest.MonkeyPatch, gpus: int, visible: str | None, expected: tuple[str, ...]
) -> None:
    monkeypatch.setattr(devices, "nvidia_gpus", lambda: gpus)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.default_devices() == expected


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("DARKROOM_DEVICES", "gpu0", "gpu0 is no device"),
        ("DARKROOM_DEVICES", "cuda:1,cpu,cpu,cuda:1", "twice"),
        ("DARKROOM_HTTP_PORT", "70000", "must be a port"),
        ("DARKROOM_LEASE_TTL_S", "0", "above 0"),
        ("DARKROOM_PORT", "1", "DARKROOM_PORT is unknown"),
    ],
)
def test_bad_settings_are_refused(name: str, value: str, complaint: str) -> None:
    with pytest.raises(BadSetting, match=complaint):
        load(StackSettings, {name: value})


def test_a_person_is_told_how_to_begin(tmp_path: Path) -> None:
    text = welcome(make_stack(tmp_path))
    assert f"KEY=$(cat {tmp_path}/dev-key)" in text
    assert "curl -i localhost:8080/v1/jobs -H" in text
    assert "http://localhost:8080/" in text
    assert text.rstrip().splitlines()[-1] == "Darkroom is ready at http://localhost:8080"


def test_a_redis_of_its_own_starts_first_and_the_ratelimiter_is_told(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, DARKROOM_REDIS="embedded")
    assert [process.name for process in stack.groups()[0]] == ["redis"]
    started = processes(stack)
    password = secret_files.read_token(stack.secrets, secret_files.REDIS_PASSWORD)
    assert started["ratelimiter"].env["DARKROOM_REDIS"] == f"redis://:{password}@{stack.addresses.redis}/0"
    assert stack.addresses.redis.rpartition(":")[2] in started["redis"].argv
    elsewhere = processes(make_stack(tmp_path, DARKROOM_REDIS="rediss://there/1"))
    assert elsewhere["ratelimiter"].env["DARKROOM_REDIS"] == "rediss://there/1"
    assert "redis" not in elsewhere


def test_the_password_of_its_redis_stands_where_only_its_owner_reads(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, DARKROOM_REDIS="embedded")
    started = processes(stack)
    password = secret_files.read_token(stack.secrets, secret_files.REDIS_PASSWORD)
    kept = tmp_path / "redis" / "redis.conf"
    assert started["redis"].argv[1] == str(kept)
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (f"requirepass {password}\n", 0o600)
    assert not [name for name, each in started.items() if any(password in word for word in each.argv)]
    assert [name for name, each in started.items() if password in str(each.env)] == ["ratelimiter"]
    stack.addresses.write(tmp_path / "addresses.json", stack.told)
    assert password not in (tmp_path / "addresses.json").read_text() + repr(stack._environment())


def test_envoy_is_told_what_one_address_may_send_and_whom_to_believe(tmp_path: Path) -> None:
    assert envoy_config.bounds(make_stack(tmp_path).settings) == ()
    told = make_stack(tmp_path, DARKROOM_BURSTS="off", DARKROOM_TRUSTED_HOPS="2").settings
    assert envoy_config.bounds(told) == ("--bursts", "off", "--trusted-hops", "2")


def test_envoy_is_told_whose_tokens_are_taken_and_the_ratelimiter_how_they_are_read(tmp_path: Path) -> None:
    stack = make_stack(
        tmp_path,
        DARKROOM_SIGN_UP="on",
        DARKROOM_JWT_ISSUER="https://login.example",
        DARKROOM_JWT_AUDIENCE="darkroom",
        DARKROOM_JWT_JWKS="/keys.json",
        DARKROOM_JWT_TIERS="pro,payg",
    )
    told = ("--jwt-issuer", "https://login.example", "--jwt-audience", "darkroom", "--jwt-jwks", "/keys.json")
    assert envoy_config.bounds(stack.settings) == told
    given = processes(stack)["ratelimiter"].env
    assert (given["DARKROOM_JWT_TIERS"], given["DARKROOM_SIGN_UP"]) == ("pro,payg", "on")
    assert "DARKROOM_JWT_TENANT_CLAIM" not in given
