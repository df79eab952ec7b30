"""The environment of each service: the parent's variables, and of ours exactly those that the service takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.devstack.addresses import Addresses
from libs.devstack.folder import DataFolder
from libs.devstack.settings import StackSettings
from libs.settings import PREFIX


def inherited(parent: Mapping[str, str]) -> dict[str, str]:
    """Return what every child inherits: all but our own variables, which each service takes by name or refuses."""
    return {name: value for name, value in parent.items() if not name.startswith(PREFIX)}


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """Builds the environment of one process after the other."""

    settings: StackSettings
    folder: DataFolder
    addresses: Addresses
    parent: Mapping[str, str]
    mtls: Path | None = None
    """Folder of the mesh's certificates."""
    redis: str = field(default="", repr=False)
    """Address of the stack's own Redis, with its password; empty where it has none."""

    def gateway(self) -> dict[str, str]:
        """Return the gateway's."""
        return self._service(
            "gateway",
            SCHEDULER_ADDRESS=self.addresses.schedulers,
            LIMITER_ADDRESS=self.addresses.grpc["ratelimiter"],
            BLOBS=self.settings.blobs,
            WEBHOOK_INSECURE="1" if self.settings.webhook_insecure else "",
            FAILPOINT="" if self._is_memorys else self.settings.failpoint,
        )

    def scheduler(self, name: str) -> dict[str, str]:
        """Return that of a scheduler."""
        return self._service(
            name,
            LEASE_TTL_S=str(self.settings.lease_ttl_s),
            DATABASE_URL=self.settings.database_url,
            ETCD_ENDPOINTS=self.addresses.etcd,
            LIMITER_ADDRESS=self.addresses.grpc["ratelimiter"],
            BLOBS=self.settings.blobs,
            RESULT_LIFE_S=str(self.settings.result_life_s or ""),
            RECORD_LIFE_S=str(self.settings.record_life_s or ""),
            CACHE_SCOPE=self.settings.cache_scope,
            MAX_RUN_S=self.settings.max_run_s,
            COST_PER_DEVICE_HOUR=str(self.settings.cost_per_device_hour or ""),
            DEVICE_KW=str(self.settings.device_kw or ""),
            COST_PER_KWH=str(self.settings.cost_per_kwh or ""),
        )

    def ratelimiter(self) -> dict[str, str]:
        """Return the ratelimiter's."""
        return self._service(
            "ratelimiter",
            DATABASE_URL=self.settings.database_url,
            TIERS=self.settings.tiers,
            WRONG_KEYS_PER_MIN=str(self.settings.wrong_keys_per_min),
            REPUTATION=self.settings.reputation,
            REDIS=self.redis or self.settings.redis,
            RESERVATION_TTL_S=str(self.settings.reservation_ttl_s),
            SIGN_UP=self.settings.sign_up,
            JWT_TENANT_CLAIM=self.settings.jwt_tenant_claim,
            JWT_TIER_CLAIM=self.settings.jwt_tier_claim,
            JWT_SCOPE_CLAIM=self.settings.jwt_scope_claim,
            JWT_TIERS=self.settings.jwt_tiers,
        )

    def modelserver(self, name: str, device: str) -> dict[str, str]:
        """Return that of the modelserver of one device."""
        return self._service(
            name,
            WORKER_ID=name,
            DEVICE=device,
            MODELS=self.settings.models,
            ETCD_ENDPOINTS=self.addresses.etcd,
            BLOBS=self.settings.blobs,
            LEASE_TTL_S=str(self.settings.lease_ttl_s),
            THREADS=str(self.settings.threads),
            SLOTS=str(self.settings.slots),
            MODEL_MEMORY_GB=str(self.settings.model_memory_gb),
            IDLE_S=str(self.settings.idle_s),
            CHECKPOINT_STEPS=str(self.settings.checkpoint_steps),
            CHECKPOINT_S=str(self.settings.checkpoint_s),
            CHECKPOINT_WORTH_S=str(self.settings.checkpoint_worth_s),
            PROMPT_BLOCKLIST=self.settings.prompt_blocklist,
            FAILPOINT=self.settings.failpoint if self._is_memorys else "",
        )

    @property
    def _is_memorys(self) -> bool:
        """Whether the failpoint is one of the model servers."""
        return self.settings.failpoint.startswith("out_of_memory:")

    def _service(self, name: str, **own: str) -> dict[str, str]:
        """Return the environment of a service; a variable without a value is left out: the service has a default."""
        every = {
            "DATA": str(self.folder.root),
            "LISTEN": self.addresses.grpc[name],
            "METRICS_LISTEN": self.addresses.metrics[name],
            "SECRETS": self.settings.secrets,
            "MTLS": str(self.mtls or ""),
            "LOG_LEVEL": self.settings.log_level,
            "LOG_FORMAT": self.settings.log_format,
            "DRAIN_S": str(self.settings.drain_s),
        }
        given = {PREFIX + key: value for key, value in {**every, **own}.items() if value}
        return {**inherited(self.parent), **given}
