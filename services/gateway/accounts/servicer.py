"""AccountService and KeyService: convert, ask the rate limiter, convert."""

from __future__ import annotations

from darkroom.v1 import account_service_pb2 as pb
from darkroom.v1.account_service_pb2_grpc import AccountServiceServicer, KeyServiceServicer
from libs.clients.identity import Holder
from libs.clients.limiter_admin import ApiKey, NewApiKey, RotatedApiKey
from libs.ids import KeyId, new_ulid
from libs.rpc import headers
from libs.wire.timestamp import timestamp
from services.gateway.accounts import wire as account_wire
from services.gateway.accounts.own_account import OwnAccount
from services.gateway.callers.identity import Context, caller_of
from services.gateway.callers.request_count import RequestCount
from services.gateway.creating import parsing
from services.gateway.peers import Identity
from services.gateway.reading.page_tokens import PageTokens, page_size

_MADE = ("x-http-code", "201")
_NOT_KEPT = ("cache-control", "no-store")  # a secret is in the answer, or what is nobody else's to read


class AccountServicer(AccountServiceServicer):
    """Signs people up, where the rate limiter says that it is on, and reads to callers what is theirs."""

    def __init__(self, identity: Identity, own: OwnAccount) -> None:
        self._identity, self._own = identity, own

    async def CreateAccount(self, request: pb.CreateAccountRequest, context: Context) -> pb.NewKey:
        """Make a free account and its first key."""
        address = "" if caller_of(context).key_id else caller_of(context).address
        made = await self._identity.sign_up(address, request.invite, request.name)
        return _made(made)

    async def CreateAccountJson(self, request: pb.CreateAccountJsonRequest, context: Context) -> pb.NewKey:
        """Do it from the body of a REST call."""
        return await self.CreateAccount(parsing.parse_message(request.body.data, pb.CreateAccountRequest()), context)

    async def GetLimits(self, _request: pb.GetLimitsRequest, context: Context) -> pb.GetLimitsResponse:
        """Tell every limit of the caller."""
        headers.add([_NOT_KEPT])
        caller = caller_of(context)
        return account_wire.limits_to_pb(caller, await self._own.limits(caller))

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        """Tell a page of the caller's usage."""
        headers.add([_NOT_KEPT])
        asked = account_wire.usage_from_pb(request)
        return account_wire.usage_to_pb(await self._own.usage(caller_of(context), asked))

    async def ListEvents(self, request: pb.ListEventsRequest, context: Context) -> pb.ListEventsResponse:
        """Tell a page of what happened to the caller's account."""
        headers.add([_NOT_KEPT])
        found = await self._own.events(caller_of(context), request.page_size, request.page_token)
        return account_wire.events_to_pb(*found)


class KeyServicer(KeyServiceServicer):
    """Looks after the keys of the caller's tenant.

    Making one is a request of the caller's minute; withdrawing one is not, or a thief could use up all and stay.
    """

    def __init__(self, identity: Identity, requests: RequestCount, pages: PageTokens) -> None:
        self._identity, self._requests, self._pages = identity, requests, pages

    async def CreateKey(self, request: pb.CreateKeyRequest, context: Context) -> pb.NewKey:
        """Make a key."""
        await self._count(context)
        lifetime_s = request.lifetime_s if request.HasField("lifetime_s") else None
        return _made(await self._identity.create_key(_holder(context), request.name, request.scopes, lifetime_s))

    async def CreateKeyJson(self, request: pb.CreateKeyJsonRequest, context: Context) -> pb.NewKey:
        """Do it from the body of a REST call."""
        return await self.CreateKey(parsing.parse_message(request.body.data, pb.CreateKeyRequest()), context)

    async def ListKeys(self, request: pb.ListKeysRequest, context: Context) -> pb.ListKeysResponse:
        """List a page of keys without their secrets."""
        holder = _holder(context)
        place = self._pages.read(request.page_token, holder.tenant_id, ())
        after = (float(place[0]), KeyId(place[1])) if place else None
        page = await self._identity.list_keys(holder, page_size(request.page_size), after)
        token = self._pages.make(holder.tenant_id, (), (repr(page.last[0]), page.last[1])) if page.last else ""
        return pb.ListKeysResponse(keys=[_key(key) for key in page.keys], next_page_token=token)

    async def RotateKey(self, request: pb.RotateKeyRequest, context: Context) -> pb.NewKey:
        """Make a key in the place of one."""
        await self._count(context)
        overlap_s = request.overlap_s if request.HasField("overlap_s") else None
        rotated = await self._identity.rotate_key(_holder(context), KeyId(request.id), overlap_s)
        return _made(rotated)

    async def RotateKeyJson(self, request: pb.RotateKeyJsonRequest, context: Context) -> pb.NewKey:
        """Do it from a REST call."""
        wanted = parsing.parse_message(request.body.data or b"{}", pb.RotateKeyRequest())
        wanted.id = request.id
        return await self.RotateKey(wanted, context)

    async def RevokeKey(self, request: pb.RevokeKeyRequest, context: Context) -> pb.Key:
        """Withdraw a key."""
        return _key(await self._identity.revoke_key(_holder(context), KeyId(request.id)))

    async def _count(self, context: Context) -> None:
        await self._requests.take(caller_of(context), f"keys_{new_ulid()}")


def _holder(context: Context) -> Holder:
    caller = caller_of(context)
    return Holder(caller.tenant_id, caller.tier, caller.scopes, caller.ends_s)


def _made(made: NewApiKey | RotatedApiKey) -> pb.NewKey:
    headers.add([_MADE, _NOT_KEPT])
    answer = pb.NewKey(key=_key(made.key), secret=made.secret, account=made.key.tenant_id, tier=made.key.tier)
    if isinstance(made, RotatedApiKey):
        answer.replaced.CopyFrom(_key(made.replaced))
    return answer


def _key(key: ApiKey) -> pb.Key:
    message = pb.Key(id=key.id, name=key.name, prefix=key.prefix, scopes=key.scopes, replaced_by=key.replaced_by)
    message.create_time.CopyFrom(timestamp(key.created_s))
    if key.expires_s is not None:
        message.expire_time.CopyFrom(timestamp(key.expires_s))
    if key.revoked_s is not None:
        message.revoke_time.CopyFrom(timestamp(key.revoked_s))
    if key.last_used_s is not None:
        message.last_used_time.CopyFrom(timestamp(key.last_used_s))
    return message
