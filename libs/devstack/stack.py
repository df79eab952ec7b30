"""What runs, in what order, and when each counts as ready.

redis when it is `embedded` → etcd, ratelimiter → scheduler, scheduler-1 … → modelserver-0 … modelserver-N → gateway → envoy
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from libs import secret_files
from libs.devstack import binaries, probes, redis
from libs.devstack.addresses import Addresses, scheduler_names
from libs.devstack.environment import ServiceEnvironment, inherited
from libs.devstack.folder import DataFolder
from libs.devstack.process import Process
from libs.devstack.settings import StackSettings
from libs.devstack.trust import Trust
from libs.rpc.mesh import Mesh
from libs.settings import PREFIX

_KILL_MARGIN_S = 5.0
# Loading torch and hashing model folders for the first time takes a while on a busy machine.
_MODELSERVER_START_S = 180.0
_CPU_NICENESS = 10
_NEVER: frozenset[int] = frozenset()


def service_names(devices: tuple[str, ...], schedulers: int = 1) -> tuple[str, ...]:
    """Return the names of the Python services of a stack with these devices."""
    modelservers = (f"modelserver-{index}" for index in range(len(devices)))
    return ("gateway", *scheduler_names(schedulers), "ratelimiter", *modelservers)


@dataclass(frozen=True, slots=True)
class Stack:
    """One stack: its settings, devices, folder and addresses; `parent` is the environment it was started in."""

    settings: StackSettings
    devices: tuple[str, ...]
    folder: DataFolder
    addresses: Addresses
    parent: Mapping[str, str]

    @property
    def secrets(self) -> Path:
        """The folder of tokens and keys."""
        return Path(self.settings.secrets) if self.settings.secrets else self.folder.root / "secrets"

    @property
    def trust(self) -> Trust:
        """By what its processes know each other, and how its door is secured."""
        return Trust(self.settings, self.secrets)

    @property
    def told(self) -> dict[str, str]:
        """What clients on this machine have to know, for `run/addresses.json`."""
        return {**self.trust.told(), "database": "postgresql" if self.settings.database_url else "files"}

    @property
    def envoy_config(self) -> Path:
        """Where Envoy's configuration is rendered to."""
        return self.folder.run / "envoy.yaml"

    def groups(self) -> tuple[tuple[Process, ...], ...]:
        """Return the groups in their order of starting; they stop in reverse. The last one is the door, Envoy."""
        env, mesh = self._environment(), self.trust.operator()
        modelservers = (self._modelserver(index, device, mesh) for index, device in enumerate(self.devices))
        return (
            *([(self._redis(),)] if self.addresses.redis else []),
            (self._etcd(), self._service("ratelimiter", "ratelimiter", env.ratelimiter(), mesh)),
            tuple(self._service(name, "scheduler", env.scheduler(name), mesh) for name in self._schedulers),
            tuple(modelservers),
            (self._service("gateway", "gateway", env.gateway(), mesh),),
            (self._envoy(),),
        )

    @property
    def _schedulers(self) -> tuple[str, ...]:
        return scheduler_names(self.settings.schedulers)

    def _environment(self) -> ServiceEnvironment:
        own = redis.url(self.addresses.redis, self._redis_password) if self.addresses.redis else ""
        return ServiceEnvironment(self.settings, self.folder, self.addresses, self.parent, self.trust.mesh, own)

    @property
    def _redis_password(self) -> str:
        return secret_files.read_token(self.secrets, secret_files.REDIS_PASSWORD)

    def _log(self, name: str) -> Path:
        return self.folder.logs / f"{name}.log"

    def _service(
        self,
        name: str,
        package: str,
        env: Mapping[str, str],
        mesh: Mesh,
        start_timeout_s: float = 60.0,
        niceness: int = 0,
    ) -> Process:
        return Process(
            name=name,
            argv=(sys.executable, "-m", f"services.{package}"),
            env=env,
            is_ready=probes.grpc_serving(self.addresses.grpc[name], mesh.health(package)),
            log_path=self._log(name),
            stop_grace_s=self.settings.drain_s + _KILL_MARGIN_S,
            start_timeout_s=start_timeout_s,
            niceness=niceness,
        )

    def _modelserver(self, index: int, device: str, mesh: Mesh) -> Process:
        name = f"modelserver-{index}"
        # On the CPU it would starve the processes that answer people.
        niceness = _CPU_NICENESS if device == "cpu" else 0
        env = self._environment().modelserver(name, device)
        return self._service(name, "modelserver", env, mesh, _MODELSERVER_START_S, niceness)

    def _etcd(self) -> Process:
        client, peer = f"http://{self.addresses.etcd}", f"http://{self.addresses.etcd_peer}"
        return Process(
            name="etcd",
            argv=(
                binaries.find_etcd(),
                *("--name", "darkroom", "--data-dir", str(self.folder.etcd / "data")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", f"darkroom={peer}"),
                *("--heartbeat-interval", "50", "--election-timeout", "500"),  # it is alone: back in half the time
                *("--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h"),
            ),
            env={key: value for key, value in inherited(self.parent).items() if not key.startswith("ETCD_")},
            is_ready=probes.http_answers(self.addresses.etcd, "/health", "true"),
            log_path=self._log("etcd"),
            hopeless=_NEVER,  # a Go program that crashes exits with 2 as well
        )

    def _redis(self) -> Process:
        self.folder.redis.mkdir(exist_ok=True, mode=0o700)
        password = self._redis_password
        redis.configure(self.folder.redis, password)
        return Process(
            name="redis",
            argv=redis.command(self.addresses.redis, self.folder.redis),
            env=inherited(self.parent),
            is_ready=redis.answers(self.addresses.redis, password),
            log_path=self._log("redis"),
            hopeless=_NEVER,
        )

    def _envoy(self) -> Process:
        # With certificates it means nothing, and Envoy is shown none.
        token = "" if self.trust.mesh else secret_files.read_token(self.secrets, secret_files.MESH_TOKEN)
        return Process(
            name="envoy",
            argv=(
                binaries.find_envoy(),
                *("--disable-hot-restart", "--concurrency", "1"),
                *("--config-path", str(self.envoy_config)),
                *("--log-path", str(self._log("envoy"))),
                *("--log-level", self.settings.log_level),
            ),
            env={**inherited(self.parent), f"{PREFIX}MESH_TOKEN": token},
            is_ready=probes.http_answers(self.addresses.envoy_admin, "/ready", "LIVE"),
            log_path=self._log("envoy"),
            hopeless=_NEVER,
        )
