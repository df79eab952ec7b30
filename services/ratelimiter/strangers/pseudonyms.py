"""What stands for an address wherever something is kept of it: usage, jobs and ledgers never see the address itself."""

from __future__ import annotations

import hashlib

from services.ratelimiter.strangers.addresses import AROUND, UNKNOWN, around, counted

_BYTES = 10


class Pseudonyms:
    """Makes them with a secret of the deployment: without it the few addresses there are cannot be tried.

    With another secret everybody is somebody else, and the day of each address begins anew.
    """

    def __init__(self, secret: str) -> None:
        self._key = hashlib.sha256(secret.encode()).digest()

    def of(self, address: str) -> str:
        """Return what stands for all that counts as one address; of IPv6 with what stands for the network around it."""
        plain = counted(address)
        if plain == UNKNOWN:
            return UNKNOWN
        wider = around(address)
        return self._hash(plain) + (AROUND + self._hash(wider) if wider else "")

    def _hash(self, plain: str) -> str:
        return hashlib.blake2b(plain.encode(), digest_size=_BYTES, key=self._key).hexdigest()
