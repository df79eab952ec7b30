"""Versions of model folders: a digest of their files, remembered so that a restart reads no gigabytes again."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

VERSION_DIGITS = 12


class FileDigests:
    """SHA-256 of files, kept in a small file by path, size and time of change."""

    def __init__(self, remembered: Path) -> None:
        self._place = remembered
        self._known = _read(remembered)
        self._used: dict[str, list[object]] = {}

    def version(self, folder: Path, files: Iterable[Path]) -> str:
        """Return the first 12 hex digits of the digest over relative paths and contents. Raises OSError."""
        digest = hashlib.sha256()
        for file in sorted(files):
            digest.update(f"{file.relative_to(folder).as_posix()}\0{self._sha256(file)}\n".encode())
        return digest.hexdigest()[:VERSION_DIGITS]

    def save(self) -> None:
        """Remember what was computed; a folder that cannot be written costs time at the next start, no more."""
        temporary = self._place.with_name(f"{self._place.name}.{os.getpid()}")
        try:
            self._place.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps({**self._known, **self._used}))
            temporary.replace(self._place)
        except OSError as error:
            logger.warning("digests of model files not kept", extra={"cause": str(error)})

    def _sha256(self, file: Path) -> str:
        now, key = file.stat(), str(file)
        stamp: list[object] = [now.st_size, now.st_mtime_ns]
        known = self._known.get(key)
        if known is None or known[:2] != stamp:
            with file.open("rb") as opened:
                known = [*stamp, hashlib.file_digest(opened, "sha256").hexdigest()]
        self._used[key] = known
        return str(known[2])


def _read(place: Path) -> dict[str, list[object]]:
    try:
        document = json.loads(place.read_text())
    except (OSError, ValueError):
        return {}  # the first start, or a file cut short: everything is hashed again
    entries = document.items() if isinstance(document, dict) else ()
    return {key: value for key, value in entries if isinstance(value, list) and len(value) == 3}
