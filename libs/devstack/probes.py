"""How the supervisor knows that a process serves. Each probe answers within about a second, never raises for a peer
that is not there yet, and opens a connection of its own, so that no back-off of an earlier try delays it."""

from __future__ import annotations

import asyncio

from libs.devstack.process import Probe
from libs.rpc import deadlines
from libs.rpc.health import Connect, connect, serves


def grpc_serving(address: str, connect: Connect = connect) -> Probe:
    """Return a probe: does grpc.health.v1 say SERVING for the whole server?"""

    return lambda: serves(address, connect=connect)


def http_answers(address: str, path: str, word: str) -> Probe:
    """Return a probe: does GET answer 200 with `word` in its body?"""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(deadlines.HEALTH_S):
                answer = await _get(address, path)
        except (OSError, TimeoutError):
            return False
        head, _, body = answer.partition(b"\r\n\r\n")
        return b" 200 " in head.split(b"\r\n")[0] and word.encode() in body

    return probe


async def _get(address: str, path: str) -> bytes:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        request = f"GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"
        writer.write(request.encode())
        await writer.drain()
        return await reader.read()
    finally:
        writer.close()
