"""Which addresses a webhook is sent to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from services.gateway.webhooks.addresses import alternating, is_public, resolver


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "172.32.0.1", "2606:4700:4700::1111", "64:ff9b::808:808"]
)
def test_addresses_of_the_internet(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1"),
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:a00:1", "::7f00:1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a00:1::1"),
        *("2001:0:7f00:1::1", "3fff::1", "5f00::1", "100::1", "192.88.99.1", "hook.example", "", "127.1", "2130706433"),
    ],
)
def test_everything_else(address: str) -> None:
    assert not is_public(address)


async def test_the_systems_resolver_gives_each_address_once() -> None:
    with ThreadPoolExecutor(1) as threads:
        assert await resolver(threads)("127.0.0.1", 443) == ["127.0.0.1"]
        assert await resolver(threads)("2130706433", 443) == ["127.0.0.1"]  # why names are judged by what they lead to
        with pytest.raises(UnicodeError):
            await resolver(threads)("x" * 64, 443)


@pytest.mark.parametrize(
    ("found", "tried"),
    [
        (["::1", "::2", "::3", "1.1.1.1"], ["::1", "1.1.1.1", "::2", "::3"]),
        (["1.1.1.1", "2.2.2.2", "::1", "::2"], ["1.1.1.1", "::1", "2.2.2.2", "::2"]),
        (["1.1.1.1"], ["1.1.1.1"]),
    ],
)
def test_the_families_are_tried_in_turn(found: list[str], tried: list[str]) -> None:
    assert alternating(found) == tried
