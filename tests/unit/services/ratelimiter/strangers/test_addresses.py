"""As whom those are taken who prove nothing."""

from __future__ import annotations

import pytest

from services.ratelimiter.strangers.addresses import counted, network, tenant_at


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
