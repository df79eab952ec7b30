"""What servers of a test's or a rehearsal's own have in common: they live as long as their context."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class OwnServer(ABC):
    """Started when the context begins, and cleaned up after when it ends or the start fails."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._clean_up()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clean_up()

    @abstractmethod
    async def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    async def _clean_up(self) -> None:
        """End it and remove all that it left."""
