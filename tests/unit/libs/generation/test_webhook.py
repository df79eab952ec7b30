"""Whom the URL of a webhook leads to: one reading, that never fails."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.generation.webhook import Receiver, receiver_of


@pytest.mark.parametrize(
    ("url", "receiver"),
    [
        ("https://hook.example/done?x=1#y", Receiver("https", "hook.example", 443)),
        ("HTTPS://Hook.Example.:8443", Receiver("https", "hook.example", 8443)),
        ("http://10.0.0.1?x", Receiver("http", "10.0.0.1", 80)),
        ("https://[2606:4700:0::1]:444/", Receiver("https", "2606:4700::1", 444)),
        ("https://xn--strae-oqa.de/", Receiver("https", "xn--strae-oqa.de", 443)),
        ("https://xn--zzzzzz--/", Receiver("https", "xn--zzzzzz--", 443)),
    ],
)
def test_whom_a_url_leads_to(url: str, receiver: Receiver) -> None:
    assert receiver_of(url) == receiver


@pytest.mark.parametrize(
    "host",
    [
        *("a]b", "a[b", "a[b]c", "[a]", "[::1", "[::1%25eth0]", "[]", "a\\b", "a%00b", "a^b", "a..b", ".", ".a", "a_b"),
        *("", "me@a", "me:word@a", "a\\@b", "a:0", "a:65536", "a:", "a:x", "a:٣", "ä.de", "x" * 64, "a b", "a\n"),
        ".".join(["x" * 63] * 4),
    ],
)
def test_nobody_can_tell(host: str) -> None:
    assert receiver_of(f"https://{host}/") is None


@given(st.text() | st.text(alphabet="ahtps:/[]@.%\\0?#").map("https://{}".format))
def test_it_never_fails(url: str) -> None:
    receiver_of(url)
