"""Who is told of a job's events: the part of a request that says so, and whom its URL leads to."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

FINAL_EVENTS = ("completed", "failed", "cancelled", "expired")
EVENTS = ("started", "image", *FINAL_EVENTS)  # all that can be told

PORTS = {"https": 443, "http": 80}
_MOST_HOST, _MAX_PORT = 253, 65535
_URL = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?(?:[/?#].*)?", re.ASCII | re.IGNORECASE)
_NAME = re.compile(r"[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address and the kinds of events that are posted to it; without any the final ones are meant."""

    url: str
    events: tuple[str, ...] = ()

    def resolved(self) -> Webhook:
        """Return it with the events that are told, each once and in order; unknown ones are left out."""
        return Webhook(self.url, tuple(kind for kind in EVENTS if kind in (self.events or FINAL_EVENTS)))


@dataclass(frozen=True, slots=True)
class Receiver:
    """Whom a URL leads to. `host` in lower case, without a dot at its end, an IPv6 address without brackets."""

    scheme: str
    host: str
    port: int


def receiver_of(url: str) -> Receiver | None:
    """Return whom a URL leads to, None when nobody can tell: the one reading of it, wherever it is read.

    Names are of plain letters, digits and hyphens, as they stand in the DNS; nothing is decoded, so that nobody can
    read another name in it. A user name before the host makes it unreadable.
    """
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme, host, port = found[1].lower(), _host(found[2].lower()), int(found[3] or PORTS[found[1].lower()])
    return Receiver(scheme, host, port) if host and 0 < port <= _MAX_PORT else None


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(ipaddress.IPv6Address(text[1:-1]))
        except ValueError:
            return ""
    name = text.removesuffix(".")
    return name if len(name) <= _MOST_HOST and _NAME.fullmatch(name) else ""
