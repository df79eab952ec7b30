"""Messages and documents of the memory store."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from services.scheduler.storage.store import PendingMessage


class MemoryOutbox:
    """The part of the memory store that holds what is not about jobs."""

    _outbox: dict[int, tuple[PendingMessage, float]]
    _documents: dict[str, str]

    def _check(self, epoch: int) -> None:
        """Raise Deposed for who leads no more."""
        raise NotImplementedError

    async def pending_messages(self, limit: int, now: float) -> list[PendingMessage]:
        """Return messages that are due, oldest first."""
        return [message for message, due_at in self._outbox.values() if due_at <= now][:limit]

    async def messages_sent(self, ids: Sequence[int]) -> None:
        """Remove messages that have arrived."""
        for message_id in ids:
            self._outbox.pop(message_id, None)

    async def message_failed(self, message_id: int, retry_at: float) -> None:
        """Count a try."""
        if message_id in self._outbox:
            message, _ = self._outbox[message_id]
            self._outbox[message_id] = dataclasses.replace(message, tries=message.tries + 1), retry_at

    async def save_document(self, name: str, document: dict[str, Any], epoch: int) -> None:
        """Keep a document."""
        self._check(epoch)
        self._documents[name] = json.dumps(document)

    async def rename_document(self, name: str, new_name: str, epoch: int) -> None:
        """Give a document another name."""
        self._check(epoch)
        if name in self._documents:
            self._documents[new_name] = self._documents.pop(name)

    async def load_document(self, name: str) -> dict[str, Any] | None:
        """Return a document."""
        return dict(json.loads(self._documents[name])) if name in self._documents else None
