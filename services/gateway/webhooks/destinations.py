"""Where webhooks may go: checked when a job asks for it, and again at every delivery.

A name can change what it resolves to at any moment, so the check at a delivery gives the addresses themselves, and
the connection is made to one of those. All of a name's addresses must be public: one that is not shows the intent.
"""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from darkroom.v1 import job_pb2
from libs.errors import Violation
from libs.generation.webhook import EVENTS
from services.gateway.webhooks.addresses import Resolve, is_address, is_public

MAX_URL = 1000
_PORTS = {"https": 443, "http": 80}
_MAX_PORT = 65535
_URL, _EVENTS = "webhook.url", "webhook.events"


class NotAllowed(Exception):
    """A webhook must not be sent there; the message is a word for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A URL with the addresses that were checked for this one delivery."""

    url: httpx.URL
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Destinations:
    """The rule. `insecure` also allows http and private addresses: for tests and rehearsal."""

    insecure: bool = False

    def problems(self, spec: job_pb2.JobSpec) -> list[Violation]:
        """Return what is wrong with a request's webhook, if it has one."""
        if not spec.HasField("webhook"):
            return []
        url, events = self._url_problem(spec.webhook.url), _events_problem(list(spec.webhook.events))
        return [Violation(name, told) for name, told in ((_URL, url), (_EVENTS, events)) if told]

    async def place(self, address: str, resolve: Resolve) -> Place:
        """Return where a delivery goes. Raises NotAllowed, and OSError when the name has no address."""
        if self._url_problem(address):
            raise NotAllowed("url_not_allowed")
        url = httpx.URL(address)
        found = await resolve(url.host, port_of(url))
        if not self.insecure and not all(is_public(each) for each in found):
            raise NotAllowed("address_not_allowed")
        return Place(url, tuple(found))

    def _url_problem(self, text: str) -> str:
        if not text:
            return "must not be empty"
        if len(text) > MAX_URL:
            return f"has {len(text)} characters, at most {MAX_URL} are allowed"
        if not text.isascii() or not text.isprintable() or " " in text:
            return "must be of plain printable characters"
        url = _parsed(text)
        schemes = ("https", "http") if self.insecure else ("https",)
        if url is None or url.scheme not in schemes or not url.host or not 0 < port_of(url) <= _MAX_PORT:
            return f"must be a URL that begins with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        if url.userinfo or url.fragment:
            return "must have neither a user name nor a fragment"
        if not self.insecure and is_address(url.host) and not is_public(url.host):
            return "must not be an address of a private network"
        return ""


PUBLIC_ONLY = Destinations()


def port_of(url: httpx.URL) -> int:
    """Return the port of a URL."""
    return _PORTS[url.scheme] if url.port is None else url.port


def _parsed(text: str) -> httpx.URL | None:
    try:
        return httpx.URL(text)
    except httpx.InvalidURL:
        return None


def _events_problem(events: list[str]) -> str:
    if len(events) > len(EVENTS):
        return f"has {len(events)} entries, at most {len(EVENTS)} are allowed"
    unknown = next((event for event in events if event not in EVENTS), None)
    return f"must be of {', '.join(EVENTS)}; {unknown[:20]!r} is none" if unknown is not None else ""
