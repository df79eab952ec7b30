"""One post over one connection that is made for it, read no further than the head of its answer.

The status decides, so nothing of the body is read; and a receiver may say only so much before it, because what it
says is taken apart between everything else that a gateway does.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpcore
import httpx

MOST_HEAD = 16 * 1024  # bytes that are read at all, interim answers included
CONNECT_S = 3.0  # for one address
_AT_A_TIME = 4096


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: the status and the headers, their names in lower case."""

    status: int
    headers: Mapping[str, str]


async def post(
    address: str,
    url: httpx.URL,
    name: str,
    content: tuple[Mapping[str, str], bytes],
    tls: ssl.SSLContext,
    within_s: float,
) -> Answer:
    """Post headers and a body to a URL at one of its addresses, whose certificate must be that of `name`.

    Raises what httpcore does; ConnectError and ConnectTimeout when nothing was sent.
    """
    headers, body = content
    where = httpcore.URL(scheme=url.scheme, host=address, port=url.port, target=url.raw_path)
    request = httpcore.Request(
        "POST",
        where,
        headers=[("host", url.netloc), ("content-length", str(len(body))), ("connection", "close"), *headers.items()],
        content=body,
        extensions={
            "sni_hostname": name,
            "timeout": {"connect": CONNECT_S, "read": within_s, "write": within_s, "pool": within_s},
        },
    )
    connection = httpcore.AsyncHTTPConnection(where.origin, tls, network_backend=_Network())
    try:
        answer = await connection.handle_async_request(request)
        pairs = ((key.decode("latin-1").lower(), value.decode("latin-1")) for key, value in answer.headers)
        return Answer(answer.status, dict(pairs))
    finally:
        await connection.aclose()


class _Network(httpcore.AsyncNetworkBackend):
    """Connects to streams that end after MOST_HEAD."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        stream = await self._network.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Bounded(stream)


class _Bounded(httpcore.AsyncNetworkStream):
    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = MOST_HEAD

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._left <= 0:
            raise httpcore.ReadError("the head of the answer is too long")
        data = await self._stream.read(min(max_bytes, _AT_A_TIME, self._left), timeout)
        self._left -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return _Bounded(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
