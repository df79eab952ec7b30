"""Pictures in memory: the same promises for one process."""

from __future__ import annotations

from collections.abc import AsyncIterator

from libs.blobs.store import CHUNK_BYTES, check_key, missing


class MemoryBlobs:
    """Keeps objects in a dictionary."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Write an object if its key is not there yet."""
        del content_type
        self._objects.setdefault(check_key(key), data)

    async def get_stream(self, key: str, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[bytes]:
        """Yield the bytes in chunks; raises NotFound."""
        data = self._object(key)
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]

    async def head(self, key: str) -> int:
        """Return the size in bytes; raises NotFound."""
        return len(self._object(key))

    async def exists(self, key: str) -> bool:
        """Return whether the object is there."""
        return check_key(key) in self._objects

    async def delete(self, key: str) -> None:
        """Remove the object; fine when it is missing."""
        self._objects.pop(check_key(key), None)

    async def list_keys(self, folder: str) -> AsyncIterator[str]:
        """Yield the keys below a folder."""
        within = check_key(folder) + "/"
        for key in [key for key in self._objects if key.startswith(within)]:
            yield key

    def _object(self, key: str) -> bytes:
        if check_key(key) not in self._objects:
            raise missing(key)
        return self._objects[key]
