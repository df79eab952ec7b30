"""How one process takes part in the mesh: what its channels show, and what its listener asks of callers.

By default that is the mesh token. With DARKROOM_MTLS it is the certificate of its role (`libs.rpc.identity`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from libs import secret_files
from libs.rpc.channel import open_channel, open_secure_channel
from libs.rpc.health import Connect, connect, connect_as
from libs.rpc.identity import Identity, folder_of
from libs.rpc.server import RpcServer


@dataclass(frozen=True, slots=True)
class Mesh:
    """The tokens and the certificate of a process; with a certificate there is no mesh token."""

    token: str = field(repr=False)
    operator_token: str = field(default="", repr=False)
    identity: Identity | None = None

    def channel(self, address: str, peer: str, *, as_operator: bool = False) -> grpc.aio.Channel:
        """Return a channel to host:port, where processes of the role `peer` listen."""
        operator = self.operator_token if as_operator else ""
        if self.identity is None:
            return open_channel(address, mesh_token=self.token, operator_token=operator)
        return open_secure_channel(address, peer, identity=self.identity, operator_token=operator)

    def health(self, peer: str) -> Connect:
        """Return how processes of the role `peer` are asked for their health."""
        return connect if self.identity is None else connect_as(self.identity, peer)

    def server(self, listen: str) -> RpcServer:
        """Return a server for host:port."""
        return RpcServer(listen, mesh_token=self.token, operator_token=self.operator_token, identity=self.identity)


def join(mtls: str, secrets: Path, role: str, *, has_operators: bool = False) -> Mesh:
    """Return how a process of that role takes part; `mtls` is the setting. Raises SecretMissing.

    A process that operators call, or that calls as one, needs the operator token.
    """
    operator = secret_files.read_token(secrets, secret_files.OPERATOR_TOKEN) if has_operators else ""
    folder = folder_of(mtls, secrets)
    if folder is not None:
        return Mesh("", operator, Identity(folder, role))
    return Mesh(secret_files.read_token(secrets, secret_files.MESH_TOKEN), operator)
