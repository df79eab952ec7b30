"""Keys and tokens in a URL, where everybody on the way writes them down: refused, so that nobody gets used to them."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote

from libs.errors import Unauthenticated
from services.ratelimiter.door.callers import Caller, Question

_KEY = re.compile(r"dk_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{16}")
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.")
_NAMES = frozenset({"api_key", "api-key", "apikey", "access_token", "authorization", "bearer"})


class NotInUrl:
    """Recognises nobody: it refuses whoever shows a key or a token in the path or the query."""

    async def recognise(self, question: Question) -> Caller | None:
        """Return None. Raises Unauthenticated."""
        if _is_shown(question.path):
            told = (
                "A key or token stands in the URL, where it is logged on the way: take it as known to others and make "
                "a new one. Send it as `Authorization: Bearer …` instead. Nothing was charged."
            )
            raise Unauthenticated(told, reason="KEY_IN_URL")
        return None


def _is_shown(path: str) -> bool:
    plain = unquote(path)
    if _KEY.search(plain) or _TOKEN.search(plain):
        return True
    query = path.partition("?")[2]
    return any(name.lower() in _NAMES for name, _ in parse_qsl(query, keep_blank_values=True))
