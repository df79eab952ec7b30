from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2

from darkroom.v1 import generation_service_pb2 as pb
from darkroom.v1.generation_service_pb2_grpc import (
    GenerationServiceServicer,
    GenerationServiceStub,
    add_GenerationServiceServicer_to_server,
)
from libs.rpc.channel import open_channel
from libs.rpc.server import RpcServer

MESH = "mesh-token-of-the-test"


class Talker(GenerationServiceServicer):
    """Sends more than fits between it and a reader who does not read."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def DownloadBlob(self, _request: Any, _context: Any) -> AsyncIterator[httpbody_pb2.HttpBody]:
        try:
            while True:
                yield httpbody_pb2.HttpBody(data=bytes(1_000_000))
        finally:
            self.closed.set()


@pytest.mark.parametrize("_again", range(20))
async def test_a_reader_that_leaves_amid_a_write_is_no_crash(_again: int, caplog: pytest.LogCaptureFixture) -> None:
    talker, server = Talker(), RpcServer("127.0.0.1:0", mesh_token=MESH)
    add_GenerationServiceServicer_to_server(talker, server.grpc)
    await server.start(())
    async with asyncio.timeout(20), open_channel(f"127.0.0.1:{server.port}", mesh_token=MESH) as channel:
        call = GenerationServiceStub(channel).DownloadBlob(pb.DownloadBlobRequest(), timeout=20)
        assert (await call.read()) is not grpc.aio.EOF
        call.cancel()
        await talker.closed.wait()
    await server.grpc.stop(0)
    assert [r.message for r in caplog.records if r.levelno >= logging.ERROR] == []
