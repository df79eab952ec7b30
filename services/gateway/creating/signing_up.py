"""What callers without a key are told of having one: only what is on here."""

from __future__ import annotations

_ADVICE = {
    "on": "A free account has limits of its own: POST /v1/accounts makes one at once.",
    "invite": "A free account has limits of its own: with an invite, POST /v1/accounts makes one at once.",
}
_NOBODY = "An API key has limits of its own: ask whoever runs this service."


def advice(sign_up: str) -> str:
    """Return the sentence; `sign_up` is what the door says of it, empty where nobody may sign up."""
    return _ADVICE.get(sign_up, _NOBODY)
