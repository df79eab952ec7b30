"""Tokens of an identity provider through the real Envoy: whom they stand for, and which are refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from libs.errors import Unauthenticated
from libs.ids import TenantId
from libs.rpc.status import from_rpc_error
from libs.testing import waiting
from tests.integration.services.door.conftest import Doorway
from tests.integration.services.door.issuer import Issuer, SigningKey

pytestmark = pytest.mark.asyncio(loop_scope="session")

USUAL = "jobs:write jobs:read models:read usage:read webhooks:write"
STRANGER = SigningKey.rsa("first")  # the id of the issuer's key, another key


async def test_a_token_stands_for_the_tenant_it_names_and_goes_no_further(door: Doorway):
    answer = await door.call(door.issuer.token(tenant="new-tenant"))
    assert answer.status_code == 200
    assert door.who() == ("new-tenant", "free", USUAL)
    assert answer.headers["x-ratelimit-limit-requests"] == "200"  # of its tier
    assert door.visited.headers is not None
    assert "authorization" not in door.visited.headers
    await door.native(door.issuer.token(tenant="new-tenant"))
    assert door.who() == ("new-tenant", "free", USUAL)


async def test_people_of_a_tenant_are_told_apart_without_their_names(door: Doorway):
    seen = []
    for subject in ("ann@example.com", "bob@example.com", "ann@example.com"):
        await door.call(door.issuer.token(sub=subject))
        assert door.visited.headers is not None
        seen.append(door.visited.headers["x-darkroom-key-id"])
    assert seen[0] == seen[2] != seen[1]
    assert all(who.startswith("tok_") and "example" not in who for who in seen)


async def test_a_token_gives_a_new_tenant_a_tier_that_may_be_given_and_no_other(door: Doorway):
    await door.call(door.issuer.token(tenant="gets-pro", tier="pro"))
    assert door.who()[:2] == ("gets-pro", "pro")
    await door.call(door.issuer.token(tenant="wants-more", tier="enterprise"))
    assert door.who()[:2] == ("wants-more", "free")


async def test_a_tenant_that_is_known_keeps_its_tier(door: Doorway):
    await door.admin.create_key(TenantId("known"), "payg", "")
    await door.call(door.issuer.token(tenant="known", tier="pro"))
    assert door.who()[:2] == ("known", "payg")


@pytest.mark.parametrize(
    ("claim", "scopes"),
    [
        ("openid jobs:read profile", "jobs:read"),
        (["models:read", "jobs:write"], "jobs:write models:read"),
        ("jobs:write keys:write", "jobs:write keys:write"),
        ("openid", ""),
        (7, ""),
    ],
)
async def test_a_token_may_be_used_for_what_it_says(door: Doorway, claim: object, scopes: str):
    answer = await door.call(door.issuer.token(scope=claim))
    if "jobs:read" in scopes:
        assert door.who()[2] == scopes
        return
    assert answer.status_code == 403
    assert answer.json()["details"][0]["metadata"] == {"scope": "jobs:read"}
    made = await door.call(door.issuer.token(scope=claim), "POST")
    assert made.status_code == (200 if "jobs:write" in scopes else 403)


def in_the_past(issuer: Issuer) -> str:
    return issuer.token(exp=time.time() - 60)


def tampered(issuer: Issuer) -> str:
    head, body, signature = issuer.token().split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    forged = base64.urlsafe_b64encode(json.dumps({**claims, "tenant": "victim"}).encode()).decode().rstrip("=")
    return f"{head}.{forged}.{signature}"


def signed_with_the_public_key(issuer: Issuer) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = issuer.key.private.public_key().public_bytes(serialization.Encoding.PEM, form)
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT","kid":"first"}').decode().rstrip("=")
    body = issuer.token().split(".")[1]
    signature = hmac.new(public, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


def unsigned(issuer: Issuer) -> str:
    claims = jwt.decode(issuer.token(), options={"verify_signature": False})
    return jwt.encode(claims, "", "none")


BAD: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "expired": (in_the_past, "TOKEN_EXPIRED"),
    "for somebody else": (lambda issuer: issuer.token(aud="other"), "TOKEN_INVALID"),
    "for several others": (lambda issuer: issuer.token(aud=["a", "b"]), "TOKEN_INVALID"),
    "of another issuer": (lambda issuer: issuer.token(iss="https://evil.example"), "TOKEN_INVALID"),
    "not valid yet": (lambda issuer: issuer.token(nbf=time.time() + 3600), "TOKEN_INVALID"),
    "without an end": (lambda issuer: issuer.token(exp=None), "TOKEN_INVALID"),
    "of another key": (lambda issuer: issuer.token(STRANGER), "TOKEN_INVALID"),
    "of an unknown key": (lambda issuer: issuer.token(SigningKey.ec("nobody")), "TOKEN_INVALID"),
    "tampered": (tampered, "TOKEN_INVALID"),
    "unsigned": (unsigned, "TOKEN_INVALID"),
    "HMAC by the public key": (signed_with_the_public_key, "TOKEN_INVALID"),
    "garbage": (lambda _issuer: "eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "TOKEN_INVALID"),
    "without a tenant": (lambda issuer: issuer.token(tenant=None), "TOKEN_INVALID"),
    "as a stranger": (lambda issuer: issuer.token(tenant="anon:127.0.0.1"), "TOKEN_INVALID"),
    "with a line break": (lambda issuer: issuer.token(tenant="a\r\nx-darkroom-tier: pro"), "TOKEN_INVALID"),
    "with a tenant that is no text": (lambda issuer: issuer.token(tenant=["a", "b"]), "TOKEN_INVALID"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_token_is_401_in_our_shape_and_never_anonymous(door: Doorway, case: str):
    make, reason = BAD[case]
    answer = await door.call(make(door.issuer))
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/json")
    assert answer.json()["details"][0]["reason"] == reason
    assert answer.headers["x-ratelimit-limit-requests"] == "100"  # of the address
    assert door.visited.headers is None
    error = await refused(door, make(door.issuer))
    assert isinstance(error, Unauthenticated)
    assert error.reason == reason


async def refused(door: Doorway, token: str) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await door.native(token)
    assert door.visited.headers is None
    return from_rpc_error(caught.value, "gateway")


async def test_a_token_in_the_url_is_refused(door: Doorway):
    answer = await door.client.get("/v1/jobs/job_1", params={"access_token": door.issuer.token()})
    assert answer.json()["details"][0]["reason"] == "KEY_IN_URL"


async def test_keys_go_on_working_beside_tokens(door: Doorway):
    made = await door.admin.create_key(TenantId("keyed"), "pro", "")
    await door.call(made.secret)
    assert door.who()[:2] == ("keyed", "pro")
    both = await door.call("", authorization=f"Bearer {door.issuer.token(STRANGER)}, Bearer {made.secret}")
    assert both.status_code == 401


async def test_the_issuer_changes_its_keys_without_a_restart(door: Doorway):
    old, new = door.issuer.key, SigningKey.ec("second")
    assert (await door.call(door.issuer.token(new))).status_code == 401
    door.issuer.publish(old, new)

    async def is_taken() -> bool:
        return (await door.call(door.issuer.token(new))).status_code == 200

    async def is_refused() -> bool:
        return (await door.call(door.issuer.token(old))).status_code != 200

    await waiting.until(is_taken, within_s=30)
    assert (await door.call(door.issuer.token(old))).status_code == 200  # both, while tokens of the old one are about
    door.issuer.publish(new)
    await waiting.until(is_refused, within_s=30)
    door.issuer.publish(old)
    await waiting.until(lambda: _answers(door, door.issuer.token(old)), within_s=30)


async def _answers(door: Doorway, token: str) -> bool:
    return (await door.call(token)).status_code == 200
