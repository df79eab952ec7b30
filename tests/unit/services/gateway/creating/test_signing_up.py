"""Refusals name only what is on."""

from __future__ import annotations

import pytest

from services.gateway.creating import signing_up


@pytest.mark.parametrize(
    ("sign_up", "told"), [("", "ask whoever runs"), ("on", "makes one at once"), ("invite", "with an invite")]
)
def test_the_advice_names_what_is_on(sign_up: str, told: str):
    assert told in signing_up.advice(sign_up)
    assert ("/v1/accounts" in signing_up.advice(sign_up)) == bool(sign_up)
