"""What is said of a key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from libs.cli import keys
from libs.clients.limiter_admin import ApiKey
from libs.ids import KeyId, TenantId

NOW_S = 1_800_000_000.0
KEY = ApiKey(KeyId("key_1"), TenantId("acme"), "pro", "dk_ABCDEFGH", "", NOW_S - 60, None, None)


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (KEY, "works"),
        (replace(KEY, revoked_s=NOW_S - 1, expires_s=NOW_S - 2), "revoked"),
        (replace(KEY, expires_s=NOW_S), "expired"),
        (replace(KEY, expires_s=NOW_S + 60), "works until 2027-01-15T08:01:00Z"),
        (
            replace(KEY, expires_s=NOW_S + 60, replaced_by="key_2"),
            "works until 2027-01-15T08:01:00Z, replaced by key_2",
        ),
    ],
)
def test_a_key_works_or_it_is_said_why_not(key: ApiKey, told: str) -> None:
    assert keys.state_text(key, NOW_S) == told


def test_the_last_use_is_told() -> None:
    assert keys.used_text(KEY) == "never"
    assert keys.used_text(replace(KEY, last_used_s=NOW_S)) == "2027-01-15T08:00:00Z"
