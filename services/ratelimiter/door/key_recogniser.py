"""Callers who show an API key."""

from __future__ import annotations

from libs.errors import Unauthenticated
from services.ratelimiter.door.callers import Caller, Question
from services.ratelimiter.keys.keyring import Keyring
from services.ratelimiter.strangers.wrong_keys import WrongKeys

_SCHEME = "bearer"  # in any case, as every scheme is; what comes after it is one space and the key


class ByKey:
    """Recognises `Authorization: Bearer dk_…`; whatever else stands in that header is refused."""

    def __init__(self, keyring: Keyring, wrong_keys: WrongKeys) -> None:
        self._keyring, self._wrong_keys = keyring, wrong_keys

    async def recognise(self, question: Question) -> Caller | None:
        """Return the key's tenant; None without the header. Raises Unauthenticated, LimitExceeded."""
        if not question.authorization:
            return None
        scheme, _, secret = question.authorization.partition(" ")
        if scheme.lower() != _SCHEME:
            told = "Authorization must be `Bearer dk_…`. Nothing was charged; leave it out to call without a key."
            raise Unauthenticated(told)
        if not self._keyring.remembers(secret):
            self._wrong_keys.let_ask(question.address)
        key = await self._keyring.authenticate(secret)
        return Caller(key.tenant_id, key.tier, key.id, key.scopes, ends_s=key.expires_s)
