"""UploadService: pictures on their way in."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.api import httpbody_pb2

from darkroom.v1 import upload_service_pb2 as pb
from darkroom.v1.upload_service_pb2_grpc import UploadServiceServicer
from libs.rpc import headers
from services.gateway.callers.identity import Context, caller_of
from services.gateway.uploads.uploads import Uploads


class UploadServicer(UploadServiceServicer):
    """Takes pictures in."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads

    async def UploadImage(self, request_iterator: AsyncIterator[httpbody_pb2.HttpBody], context: Context) -> pb.Upload:
        """Read the parts of a body to the end."""
        parts = (body.data async for body in request_iterator)
        upload = await self._uploads.take(caller_of(context), parts)
        headers.add([("x-http-code", "201")])
        return upload
