"""As whom those are taken who prove nothing."""

from __future__ import annotations

import pytest

from services.ratelimiter.anonymous import ByAddress


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
    assert ByAddress().at(address).tenant_id == tenant
