"""What looking after keys costs, and what it never costs."""

from __future__ import annotations

from typing import Any

import pytest

from darkroom.v1 import account_service_pb2 as pb
from libs import scopes
from libs.clients.identity import Holder, KeyPage, KeyPlace
from libs.clients.limiter import Denial
from libs.clients.limiter_admin import ApiKey, NewApiKey, RotatedApiKey
from libs.errors import InvalidRequest, LimitExceeded
from libs.ids import KeyId, TenantId
from libs.signing import Signer
from services.gateway.accounts.servicer import KeyServicer
from services.gateway.callers.request_count import RequestCount
from services.gateway.reading.page_tokens import PageTokens
from tests.unit.services.gateway.fakes import KEYS, FakeLimiter

KEY = ApiKey(KeyId("key_1"), TenantId("acme"), "pro", "dk_ABCDEFGH", "", 0.0, None, None)
SPENT = Denial("requests", 3.0, 0.0, 60.0)


class FakeIdentity:
    """Does all that is asked, and notes it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.pages: list[tuple[int, KeyPlace | None]] = []

    async def list_keys(self, holder: Holder, most: int, after: KeyPlace | None = None) -> KeyPage:
        self.asked.append("list")
        self.pages.append((most, after))
        return KeyPage([KEY], None if after else (KEY.created_s, KEY.id))

    async def create_key(self, holder: Holder, *_: object) -> NewApiKey:
        self.asked.append("create")
        return NewApiKey(KEY, "secret")

    async def rotate_key(self, holder: Holder, *_: object) -> RotatedApiKey:
        self.asked.append("rotate")
        return RotatedApiKey(KEY, "secret", KEY)

    async def revoke_key(self, holder: Holder, key_id: KeyId) -> ApiKey:
        self.asked.append("revoke")
        return KEY


class Call:
    """A call as the door hands it on."""

    def invocation_metadata(self) -> list[tuple[str, str]]:
        told = {"tenant": "acme", "tier": "pro", "key-id": "key_1", "scopes": scopes.text(scopes.EVERY)}
        return [(f"x-darkroom-{name}", value) for name, value in told.items()]


@pytest.fixture
def identity() -> FakeIdentity:
    return FakeIdentity()


@pytest.fixture
def limiter() -> FakeLimiter:
    return FakeLimiter()


@pytest.fixture
def keys(identity: FakeIdentity, limiter: FakeLimiter) -> Any:
    return KeyServicer(identity, RequestCount(limiter), PageTokens(Signer(KEYS), "key-page"))  # type: ignore[arg-type]


async def make(keys: Any) -> None:
    await keys.CreateKey(pb.CreateKeyRequest(), Call())
    await keys.RotateKey(pb.RotateKeyRequest(id="key_1"), Call())


async def test_making_and_replacing_a_key_are_a_request_each_of_their_own_and_no_units(keys: Any, limiter: FakeLimiter):
    await make(keys)
    assert [(each.tenant_id, each.key_id, each.units, each.images) for each in limiter.reserved] == [
        ("acme", "key_1", 0.0, 0)
    ] * 2
    assert len({each.reservation_id for each in limiter.reserved}) == 2


async def test_without_a_request_left_no_key_is_made_and_one_that_leaked_is_withdrawn_all_the_same(
    keys: Any, limiter: FakeLimiter, identity: FakeIdentity
):
    limiter.denial = SPENT
    for call in (keys.CreateKey(pb.CreateKeyRequest(), Call()), keys.RotateKey(pb.RotateKeyRequest(), Call())):
        with pytest.raises(LimitExceeded, match="requests of this minute"):
            await call
    assert identity.asked == []
    await keys.ListKeys(pb.ListKeysRequest(), Call())
    await keys.RevokeKey(pb.RevokeKeyRequest(id="key_1"), Call())
    assert identity.asked == ["list", "revoke"]


async def test_a_list_of_keys_is_read_page_by_page(keys: Any, identity: FakeIdentity) -> None:
    first = await keys.ListKeys(pb.ListKeysRequest(), Call())
    last = await keys.ListKeys(pb.ListKeysRequest(page_size=1000, page_token=first.next_page_token), Call())
    assert identity.pages == [(50, None), (200, (KEY.created_s, KEY.id))]
    assert ([key.id for key in first.keys], last.next_page_token) == ([KEY.id], "")
    for wrong in (
        "x",
        PageTokens(Signer(KEYS)).make(TenantId("acme"), (), ("0.0", "key_1")),
        first.next_page_token + "x",
    ):
        with pytest.raises(InvalidRequest, match="not one of this list"):
            await keys.ListKeys(pb.ListKeysRequest(page_token=wrong), Call())
    theirs = PageTokens(Signer(KEYS), "key-page").make(TenantId("other"), (), ("0.0", "key_1"))
    with pytest.raises(InvalidRequest, match="not one of this list"):
        await keys.ListKeys(pb.ListKeysRequest(page_token=theirs), Call())
