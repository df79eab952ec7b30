"""Keys, as operators handle them; the channel carries the operator token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from darkroom.ratelimiter.v1 import admin_service_pb2 as pb
from darkroom.ratelimiter.v1 import admin_service_pb2_grpc as rpc
from libs.ids import KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated
from libs.wire.timestamp import seconds

_PEER = "rate limiter"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; times in Unix seconds, None for what has not happened."""

    id: KeyId
    tenant_id: TenantId
    tier: str
    prefix: str
    name: str
    created_s: float
    revoked_s: float | None
    last_used_s: float | None
    scopes: tuple[str, ...] = ()
    expires_s: float | None = None
    replaced_by: str = ""


@dataclass(frozen=True, slots=True)
class NewApiKey:
    """A key and its secret, which is shown this once."""

    key: ApiKey
    secret: str


@dataclass(frozen=True, slots=True)
class RotatedApiKey:
    """A key, its secret, which is shown this once, and the key in whose place it came."""

    key: ApiKey
    secret: str
    replaced: ApiKey


@dataclass(frozen=True, slots=True)
class NewInvite:
    """The code of an invite, which is shown this once, and when it expires (Unix seconds)."""

    code: str
    expires_s: float | None


class LimiterAdminClient:
    """Typed calls with a deadline. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._admin: rpc.AdminServiceAsyncStub = rpc.AdminServiceStub(channel)

    async def create_key(
        self, tenant_id: TenantId, tier: str, name: str, allowed: Sequence[str] = (), lifetime_s: float | None = None
    ) -> NewApiKey:
        """Make a key; a new tenant gets `tier`, an existing one must have it. Without scopes it gets the usual ones."""
        request = pb.CreateKeyRequest(tenant_id=tenant_id, tier=tier, name=name, scopes=allowed, lifetime_s=lifetime_s)
        with translated(_PEER):
            answer = await self._admin.CreateKey(request, timeout=deadlines.ADMIN_S)
        return NewApiKey(key_from_pb(answer.key), answer.secret)

    async def list_keys(self, tenant_id: TenantId | None = None) -> Sequence[ApiKey]:
        """Return the keys of a tenant, or of all, oldest first."""
        request = pb.ListKeysRequest(tenant_id=tenant_id or "")
        with translated(_PEER):
            answer = await self._admin.ListKeys(request, timeout=deadlines.ADMIN_S)
        return [key_from_pb(key) for key in answer.keys]

    async def revoke_key(self, key_id: KeyId) -> ApiKey:
        """Withdraw a key. Raises NotFound."""
        with translated(_PEER):
            return key_from_pb(
                await self._admin.RevokeKey(pb.RevokeKeyRequest(key_id=key_id), timeout=deadlines.ADMIN_S)
            )

    async def rotate_key(self, key_id: KeyId, overlap_s: float | None = None) -> RotatedApiKey:
        """Make a key in the place of one, which goes on for `overlap_s`; a day when it is None."""
        request = pb.RotateKeyRequest(key_id=key_id, overlap_s=overlap_s)
        with translated(_PEER):
            answer = await self._admin.RotateKey(request, timeout=deadlines.ADMIN_S)
        return RotatedApiKey(key_from_pb(answer.key), answer.secret, key_from_pb(answer.replaced))

    async def create_invite(self, uses: int, lifetime_s: float | None = None, name: str = "") -> NewInvite:
        """Make an invite, for where sign-up is by invite."""
        request = pb.CreateInviteRequest(uses=uses, lifetime_s=lifetime_s, name=name)
        with translated(_PEER):
            answer = await self._admin.CreateInvite(request, timeout=deadlines.ADMIN_S)
        return NewInvite(answer.code, seconds(answer.expire_time) if answer.HasField("expire_time") else None)


def key_from_pb(message: pb.Key) -> ApiKey:
    """Return a key as callers see it."""
    return ApiKey(
        KeyId(message.id),
        TenantId(message.tenant_id),
        message.tier,
        message.prefix,
        message.name,
        seconds(message.create_time),
        seconds(message.revoke_time) if message.HasField("revoke_time") else None,
        seconds(message.last_used_time) if message.HasField("last_used_time") else None,
        tuple(message.scopes),
        seconds(message.expire_time) if message.HasField("expire_time") else None,
        message.replaced_by,
    )
