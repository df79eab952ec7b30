"""Where webhooks may go: checked when a job or an account asks for it, and again at every delivery.

A name can change what it resolves to at any moment, so the check at a delivery gives the addresses themselves, and
the connection is made to one of those. All of a name's addresses must be public: one that is not shows the intent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from darkroom.v1 import job_pb2
from libs import account_events
from libs.errors import PermissionDenied, Violation
from libs.generation.webhook import EVENTS, PORTS, Receiver, receiver_of
from libs.scopes import Scope
from services.gateway.callers import permissions
from services.gateway.callers.identity import Caller
from services.gateway.webhooks.addresses import Resolve, is_address, is_public

MAX_URL = 1000
_FREE_PORTS = 1024  # from here on nobody expects a service of the system
_AUTHORITY_ENDS = re.compile(r"[/?]")
_URL, _EVENTS = "webhook.url", "webhook.events"


def check_caller(caller: Caller, spec: job_pb2.JobSpec) -> None:
    """Raise PermissionDenied when a caller asks for a webhook without a key or without the scope.

    Without a key nobody could be held to what it is used for.
    """
    if not spec.HasField("webhook"):
        return
    if not caller.key_id:
        told = "A webhook needs an API key: leave out the field webhook, or send a key. Nothing was charged."
        problem = Violation("webhook", "is for callers with an API key")
        raise PermissionDenied(told, reason="WEBHOOK_KEY_REQUIRED", violations=(problem,))
    permissions.check(caller, Scope.WEBHOOKS_WRITE)


class NotAllowed(Exception):
    """A webhook must not be sent there; the message is a word for it."""


@dataclass(frozen=True, slots=True)
class Place:
    """A URL with the addresses that were checked for this one delivery."""

    url: httpx.URL
    receiver: Receiver
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Destinations:
    """The rule. `insecure` also allows http and private addresses: for tests and rehearsal."""

    insecure: bool = False

    def problems(self, spec: job_pb2.JobSpec) -> list[Violation]:
        """Return what is wrong with a request's webhook, if it has one."""
        if not spec.HasField("webhook"):
            return []
        url, events = self._url_problem(spec.webhook.url), _events_problem(spec.webhook.events, EVENTS)
        return [Violation(name, told) for name, told in ((_URL, url), (_EVENTS, events)) if told]

    def endpoint_problems(self, url: str, events: Sequence[str]) -> list[Violation]:
        """Return what is wrong with an endpoint that an account asks for."""
        told = ("url", self._url_problem(url)), ("events", _events_problem(events, account_events.NAMES))
        return [Violation(name, problem) for name, problem in told if problem]

    async def place(self, address: str, resolve: Resolve) -> Place:
        """Return where a delivery goes. Raises NotAllowed, and what `resolve` does; OSError when there is no address."""
        receiver = receiver_of(address)
        if receiver is None or self._url_problem(address):
            raise NotAllowed("url_not_allowed")
        found = [receiver.host] if is_address(receiver.host) else await resolve(receiver.host, receiver.port)
        if not found:
            raise OSError("no address")
        if not self.insecure and not all(is_public(each) for each in found):
            raise NotAllowed("address_not_allowed")
        return Place(httpx.URL(address), receiver, tuple(found))

    def _url_problem(self, text: str) -> str:
        if not text:
            return "must not be empty"
        if len(text) > MAX_URL:
            return f"has {len(text)} characters, at most {MAX_URL} are allowed"
        if not text.isascii() or not text.isprintable() or " " in text:
            return "must be of plain printable characters"
        if "#" in text or "@" in _AUTHORITY_ENDS.split(text.partition("://")[2])[0]:
            return "must have neither a user name nor a fragment"
        receiver = _read(text)
        schemes = ("https", "http") if self.insecure else ("https",)
        if receiver is None or receiver.scheme not in schemes:
            known = " or ".join(f"{scheme}://" for scheme in schemes)
            return f"must be a URL that begins with {known} and a host of letters, digits, dots and hyphens"
        return "" if self.insecure else _closed(receiver)


PUBLIC_ONLY = Destinations()


def _read(text: str) -> Receiver | None:
    """Return whom a URL leads to; None too when the library that sends would read another host or port in it."""
    receiver = receiver_of(text)
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")  # `host` would decode it, by another standard than the resolver's
        again = receiver_of(f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{url.port or PORTS[url.scheme]}")
    except (httpx.InvalidURL, ValueError, KeyError):  # ValueError: UnicodeError is one
        return None
    return receiver if again == receiver else None


def _closed(receiver: Receiver) -> str:
    if is_address(receiver.host) and not is_public(receiver.host):
        return "must not be an address of a private network"
    if receiver.port != PORTS["https"] and receiver.port < _FREE_PORTS:
        return f"must have no port or one from {_FREE_PORTS} on"
    return ""


def _events_problem(events: Sequence[str], known: Sequence[str]) -> str:
    if len(events) > len(known):
        return f"has {len(events)} entries, at most {len(known)} are allowed"
    unknown = next((event for event in events if event not in known), None)
    return f"must be of {', '.join(known)}; {unknown[:20]!r} is none" if unknown is not None else ""
