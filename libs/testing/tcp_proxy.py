"""A TCP proxy on loopback that a test cuts and heals: what lies behind it lives on and cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self

_BLOCK_BYTES = 64 * 1024


class TcpProxy:
    """Passes connections on to 127.0.0.1:`port` while the context lasts and it is not cut."""

    def __init__(self, port: int) -> None:
        self._behind = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._cut = False

    @property
    def address(self) -> str:
        """host:port for clients; the same over cuts."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()

    def cut(self) -> None:
        """Break every connection, and each new one at once."""
        self._cut = True
        for writer in tuple(self._open):
            writer.transport.abort()

    def heal(self) -> None:
        """Pass connections on again."""
        self._cut = False

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind)
        both = {writer, behind_writer}
        self._open |= both
        try:
            await asyncio.gather(_copy(reader, behind_writer), _copy(behind_reader, writer))
        finally:
            self._open -= both
            for each in both:
                each.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(_BLOCK_BYTES):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
