"""Callers who show an API key."""

from __future__ import annotations

from libs.errors import Unauthenticated
from services.ratelimiter.callers import Caller, Question
from services.ratelimiter.keyring import Keyring

_SCHEME = "bearer"


class ByKey:
    """Recognises `Authorization: Bearer dk_…`; whatever else stands in that header is refused."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def recognise(self, question: Question) -> Caller | None:
        """Return the key's tenant; None without the header. Raises Unauthenticated."""
        if not question.authorization:
            return None
        scheme, _, secret = question.authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            told = "Authorization must be `Bearer dk_…`. Nothing was charged; leave it out to call without a key."
            raise Unauthenticated(told)
        key = await self._keyring.authenticate(secret.strip())
        return Caller(key.tenant_id, key.tier, key.id, key.scopes)
