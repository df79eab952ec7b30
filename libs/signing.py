"""Signatures of what is handed out and taken back: links, tokens of event streams and of pages, cookies.

HMAC-SHA256 over the purpose and every part, so that one kind of token is never good for another. New ones are
signed with the current key and name it; older keys stay good while they are listed (libs/secret_files).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Sequence

from libs.secret_files import SigningKeys


class Signer:
    """Signs and checks with a ring of keys."""

    def __init__(self, keys: SigningKeys) -> None:
        self._keys = keys

    def sign(self, purpose: str, parts: Sequence[str]) -> tuple[str, str]:
        """Return the id of the key and the signature."""
        return self._keys.current, _signature(self._keys.keys[self._keys.current], purpose, parts)

    def is_valid(self, purpose: str, parts: Sequence[str], key_id: str, signature: str) -> bool:
        """Whether the signature is ours, for this purpose and these parts; compared in constant time."""
        key = self._keys.keys.get(key_id)
        if key is None:
            return False  # ids of keys stand in every link and are no secret
        wanted = _signature(key, purpose, parts)
        return hmac.compare_digest(wanted.encode(), signature.encode("utf-8", "replace"))

    def seal(self, purpose: str, parts: Sequence[str]) -> str:
        """Return the parts with their signature as one opaque token for a URL."""
        body = json.dumps([*self.sign(purpose, parts), *parts], separators=(",", ":"))
        return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()

    def unseal(self, purpose: str, token: str) -> list[str] | None:
        """Return the parts of a token that `seal` made for this purpose; None for anything else."""
        try:
            padded = token.encode("ascii") + b"=" * (-len(token) % 4)
            values = json.loads(base64.urlsafe_b64decode(padded))
            key_id, signature, *parts = values
        except (ValueError, TypeError, binascii.Error, RecursionError):
            return None
        if not all(isinstance(value, str) for value in values):
            return None
        return parts if self.is_valid(purpose, parts, key_id, signature) else None


def _signature(key: bytes, purpose: str, parts: Sequence[str]) -> str:
    text = json.dumps([purpose, *parts], separators=(",", ":"))  # JSON keeps the parts apart
    digest = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
