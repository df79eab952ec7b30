"""Pictures in a folder or an S3 bucket, through obstore: its client does the I/O beside the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from libs.blobs.store import CHUNK_BYTES, DEADLINE_S, check_key, missing
from libs.errors import Unavailable


class ObjectBlobs:
    """Keeps objects in an obstore store. `attributes` says whether it can keep a media type (a folder cannot)."""

    def __init__(self, store: ObjectStore, *, attributes: bool, deadline_s: float = DEADLINE_S) -> None:
        self._store = store
        self._attributes = attributes
        self._deadline_s = deadline_s

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object if its key is not there yet."""
        attributes = {"Content-Type": content_type} if self._attributes else None
        async with self._call(key):
            try:
                await obstore.put_async(self._store, check_key(key), data, mode="create", attributes=attributes)
            except AlreadyExistsError:
                return  # the key is the hash of the content: what is there is what was to be written

    async def get_stream(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """Yield the bytes in chunks; raises NotFound. The deadline is counted anew for each chunk."""
        async with self._call(key):
            chunks = (await obstore.get_async(self._store, check_key(key))).stream(chunk_bytes)
        while True:
            async with self._call(key):
                try:
                    chunk = await anext(chunks)
                except StopAsyncIteration:
                    return
            yield bytes(chunk)

    async def head(self, key: str) -> int:
        """Return the size in bytes; raises NotFound."""
        async with self._call(key):
            return (await obstore.head_async(self._store, check_key(key)))["size"]

    async def exists(self, key: str) -> bool:
        """Return whether the object is there."""
        async with self._call(key):
            try:
                await obstore.head_async(self._store, check_key(key))
            except FileNotFoundError:
                return False
            return True

    async def delete(self, key: str) -> None:
        """Remove the object; fine when it is missing."""
        async with self._call(key):
            try:
                await obstore.delete_async(self._store, check_key(key))
            except FileNotFoundError:
                return  # a folder says so, S3 does not

    async def list_keys(self, folder: str) -> AsyncIterator[str]:
        """Yield the keys below a folder. The deadline is counted anew for each page."""
        async with self._call(folder):
            pages = obstore.list(self._store, check_key(folder))
        while True:
            async with self._call(folder):
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
            for found in page:
                yield found["path"]

    @asynccontextmanager
    async def _call(self, key: str) -> AsyncGenerator[None, None]:
        """Put a deadline on a call, and give its failures the names of `libs.errors`."""
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except FileNotFoundError:
            raise missing(key) from None
        except (BaseError, OSError) as error:  # TimeoutError is an OSError
            told = "The picture store did not answer. The same request may succeed in a moment."
            raise Unavailable(told, metadata={"part": "blobs"}, retry_after_s=1.0) from error
