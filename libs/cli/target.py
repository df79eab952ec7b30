"""Which server, with which key: from flags, the environment, or the data folder of a stack on this machine."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from libs import secret_files
from libs.clients.public import PublicClient
from libs.roles import CERTIFICATE_FILE, KEY_FILE, OPERATOR
from libs.rpc.channel import OPTIONS
from libs.rpc.health import Connect
from libs.rpc.identity import ON, Identity, folder_of, own_folder
from libs.rpc.mesh import Mesh

DEFAULT_DATA, DEFAULT_URL = ".darkroom", "http://127.0.0.1:8080"
ADMIN_ADDRESS, OPERATOR_TOKEN = "DARKROOM_ADMIN_ADDRESS", "DARKROOM_OPERATOR_TOKEN"
MESH_TOKEN, MTLS = "DARKROOM_MESH_TOKEN", "DARKROOM_MTLS"
CA, CERTIFICATE = "DARKROOM_CA", "DARKROOM_CERTIFICATE"  # of a door with TLS: a file; a folder of tls.crt and tls.key


class TargetUnknown(Exception):
    """The server or its tokens could not be found; the message says what to set."""


_DOOR_FILES = ((CA, "door-ca"), (CERTIFICATE, "door-client"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where commands go. Empty `url` and `key` are looked up in the data folder."""

    data: Path
    url: str
    key: str
    environ: Mapping[str, str]

    def address(self) -> str:
        """Return the URL of the public API."""
        if self.url:
            return self.url if "//" in self.url else f"http://{self.url}"
        known = self._addresses()
        scheme, http = known.get("scheme", "http"), known.get("http", "")
        return f"{scheme}://{http.replace('0.0.0.0', '127.0.0.1')}" if http else DEFAULT_URL

    def api_key(self) -> str:
        """Return the key to use; the development key belongs to the stack of the data folder only."""
        file = self.data / "dev-key"
        return self.key or (file.read_text().strip() if not self.url and file.exists() else "")

    @asynccontextmanager
    async def public(self) -> AsyncIterator[PublicClient]:
        """Open the public API."""
        parts = urlsplit(self.address())
        secure = parts.scheme == "https"
        place = f"{parts.hostname}:{parts.port or (443 if secure else 80)}"
        if secure:
            channel = grpc.aio.secure_channel(place, self._door_credentials(), options=OPTIONS)
        else:
            channel = grpc.aio.insecure_channel(place, options=OPTIONS)
        async with channel:
            yield PublicClient(channel, self.api_key())

    def internal(self, service: str) -> str:
        """Return host:port of the internal listener of `service`; several with commas. Raises TargetUnknown."""
        address = self.environ.get(ADMIN_ADDRESS) or self._addresses().get(service, "")
        if not address:
            raise TargetUnknown(
                f"No stack runs in {self.data}. Name its folder with --data, or set {ADMIN_ADDRESS}, "
                f"{OPERATOR_TOKEN} and {MESH_TOKEN}."
            )
        return address

    @asynccontextmanager
    async def admin(self, service: str) -> AsyncIterator[grpc.aio.Channel]:
        """Open the internal listener of `service` (`scheduler` or `ratelimiter`) as its operator."""
        address, identity = self.internal(service), self._identity()
        mesh = "" if identity else self._token(MESH_TOKEN, secret_files.MESH_TOKEN)
        operator = self._token(OPERATOR_TOKEN, secret_files.OPERATOR_TOKEN)
        async with Mesh(mesh, operator, identity).channel(address, service, as_operator=True) as channel:
            yield channel

    def health(self, service: str) -> Connect:
        """Return how processes of `service` are asked for their health; raises SecretMissing."""
        return Mesh("", "", self._identity()).health(service)

    def certificates(self) -> Path:
        """Return the folder of the mesh's certificates; the stack of the data folder has its own."""
        named = self.environ.get(MTLS) or self._addresses().get("mtls") or ON
        secrets = self.data / "secrets"
        return folder_of(named, secrets) or own_folder(secrets)

    def is_on_server(self) -> bool:
        """Return whether the stack that runs in the data folder keeps its jobs on a server, not in files."""
        return self._addresses().get("database") == "postgresql"

    def secret(self, name: str) -> str:
        """Return a secret of the stack of the data folder; raises SecretMissing."""
        return secret_files.read_token(self.data / "secrets", name)

    def _identity(self) -> Identity | None:
        """A mesh elsewhere has certificates only if one is named for it."""
        elsewhere = bool(self.environ.get(ADMIN_ADDRESS))
        named = self.environ.get(MTLS) or ("" if elsewhere else self._addresses().get("mtls", ""))
        folder = folder_of(named, self.data / "secrets")
        return None if folder is None else Identity(folder, OPERATOR)

    def _door_credentials(self) -> grpc.ChannelCredentials:
        """Without an authority of its own a door must be known to the machine's. Raises SecretMissing."""
        known = {} if self.url else self._addresses()
        authority, client = (self.environ.get(name) or known.get(key) for name, key in _DOOR_FILES)
        names = [authority, *((f"{client}/{KEY_FILE}", f"{client}/{CERTIFICATE_FILE}") if client else ())]
        return grpc.ssl_channel_credentials(*(_bytes(name) if name else None for name in names))

    def _token(self, variable: str, name: str) -> str:
        return self.environ.get(variable) or self.secret(name)

    def _addresses(self) -> dict[str, str]:
        try:
            document = json.loads((self.data / "run" / "addresses.json").read_text())
        except (OSError, ValueError):
            return {}
        return {name: value for name, value in document.items() if isinstance(value, str)}


def _bytes(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        told = f"cannot read {name}: {error.strerror}; name a file in {CA}, a folder in {CERTIFICATE}"
        raise secret_files.SecretMissing(told) from error
