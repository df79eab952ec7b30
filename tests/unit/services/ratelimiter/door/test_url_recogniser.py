"""No key in a URL."""

from __future__ import annotations

import pytest

from libs.errors import Unauthenticated
from services.ratelimiter.door.callers import Question
from services.ratelimiter.door.url_recogniser import NotInUrl
from services.ratelimiter.keys import form as keys

SECRET = keys.new_secret()


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/jobs?key={SECRET}",
        f"/v1/jobs?key=Bearer%20{SECRET.replace('_', '%5F')}",
        f"/v1/jobs/{SECRET}",
        f"/v1/jobs?page_token=a&x=y;{SECRET[:40]}",
        "/v1/models?API_KEY=abc",
        "/v1/models?access_token=",
        "/v1/models?a=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln",
    ],
    ids=["named", "encoded", "in the path", "cut off", "by name", "by name, empty", "a token"],  # keys differ by run
)
async def test_a_url_with_a_key_or_a_token_is_refused(path: str):
    with pytest.raises(Unauthenticated, match="stands in the URL") as caught:
        await NotInUrl().recognise(Question(path=path))
    assert caught.value.reason == "KEY_IN_URL"
    assert SECRET[12:] not in caught.value.message


@pytest.mark.parametrize(
    "path",
    ["", "/", "/v1/jobs?page_size=5", "/v1/jobs/job_1/events?token=k1.abc.def", "/v1/blobs/ab.png?e=1&k=k1&s=x", "/%"],
)
async def test_other_urls_pass(path: str):
    assert await NotInUrl().recognise(Question(path=path)) is None
