"""The loopback addresses of one stack, chosen once at its start and kept over restarts of its processes."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from libs.devstack.ports import free_port

LOOPBACK = "127.0.0.1"
_MOST_TRIES = 200


class PortInUse(Exception):
    """The port that was asked for is taken; the message says what to set."""


class PortClaims:
    """Ports that are ours while this process lives, also while nothing listens on them.

    A free port is free only until someone binds it, and a child that restarts lets go of its port for a moment.
    So each is claimed by a Linux abstract socket of its number, which every stack on the machine sees and the
    kernel drops with the process.
    """

    def __init__(self) -> None:
        self._claims: dict[int, socket.socket] = {}

    def take(self) -> int:
        """Return a port that nobody listens on and no other stack has claimed."""
        taken = set(self._claims)
        for _ in range(_MOST_TRIES):
            port = free_port(taken)
            taken.add(port)
            if self._claim(port):
                return port
        raise PortInUse(f"no free port found in {_MOST_TRIES} tries")

    def close(self) -> None:
        """Let go of all of them."""
        while self._claims:
            self._claims.popitem()[1].close()

    def _claim(self, port: int) -> bool:
        claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            claim.bind(f"\0darkroom-port-{port}")
        except OSError as error:
            claim.close()
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        self._claims[port] = claim
        return True


def scheduler_names(count: int) -> tuple[str, ...]:
    """Return the names of the schedulers of a stack."""
    return ("scheduler", *(f"scheduler-{index}" for index in range(1, count)))


@dataclass(frozen=True, slots=True)
class Addresses:
    """`host:port` by process name. `metrics` are the Prometheus listeners of the services; `redis` may be none."""

    http: str
    grpc: dict[str, str]
    metrics: dict[str, str]
    etcd: str
    etcd_peer: str
    envoy_admin: str
    redis: str = ""

    @property
    def schedulers(self) -> str:
        """Those of every scheduler, with commas: whoever calls uses one that answers."""
        return ",".join(address for name, address in self.grpc.items() if name.partition("-")[0] == "scheduler")

    def write(self, path: Path, more: Mapping[str, str] = MappingProxyType({})) -> None:
        """Write `run/addresses.json`, whole or not at all, with what else clients on this machine have to know."""
        document = {
            "http": self.http,
            **more,
            **self.grpc,
            "scheduler": self.schedulers,
            "etcd": self.etcd,
            "envoy-admin": self.envoy_admin,
            **({"redis": self.redis} if self.redis else {}),
            "metrics": self.metrics,
        }
        new = path.with_name(path.name + ".new")
        new.write_text(json.dumps(document, indent=2) + "\n")
        new.replace(path)


def choose(
    http_host: str, http_port: int, services: Iterable[str], claims: PortClaims, *, redis: bool = False
) -> Addresses:
    """Choose an address for the door, for each service and its metrics, for etcd and for Envoy's admin listener.

    With `redis` also one for a Redis of the stack's own.
    """

    def free() -> str:
        return f"{LOOPBACK}:{claims.take()}"

    if http_port:
        _check_free(http_host, http_port)
    names = tuple(services)
    return Addresses(
        http=f"{http_host}:{http_port or claims.take()}",
        grpc={name: free() for name in names},
        metrics={name: free() for name in names},
        etcd=free(),
        etcd_peer=free(),
        envoy_admin=free(),
        redis=free() if redis else "",
    )


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: {error.strerror}. "
                "Set DARKROOM_HTTP_PORT to a free port, or to 0 to have one chosen."
            ) from None
