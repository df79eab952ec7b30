"""Scopes as text and back."""

from __future__ import annotations

from libs import scopes
from libs.scopes import Scope


def test_text_and_parse_agree():
    for some in (frozenset(), scopes.STRANGERS, scopes.USUAL, scopes.EVERY):
        assert scopes.parse(scopes.text(some).split()) == (some, ())


def test_names_that_are_no_scopes_come_back_once():
    assert scopes.parse(["jobs:read", "jobs:all", "jobs:all", ""]) == (frozenset({Scope.JOBS_READ}), ("jobs:all", ""))


def test_the_usual_key_makes_no_keys():
    assert Scope.KEYS_WRITE not in scopes.USUAL
    assert scopes.STRANGERS < scopes.USUAL
