"""What a tenant may be called. Its name travels as a header, so other letters and spaces would make it another one."""

from __future__ import annotations

import re

from services.ratelimiter.strangers.ages import PREFIX

_MOST_CHARS = 200
_PLAIN = re.compile(r"[!-~]+")


def problem(name: str) -> str | None:
    """Return what is wrong with a name, as the end of a sentence that begins with it."""
    if not 0 < len(name) <= _MOST_CHARS:
        return f"must have 1 to {_MOST_CHARS} printable characters"
    if not _PLAIN.fullmatch(name):
        return "must be ASCII letters, digits and signs without spaces"
    if name.startswith(PREFIX):
        return f"must not begin with {PREFIX} – those are callers without a key"
    return None
