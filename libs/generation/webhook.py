"""Who is told of a job's events: the part of a request that says so."""

from __future__ import annotations

from dataclasses import dataclass

FINAL_EVENTS = ("completed", "failed", "cancelled", "expired")
EVENTS = ("started", "image", *FINAL_EVENTS)  # all that can be told


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address and the kinds of events that are posted to it; without any the final ones are meant."""

    url: str
    events: tuple[str, ...] = ()

    def resolved(self) -> Webhook:
        """Return it with the events that are told, each once and in order; unknown ones are left out."""
        return Webhook(self.url, tuple(kind for kind in EVENTS if kind in (self.events or FINAL_EVENTS)))
