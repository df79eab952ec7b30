from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import InvalidRequest, NotFound
from libs.ids import TenantId
from libs.secret_files import SigningKeys
from libs.signing import Signer
from services.gateway.reading.links import Links
from services.gateway.reading.page_tokens import PageTokens, page_size
from tests.unit.services.gateway.fakes import JOB, KEYS, NOW, SHA

OTHER = SigningKeys("k1", {"k1": b"2" * 32})
ROTATED = SigningKeys("k2", {"k1": b"1" * 32, "k2": b"3" * 32})
TENANT = TenantId("acme")
LINKS = Links(Signer(KEYS))


def parts(path: str) -> tuple[str, int, str, str]:
    url = urlsplit(path)
    query = {name: values[0] for name, values in parse_qs(url.query).items()}
    return url.path.removeprefix("/v1/blobs/"), int(query["e"]), query["k"], query["s"]


NAME, ENDS, KEY_ID, SIGNATURE = parts(LINKS.blob_path(SHA, "image/webp", NOW + 10))


def test_a_link_leads_to_its_picture_until_it_ends() -> None:
    blob = LINKS.blob(NAME, ENDS, KEY_ID, SIGNATURE, NOW)
    assert (NAME, blob.sha256, blob.content_type) == (f"{SHA}.webp", SHA, "image/webp")
    with pytest.raises(NotFound):
        LINKS.blob(NAME, ENDS, KEY_ID, SIGNATURE, ENDS)


def test_a_link_says_what_it_leads_to() -> None:
    path = LINKS.blob_path(SHA, "video/mp4", NOW + 10)
    assert path.startswith(f"/v1/blobs/{SHA}.mp4?")
    assert LINKS.blob(*parts(path), NOW).content_type == "video/mp4"


@pytest.mark.parametrize(
    "altered",
    [
        ("cd" * 32 + ".webp", ENDS, KEY_ID, SIGNATURE),
        (f"{SHA}.png", ENDS, KEY_ID, SIGNATURE),
        (NAME, ENDS + 1, KEY_ID, SIGNATURE),
        (NAME, ENDS, "k9", SIGNATURE),
        (NAME, ENDS, KEY_ID, SIGNATURE[:-1]),
        (NAME, ENDS, KEY_ID, ""),
        ("", 0, "", ""),
        (NAME, ENDS, KEY_ID, "é" * 43),
    ],
)
def test_an_altered_link_leads_nowhere(altered: tuple[str, int, str, str]) -> None:
    with pytest.raises(NotFound) as caught:
        LINKS.blob(*altered, NOW)
    assert caught.value.reason == "LINK_INVALID"


def test_keys_rotate() -> None:
    assert Links(Signer(ROTATED)).blob(NAME, ENDS, KEY_ID, SIGNATURE, NOW)
    assert parts(Links(Signer(ROTATED)).blob_path(SHA, "image/png", ENDS))[2] == "k2"
    with pytest.raises(NotFound):
        Links(Signer(OTHER)).blob(NAME, ENDS, KEY_ID, SIGNATURE, NOW)


@pytest.mark.parametrize("guess", [b"", b"\0", b"k9"])
def test_an_unknown_key_signs_nothing(guess: bytes) -> None:
    forger = Links(Signer(SigningKeys("k9", {"k9": guess})))
    with pytest.raises(NotFound):
        LINKS.blob(*parts(forger.blob_path(SHA, "image/png", ENDS)), NOW)


def test_a_token_opens_the_events_of_its_job_until_it_ends() -> None:
    path = LINKS.events_path(JOB, TENANT, NOW + 10)
    token = parse_qs(urlsplit(path).query)["token"][0]
    linked = LINKS.events(token, NOW)
    assert (urlsplit(path).path, linked.job_id, linked.tenant_id) == (f"/v1/jobs/{JOB}/events", JOB, TENANT)
    with pytest.raises(NotFound):
        LINKS.events(token, NOW + 10)
    with pytest.raises(NotFound):
        Links(Signer(OTHER)).events(token, NOW)


def test_one_kind_of_token_is_no_good_for_another() -> None:
    page = PageTokens(Signer(KEYS)).make(TENANT, ["0"], [JOB])
    with pytest.raises(NotFound):
        LINKS.events(page, NOW)


@given(st.text(max_size=100))
def test_no_text_is_a_token(text: str) -> None:
    assert Signer(KEYS).unseal("events", text) is None


def test_a_page_token_is_bound_to_tenant_and_filter() -> None:
    pages = PageTokens(Signer(KEYS))
    token = pages.make(TENANT, ["3"], [JOB])
    assert pages.read(token, TENANT, ["3"]) == (JOB,)
    assert pages.read("", TENANT, ["3"]) == ()
    for tenant, state in ((TenantId("other"), "3"), (TENANT, "0")):
        with pytest.raises(InvalidRequest) as caught:
            pages.read(token, tenant, [state])
        assert caught.value.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (200, 200), (2**32 - 1, 200)])
def test_page_sizes(asked: int, given_: int) -> None:
    assert page_size(asked) == given_
