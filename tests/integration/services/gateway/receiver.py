"""A receiver of webhooks on a real socket that answers as a test says and keeps what it was sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OK, BROKEN, GONE = (
    f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode() for status in ("200 OK", "500 -", "410 -")
)


@dataclass
class Post:
    """A request as it came; names of headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """Gives `answers` in turn, the last one for ever. `release` holds every answer back until it is set."""

    answers: Sequence[bytes] = (OK,)
    posts: list[Post] = field(default_factory=list)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    names: list[str | None] = field(default_factory=list)  # that TLS clients asked for
    port: int = 0

    def __post_init__(self) -> None:
        self.release.set()

    async def was_reached(self) -> bool:
        """Whether anything has come."""
        return bool(self.posts)

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
        """Listen on loopback, on the port of the time before if there was one."""
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: self.names.append(name)
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer):
                pass  # the connection is kept for as long as its client wants
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # it went
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        post = Post(head[0], headers, await reader.readexactly(int(headers["content-length"])))
        answer = self.answers[min(len(self.posts), len(self.answers) - 1)]
        self.posts.append(post)
        await self.release.wait()
        writer.write(answer)
        await writer.drain()
        return answer.startswith(b"HTTP/1.1 200")
