"""IdentityService on the wire: accounts, and keys in the hands of their tenant."""

from __future__ import annotations

from typing import Any

import grpc

from darkroom.ratelimiter.v1 import identity_service_pb2 as pb
from darkroom.ratelimiter.v1 import identity_service_pb2_grpc as rpc
from libs.ids import KeyId
from services.ratelimiter.keys import wire as key_wire
from services.ratelimiter.keys.keyring import Keyring
from services.ratelimiter.keys.own_keys import OwnKeys
from services.ratelimiter.keys.sign_up import SignUp

_Context = grpc.aio.ServicerContext[Any, Any]


class IdentityServicer(rpc.IdentityServiceServicer):
    """What the gateway asks for tenants; it has checked the scopes of the call, and of the keys made it is checked here."""

    def __init__(self, own: OwnKeys, sign_up: SignUp, keyring: Keyring) -> None:
        self._own, self._sign_up, self._keyring = own, sign_up, keyring

    async def SignUp(self, request: pb.SignUpRequest, _context: _Context) -> pb.SignUpResponse:
        """Make a free tenant and its first key."""
        name = key_wire.name_from_pb(request.name)
        key, secret = await self._sign_up.open(request.address, request.invite, name)
        return pb.SignUpResponse(key=key_wire.key_to_pb(key), secret=secret)

    async def ListOwnKeys(self, request: pb.ListOwnKeysRequest, _context: _Context) -> pb.ListOwnKeysResponse:
        """List a page of keys without their secrets."""
        after = key_wire.place_from_pb(request)
        keys, more = await self._own.list(key_wire.holder_from_pb(request.holder), request.page_size, after)
        return key_wire.page_to_pb(keys, more=more)

    async def CreateOwnKey(self, request: pb.CreateOwnKeyRequest, _context: _Context) -> pb.CreateOwnKeyResponse:
        """Make a key."""
        holder, asked = key_wire.holder_from_pb(request.holder), key_wire.asked_from_pb(request)
        key, secret = await self._own.create(holder, asked.name, asked.scopes, asked.lifetime_s)
        return pb.CreateOwnKeyResponse(key=key_wire.key_to_pb(key), secret=secret)

    async def RotateOwnKey(self, request: pb.RotateOwnKeyRequest, _context: _Context) -> pb.RotateOwnKeyResponse:
        """Make a key in the place of one."""
        holder, (key_id, overlap_s) = key_wire.holder_from_pb(request.holder), key_wire.rotation_from_pb(request)
        made = await self._own.rotate(holder, key_id, overlap_s)
        replaced = key_wire.key_to_pb(made.replaced)
        return pb.RotateOwnKeyResponse(key=key_wire.key_to_pb(made.key), secret=made.secret, replaced=replaced)

    async def RevokeOwnKey(self, request: pb.RevokeOwnKeyRequest, _context: _Context) -> pb.RevokeOwnKeyResponse:
        """Withdraw a key."""
        gone = await self._own.revoke(key_wire.holder_from_pb(request.holder), KeyId(request.key_id))
        return pb.RevokeOwnKeyResponse(key=key_wire.key_to_pb(gone))

    async def FindEndedKeys(self, request: pb.FindEndedKeysRequest, _context: _Context) -> pb.FindEndedKeysResponse:
        """Say which keys work no more."""
        ended = await self._keyring.ended(key_wire.key_ids_from_pb(request))
        told = [pb.EndedKey(key_id=key_id, reason=why.reason) for key_id, why in ended.items()]
        return pb.FindEndedKeysResponse(ended=told)
