"""What a key or a token may be used for. One name each, the same in keys, tokens, headers and refusals."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Scope(Enum):
    """A part of the public API."""

    JOBS_WRITE = "jobs:write"  # make, estimate, cancel and delete jobs; upload pictures
    JOBS_READ = "jobs:read"  # read jobs, their events and their pictures
    MODELS_READ = "models:read"  # read the catalog
    USAGE_READ = "usage:read"  # read limits, usage and events of the account
    KEYS_WRITE = "keys:write"  # make, rotate and withdraw keys
    WEBHOOKS_WRITE = "webhooks:write"  # have events sent to an address


Scopes = frozenset[Scope]

EVERY: Scopes = frozenset(Scope)
USUAL: Scopes = EVERY - {Scope.KEYS_WRITE}  # a key that leaks must not make others
STRANGERS: Scopes = frozenset({Scope.JOBS_WRITE, Scope.JOBS_READ, Scope.MODELS_READ, Scope.USAGE_READ})
NAMES = tuple(scope.value for scope in Scope)


def parse(names: Iterable[str]) -> tuple[Scopes, tuple[str, ...]]:
    """Return the scopes of names, and the names that are none."""
    asked = tuple(dict.fromkeys(names))
    known = frozenset(Scope(name) for name in asked if name in NAMES)
    return known, tuple(name for name in asked if name not in NAMES)


def text(scopes: Scopes) -> str:
    """Return the names with spaces between them, always in the same order; `text` and `parse(….split())` agree."""
    return " ".join(scope.value for scope in Scope if scope in scopes)
