"""What an API key looks like: `dk_<8 characters>_<43 characters>`. Only its hash is kept."""

from __future__ import annotations

import hashlib
import re
import secrets
import string

_ALPHABET = string.ascii_letters + string.digits
_PREFIX_CHARS, _SECRET_BYTES = 8, 32
_FORM = re.compile(r"dk_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{43}")


def new_secret() -> str:
    """Return a new key; 256 random bits, so a plain hash of it cannot be guessed back."""
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(_PREFIX_CHARS))
    return f"dk_{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"


def prefix_of(secret: str) -> str:
    """Return the first characters, enough to recognise a key and not enough to use it."""
    return secret[: len("dk_") + _PREFIX_CHARS]


def digest(secret: str) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(secret.encode()).digest()


def is_well_formed(text: str) -> bool:
    """Whether a text can be a key at all."""
    return _FORM.fullmatch(text) is not None
