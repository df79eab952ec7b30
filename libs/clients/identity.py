"""Accounts and the keys of a tenant, asked of the rate limiter on behalf of a caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc

from darkroom.ratelimiter.v1 import identity_service_pb2 as pb
from darkroom.ratelimiter.v1 import identity_service_pb2_grpc as rpc
from libs import scopes
from libs.clients.limiter_admin import ApiKey, NewApiKey, RotatedApiKey, key_from_pb
from libs.ids import KeyId, TenantId
from libs.rpc import deadlines
from libs.rpc.status import translated
from libs.scopes import Scopes

_PEER = "rate limiter"
MOST_ASKED = 1_000  # keys in one question

KeyPlace: TypeAlias = tuple[float, KeyId]
"""When a key was made, in Unix seconds, and its id: where it stands in a list."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks, as the door recognised them."""

    tenant_id: TenantId
    tier: str
    scopes: Scopes
    ends_s: float | None = None
    """When their own key or token ends, in Unix seconds; None for never."""


@dataclass(frozen=True, slots=True)
class EndedKey:
    """A key that works no more; `reason` is KEY_REVOKED or KEY_EXPIRED."""

    key_id: KeyId
    reason: str


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A page of keys; `last` is the place of the last one when more come behind it."""

    keys: Sequence[ApiKey]
    last: KeyPlace | None


class IdentityClient:
    """Typed calls with a deadline. Failures are domain errors."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._identity: rpc.IdentityServiceAsyncStub = rpc.IdentityServiceStub(channel)

    async def sign_up(self, address: str, invite: str, name: str) -> NewApiKey:
        """Make a free account; returns its first key."""
        request = pb.SignUpRequest(address=address, invite=invite, name=name)
        with translated(_PEER):
            answer = await self._identity.SignUp(request, timeout=deadlines.LIMITER_S)
        return NewApiKey(key_from_pb(answer.key), answer.secret)

    async def list_keys(self, holder: Holder, most: int, after: KeyPlace | None = None) -> KeyPage:
        """Return a page of the keys of the tenant, oldest first; those behind a place where it is given."""
        request = pb.ListOwnKeysRequest(holder=_holder(holder), page_size=most)
        if after is not None:
            request.after.created_s, request.after.key_id = after
        with translated(_PEER):
            answer = await self._identity.ListOwnKeys(request, timeout=deadlines.LIMITER_S)
        last = (answer.last.created_s, KeyId(answer.last.key_id)) if answer.HasField("last") else None
        return KeyPage([key_from_pb(key) for key in answer.keys], last)

    async def create_key(self, holder: Holder, name: str, asked: Sequence[str], lifetime_s: float | None) -> NewApiKey:
        """Make a key of the tenant."""
        request = pb.CreateOwnKeyRequest(holder=_holder(holder), name=name, scopes=asked, lifetime_s=lifetime_s)
        with translated(_PEER):
            answer = await self._identity.CreateOwnKey(request, timeout=deadlines.LIMITER_S)
        return NewApiKey(key_from_pb(answer.key), answer.secret)

    async def rotate_key(self, holder: Holder, key_id: KeyId, overlap_s: float | None) -> RotatedApiKey:
        """Make a key in the place of one of the tenant."""
        request = pb.RotateOwnKeyRequest(holder=_holder(holder), key_id=key_id, overlap_s=overlap_s)
        with translated(_PEER):
            answer = await self._identity.RotateOwnKey(request, timeout=deadlines.LIMITER_S)
        return RotatedApiKey(key_from_pb(answer.key), answer.secret, key_from_pb(answer.replaced))

    async def revoke_key(self, holder: Holder, key_id: KeyId) -> ApiKey:
        """Withdraw a key of the tenant."""
        request = pb.RevokeOwnKeyRequest(holder=_holder(holder), key_id=key_id)
        with translated(_PEER):
            return key_from_pb((await self._identity.RevokeOwnKey(request, timeout=deadlines.LIMITER_S)).key)

    async def ended_keys(self, key_ids: Sequence[KeyId]) -> Sequence[EndedKey]:
        """Return those of at most MOST_ASKED keys that work no more."""
        request = pb.FindEndedKeysRequest(key_ids=key_ids)
        with translated(_PEER):
            answer = await self._identity.FindEndedKeys(request, timeout=deadlines.LIMITER_S)
        return [EndedKey(KeyId(each.key_id), each.reason) for each in answer.ended]


def _holder(holder: Holder) -> pb.Holder:
    allowed = scopes.text(holder.scopes).split()
    return pb.Holder(tenant_id=holder.tenant_id, tier=holder.tier, scopes=allowed, ends_s=holder.ends_s)
