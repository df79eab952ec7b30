"""AdminService on the wire: keys, for operators."""

from __future__ import annotations

from typing import Any

import grpc

from darkroom.ratelimiter.v1 import admin_service_pb2 as pb
from darkroom.ratelimiter.v1 import admin_service_pb2_grpc as rpc
from libs.ids import KeyId, TenantId
from services.ratelimiter.keys import wire as key_wire
from services.ratelimiter.keys.keyring import Keyring
from services.ratelimiter.keys.sign_up import SignUp
from services.ratelimiter.tiers.tariffs import Tariffs

_Context = grpc.aio.ServicerContext[Any, Any]


class AdminServicer(rpc.AdminServiceServicer):
    """Makes, lists, replaces and withdraws keys; the operator token is checked before any of it."""

    def __init__(self, keyring: Keyring, tariffs: Tariffs, sign_up: SignUp) -> None:
        self._keyring, self._tariffs, self._sign_up = keyring, tariffs, sign_up

    async def CreateKey(self, request: pb.CreateKeyRequest, _context: _Context) -> pb.CreateKeyResponse:
        """Make a key; its secret is in this answer and nowhere else."""
        new = key_wire.new_key_from_pb(request, self._tariffs.policy.tiers)
        key, secret = await self._keyring.create(new.tenant_id, new.tier, new.name, new.scopes, new.lifetime_s)
        return pb.CreateKeyResponse(key=key_wire.key_to_pb(key), secret=secret)

    async def ListKeys(self, request: pb.ListKeysRequest, _context: _Context) -> pb.ListKeysResponse:
        """List keys without their secrets, oldest first."""
        tenant_id = TenantId(request.tenant_id) if request.tenant_id else None
        return pb.ListKeysResponse(keys=[key_wire.key_to_pb(key) for key in await self._keyring.list(tenant_id)])

    async def RevokeKey(self, request: pb.RevokeKeyRequest, _context: _Context) -> pb.Key:
        """Withdraw a key."""
        return key_wire.key_to_pb(await self._keyring.revoke(KeyId(request.key_id)))

    async def RotateKey(self, request: pb.RotateKeyRequest, _context: _Context) -> pb.RotateKeyResponse:
        """Make a key in the place of one."""
        return key_wire.rotation_to_pb(await self._keyring.rotate(*key_wire.rotation_from_pb(request)))

    async def CreateInvite(self, request: pb.CreateInviteRequest, _context: _Context) -> pb.CreateInviteResponse:
        """Make an invite; its code is in this answer and nowhere else."""
        code, expires_s = await self._sign_up.invite(*key_wire.invite_from_pb(request))
        return key_wire.invite_to_pb(code, expires_s)
