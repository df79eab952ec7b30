"""Accounts, and keys in the hands of their tenant, on a real listener."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs import scopes
from libs.clients.identity import MOST_ASKED, EndedKey, Holder, IdentityClient
from libs.errors import InvalidRequest, LimitExceeded, NotFound, PermissionDenied, PreconditionFailed
from libs.ids import KeyId, TenantId
from libs.scopes import Scope
from services.ratelimiter.keys.sql_accounts import SqlAccounts

ACME = Holder(TenantId("acme"), "pro", scopes.EVERY)


@pytest.fixture
def settings(settings, request: pytest.FixtureRequest):
    """The settings, with the sign-up that a test asks for."""
    return replace(settings, sign_up=getattr(request, "param", "off"))


def signed_up(mode: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("settings", [mode], indirect=True)


async def test_nobody_signs_up_unless_it_is_on(service):
    with pytest.raises(PermissionDenied, match="Nobody can sign up here") as caught:
        await IdentityClient(service.channel).sign_up("198.51.100.1", "", "")
    assert caught.value.reason == "SIGN_UP_OFF"
    assert await service.admin.list_keys() == []


@signed_up("on")
async def test_an_account_has_a_key_that_may_do_everything_at_once_and_three_a_day(service, clock):
    identity = IdentityClient(service.channel)
    made = [await identity.sign_up("198.51.100.1", "", "mine") for _ in range(3)]
    assert len({each.key.tenant_id for each in made}) == 3
    assert (made[0].key.tier, made[0].key.name, made[0].key.scopes) == ("free", "mine", scopes.NAMES)
    with pytest.raises(LimitExceeded, match="3 accounts were made from your network today") as caught:
        await identity.sign_up("198.51.100.1", "", "")
    assert caught.value.reason == "SIGN_UPS_EXHAUSTED"
    assert caught.value.retry_after_s == pytest.approx(86_400 - clock.now() % 86_400)
    with pytest.raises(InvalidRequest, match="without a key"):
        await identity.sign_up("", "", "")


@signed_up("invite")
async def test_where_it_is_by_invite_a_code_is_needed_and_used_up(service, clock):
    identity = IdentityClient(service.channel)
    invite = await service.admin.create_invite(1, lifetime_s=60)
    assert invite.expires_s == clock.now() + 60
    for code, told in (("", "needs an invite"), ("inv_guessed", "not known here")):
        with pytest.raises(PermissionDenied, match=told) as caught:
            await identity.sign_up("198.51.100.1", code, "")
        assert caught.value.reason == "INVITE_INVALID"
    await identity.sign_up("198.51.100.1", invite.code, "")
    with pytest.raises(PermissionDenied, match="used up"):
        await identity.sign_up("198.51.100.2", invite.code, "")
    for uses, lifetime_s in ((0, None), (1001, None), (1, -1.0)):
        with pytest.raises(InvalidRequest, match="No invite was made"):
            await service.admin.create_invite(uses, lifetime_s)


async def test_a_tenant_looks_after_its_keys_and_reaches_no_others(service):
    identity = IdentityClient(service.channel)
    theirs = await service.admin.create_key(TenantId("other"), "pro", "")
    made = await identity.create_key(ACME, "site", ["jobs:read"], 3600)
    usual = await identity.create_key(ACME, "", [], None)
    assert (made.key.tenant_id, made.key.tier, made.key.scopes) == ("acme", "pro", ("jobs:read",))
    assert usual.key.scopes == tuple(scopes.text(scopes.USUAL).split())
    assert [key.id for key in (await identity.list_keys(ACME, 9)).keys] == [made.key.id, usual.key.id]
    rotated = await identity.rotate_key(ACME, made.key.id, 0)
    assert rotated.replaced.replaced_by == rotated.key.id
    assert (await identity.revoke_key(ACME, usual.key.id)).revoked_s is not None
    for key_id in (theirs.key.id, KeyId("key_none")):
        with pytest.raises(NotFound):
            await identity.rotate_key(ACME, key_id, None)
        with pytest.raises(NotFound):
            await identity.revoke_key(ACME, key_id)
    assert (await service.admin.list_keys(TenantId("other")))[0].revoked_s is None


async def test_keys_are_listed_in_pages(service):
    identity = IdentityClient(service.channel)
    made = [(await identity.create_key(ACME, "", [], None)).key for _ in range(3)]
    await identity.create_key(replace(ACME, tenant_id=TenantId("other")), "", [], None)
    first = await identity.list_keys(ACME, 2)
    rest = await identity.list_keys(ACME, 2, first.last)
    assert sorted(key.id for key in (*first.keys, *rest.keys)) == sorted(key.id for key in made)
    assert (len(first.keys), len(rest.keys), rest.last) == (2, 1, None)
    for place in ((float("nan"), KeyId("key_1")), (1.0, KeyId("")), (1.0, KeyId("\0"))):
        with pytest.raises(InvalidRequest, match="after must be the place of a key"):
            await identity.list_keys(ACME, 2, place)


async def test_the_gateway_learns_which_keys_have_ended(service, clock):
    identity = IdentityClient(service.channel)
    lasting, gone = [await identity.create_key(ACME, "", [], None) for _ in range(2)]
    brief = await identity.create_key(ACME, "", [], 60)
    asked = [lasting.key.id, gone.key.id, brief.key.id]
    assert await identity.ended_keys(asked) == []
    await service.admin.revoke_key(gone.key.id)
    await clock.advance(60)
    assert set(await identity.ended_keys(asked)) == {
        EndedKey(gone.key.id, "KEY_REVOKED"),
        EndedKey(brief.key.id, "KEY_EXPIRED"),
    }
    for strange in ([KeyId("")], [KeyId("ü")], [KeyId("x" * 65)], [KeyId("k")] * (MOST_ASKED + 1)):
        with pytest.raises(InvalidRequest, match="must be at most 1000 ids of keys"):
            await identity.ended_keys(strange)


async def test_nobody_gets_a_key_that_may_do_more_than_theirs(service):
    identity, weak = (
        IdentityClient(service.channel),
        replace(ACME, scopes=frozenset({Scope.KEYS_WRITE, Scope.JOBS_READ})),
    )
    strong = await identity.create_key(ACME, "", ["jobs:write", "jobs:read"], None)
    with pytest.raises(PermissionDenied, match="lacks jobs:write"):
        await identity.create_key(weak, "", ["jobs:write", "jobs:read"], None)
    with pytest.raises(PermissionDenied, match="lacks jobs:write"):
        await identity.rotate_key(weak, strong.key.id, None)
    assert (await identity.create_key(weak, "", [], None)).key.scopes == ("jobs:read",)
    await identity.revoke_key(weak, strong.key.id)  # to end one is never too much


async def test_nobody_gets_a_key_that_lasts_longer_than_theirs(service, clock):
    identity, ends_s = IdentityClient(service.channel), clock.now() + 3600
    brief = replace(ACME, ends_s=ends_s)
    for lifetime_s, expected_s in ((None, ends_s), (7200, ends_s), (60, clock.now() + 60)):
        assert (await identity.create_key(brief, "", [], lifetime_s)).key.expires_s == expected_s
    lasting = await identity.create_key(ACME, "", [], None)
    assert lasting.key.expires_s is None
    rotated = await identity.rotate_key(brief, lasting.key.id, 0)
    assert rotated.key.expires_s == ends_s
    await clock.advance(3600)  # a token may be taken for some seconds after its end
    for made in (identity.create_key(brief, "", [], None), identity.rotate_key(brief, rotated.key.id, 0)):
        with pytest.raises(PreconditionFailed, match="ends now"):
            await made
    assert len((await identity.list_keys(ACME, 9)).keys) == 5


async def test_a_tenant_has_a_hundred_keys_at_most(service):
    identity = IdentityClient(service.channel)
    made = [await identity.create_key(ACME, "", [], None) for _ in range(100)]
    with pytest.raises(PreconditionFailed, match="at most 100 keys"):
        await identity.create_key(ACME, "", [], None)
    await identity.revoke_key(ACME, made[0].key.id)
    newest = (await identity.create_key(ACME, "", [], None)).key
    for _ in range(100):  # each goes on for a day
        newest = (await identity.rotate_key(ACME, newest.id, None)).key
    with pytest.raises(PreconditionFailed, match="at most 200"):
        await identity.rotate_key(ACME, newest.id, None)
    await identity.revoke_key(ACME, made[1].key.id)
    await identity.rotate_key(ACME, newest.id, None)


async def test_looking_after_one_key_reads_no_others(service, monkeypatch: pytest.MonkeyPatch):
    identity = IdentityClient(service.channel)
    made = await identity.create_key(ACME, "", [], None)

    async def listed(*_: object) -> None:
        pytest.fail("all keys were read")

    monkeypatch.setattr(SqlAccounts, "list", listed)
    rotated = await identity.rotate_key(ACME, made.key.id, None)
    await identity.create_key(ACME, "", [], None)
    await identity.revoke_key(ACME, rotated.key.id)
