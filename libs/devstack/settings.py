"""What `make run` can be told through the environment. All of it has a default that works."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from libs import settings
from libs.devstack import redis


def _is_port(value: int) -> str | None:
    return None if 0 <= value <= 65535 else "must be a port, 0 (any free one) to 65535"


def _are_schedulers(value: int) -> str | None:
    return None if 1 <= value <= 9 else "must be 1 to 9"


def _are_hops(value: int) -> str | None:
    return None if 0 <= value <= 16 else "must be 0 to 16"


def _are_devices(values: tuple[str, ...]) -> str | None:
    wrong = [value for value in values if not re.fullmatch(r"cpu|cuda:\d+", value)]
    if wrong:
        return f"{wrong[0]} is no device; give a comma list of cpu, cuda:0, cuda:1, …"
    gpus = [value for value in values if value != "cpu"]  # a CPU can be shared
    return "names a GPU twice" if len(set(gpus)) < len(gpus) else None


@dataclass(frozen=True, slots=True)
class StackSettings:
    """Read from `DARKROOM_<FIELD>`; names that are not here are refused."""

    data: Path = Path(".darkroom")
    """Data folder; made with mode 0700. One stack at a time uses it."""
    http_host: str = "127.0.0.1"
    """Address that Envoy, the only door, listens on."""
    http_port: int = field(default=8080, metadata={"check": _is_port})
    """Port of the door; 0 takes a free one."""
    bursts: str = ""
    """What one address may send at once: `off`, or NAME=NUMBER with commas (docs/operations.md). Empty: as shipped."""
    trusted_hops: int = field(default=0, metadata={"check": _are_hops})
    """Proxies before the door whose X-Forwarded-For is believed; 0 believes nobody."""
    sign_up: str = ""
    """Who may make a free account: `off`, `on` or `invite`. Empty: off."""
    jwt_issuer: str = ""
    """Whose tokens are taken beside API keys. Empty: none. Audience and keys must be set with it."""
    jwt_audience: str = ""
    """Audience that a token must be for."""
    jwt_jwks: str = ""
    """File, read again when it changes, or URL of the issuer's keys."""
    jwt_tenant_claim: str = ""
    """Claim that names the tenant. Empty: `tenant`."""
    jwt_tier_claim: str = ""
    """Claim that names the tier of a tenant that is new. Empty: `tier`."""
    jwt_scope_claim: str = ""
    """Claim that names scopes. Empty: `scope`."""
    jwt_tiers: str = ""
    """Tiers that a token may give to a tenant that is new, with commas. Empty: only `free`."""
    devices: tuple[str, ...] = field(default=(), metadata={"check": _are_devices})
    """One modelserver each: `cpu`, also several times, or `cuda:N`. Empty: every visible NVIDIA GPU, else the CPU."""
    models: str = ""
    """Model folders, `:` between them. Empty: the model that is shipped."""
    threads: int = 0
    """Threads of a modelserver on the CPU; 0 means cores - 1."""
    secrets: str = ""
    """Folder of tokens and keys. Empty: `secrets` in the data folder."""
    mtls: str = ""
    """`on`: the services know each other by certificates of an authority of this stack's own, in `tls` among the
    secrets; a folder: by those there. Empty or `off`: by a token."""
    door_tls: str = field(default="off", metadata={"check": settings.one_of("off", "tls", "mtls")})
    """`tls`: the door speaks https; `mtls`: it also asks callers for a certificate."""
    door_cert: str = ""
    """File of the door's certificate and what belongs to its chain. Empty: one of this stack's own authority."""
    door_key: str = ""
    """File of its key."""
    door_ca: str = ""
    """File of the authorities whose certificates callers show to a door with mtls. Empty: this stack's own."""
    blobs: str = ""
    """Folder or s3:// address of image bytes. Empty: `blobs` in the data folder."""
    database_url: str = field(default="", metadata={"secret": True})
    """PostgreSQL of scheduler and ratelimiter. Empty: a SQLite file each in the data folder."""
    redis: str = field(default="", metadata={"check": redis.is_choice, "secret": True})
    """Where the ratelimiter keeps its balances: `embedded` starts a Redis with the stack, `redis://…` names one that
    others run. Empty: in its own memory, rebuilt from usage after a restart."""
    schedulers: int = field(default=1, metadata={"check": _are_schedulers})
    """Schedulers that take turns to lead, 1 to 9. Several need PostgreSQL; without a database_url one is started for
    them, from the test dependencies, in a temporary folder: for rehearsal, its jobs go with the stack."""
    tiers: str = ""
    """Path of tiers.toml. Empty: the one in the data folder; while there is none, the one that is shipped."""
    wrong_keys_per_min: float = field(default=10.0, metadata={"check": settings.is_positive})
    """Requests a minute with a wrong key or token, from one address, that are answered with 401; more with 429."""
    reputation: str = ""
    """Files of networks that make callers without a key suspect, with commas; a CIDR a line. Empty: none."""
    lease_ttl_s: int = field(default=5, metadata={"check": settings.is_positive})
    """Seconds after which a modelserver that says nothing counts as gone."""
    slots: int = 0
    """Most jobs that a modelserver draws side by side; 0 means as many as pay, as measured."""
    model_memory_gb: float = 0.0
    """Memory of a device for weights, in GiB; 0 means most of a GPU's, half of the machine's on a CPU."""
    idle_s: float = 0.0
    """Seconds after which a model that nobody asks for leaves the device; 0 means never."""
    checkpoint_steps: int = field(default=20, metadata={"check": settings.is_positive})
    """Denoising steps that a drawing may lose with its modelserver."""
    checkpoint_s: float = field(default=10.0, metadata={"check": settings.is_positive})
    """Seconds of drawing that it may lose, when that is less."""
    checkpoint_worth_s: float = 2.0
    """Seconds of work below which no checkpoint is made."""
    prompt_blocklist: str = ""
    """File of words and phrases that no prompt may hold. Empty: none."""
    max_run_s: str = ""
    """Most seconds that jobs may draw, by model, tier or both. Empty: 20 times their estimate."""
    reservation_ttl_s: float = field(default=60.0, metadata={"check": settings.is_positive})
    """Seconds until a reservation without a job is given back."""
    result_life_s: int = 0
    """Seconds that pictures are kept; 0 leaves it to the scheduler."""
    record_life_s: int = 0
    """Seconds that ended jobs with their events are kept; 0 leaves it to the scheduler."""
    cache_scope: str = ""
    """`global` or `tenant`: whose drawn pictures may answer a job. Empty: the scheduler's default."""
    cost_per_device_hour: float = field(default=0.0, metadata={"check": settings.is_zero_or_more})
    """What an hour of a device costs, in your currency."""
    device_kw: float = field(default=0.0, metadata={"check": settings.is_zero_or_more})
    """Kilowatts that a device draws."""
    cost_per_kwh: float = field(default=0.0, metadata={"check": settings.is_zero_or_more})
    """What a kilowatt-hour costs."""
    webhook_insecure: bool = False
    """Whether webhooks may go to http addresses and into private networks."""
    drain_s: float = field(default=5.0, metadata={"check": settings.is_positive})
    """Seconds a service may take to finish its calls when it is stopped."""
    log_level: str = field(default="info", metadata={"check": settings.one_of("debug", "info", "warning", "error")})
    """Least severe message that is logged."""
    log_format: str = field(default="json", metadata={"check": settings.one_of("json", "text")})
    """How the services log."""
    failpoint: str = field(default="", metadata={"tests_only": True})
    """For tests: place where the gateway ends itself, or what lacks a model server's memory. Empty: none."""
