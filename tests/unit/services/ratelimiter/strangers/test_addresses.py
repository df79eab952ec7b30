"""As whom those are taken who prove nothing."""

from __future__ import annotations

import pytest

from services.ratelimiter.strangers.addresses import around, counted, network, network_of, tenant_at
from services.ratelimiter.strangers.pseudonyms import Pseudonyms


@pytest.mark.parametrize(
    ("address", "tenant"),
    [
        ("203.0.113.7", "anon:203.0.113.7"),
        ("::ffff:203.0.113.7", "anon:203.0.113.7"),
        ("2001:DB8:0:0::1", "anon:2001:db8::/64"),
        ("2001:db8::ffff:0:0:2", "anon:2001:db8::/64"),
        ("fe80::1%eth0", "anon:fe80::/64"),
        ("", "anon:unknown"),
        ("/run/envoy.sock", "anon:unknown"),
    ],
)
def test_an_address_has_one_spelling(address: str, tenant: str):
    assert tenant_at(counted(address)) == tenant


@pytest.mark.parametrize(
    ("address", "around"),
    [
        ("203.0.113.7", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.0/24"),
        ("2001:db8:1:2::1", "2001:db8:1::/48"),
        ("::1", "::/48"),
        ("", "unknown"),
    ],
)
def test_a_network_is_wider_than_an_address(address: str, around: str):
    assert network(address) == around


@pytest.mark.parametrize(
    ("address", "wider"),
    [
        ("2001:db8:1:2::1", "2001:db8:1::/48"),
        ("203.0.113.7", ""),
        ("::ffff:203.0.113.7", ""),
        ("", ""),
    ],
)
def test_only_of_ipv6_there_is_a_network_around_that_one_customer_may_have(address: str, wider: str):
    assert around(address) == wider


def test_what_stands_for_an_address_says_which_are_of_one_network_and_neither_of_them():
    names = Pseudonyms("a secret of the test")
    here, beside, other = (names.of(f"2001:db8:{net}::1") for net in ("1:2", "1:3", "2:2"))
    assert here != beside
    assert network_of(here) == network_of(beside) != network_of(other)
    assert all(len(name) <= 64 and "2001" not in name for name in (here, beside, other))
    assert network_of(names.of("203.0.113.7")) == network_of("203.0.113.7") == network_of("unknown") == ""
