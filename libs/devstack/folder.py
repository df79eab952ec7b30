"""The data folder: where everything of one stack lies, and the lock that keeps a second stack out."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PRIVATE = 0o700
# Any of these marks a folder as a stack's own; a restored one may lack the others.
_OURS = frozenset({"run", "secrets", "blobs", "etcd", "redis", "dev-key", "scheduler.db", "ratelimiter.db"})


class FolderUnusable(Exception):
    """The data folder cannot be made or written; the message says which."""


class FolderInUse(FolderUnusable):
    """Another stack holds the data folder; the message says which process."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Paths inside `$DARKROOM_DATA`; `root` is absolute."""

    root: Path

    @property
    def run(self) -> Path:
        """What is true only while the stack runs: pid files, addresses, the lock."""
        return self.root / "run"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.root / "logs"

    @property
    def etcd(self) -> Path:
        """etcd's own data."""
        return self.root / "etcd"

    @property
    def redis(self) -> Path:
        """The data of a Redis of the stack's own."""
        return self.root / "redis"

    @property
    def addresses(self) -> Path:
        """JSON of every address of the running stack."""
        return self.run / "addresses.json"

    @property
    def first_key(self) -> Path:
        """The development key, made on the first start."""
        return self.root / "dev-key"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Make the folders and hold them exclusively; raises FolderUnusable. The kernel lets go when the process ends."""
        descriptor = self._make()
        try:
            self._lock(descriptor)
            self._clear()
            try:
                yield
            finally:
                self._clear()
        finally:
            os.close(descriptor)

    def _make(self) -> int:
        """Make the folders; return the open lock file."""
        try:
            self._refuse_a_folder_of_others()
            for folder in (self.root, self.run, self.logs, self.etcd):
                folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
            self.root.chmod(_PRIVATE)
            return os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            told = f"DARKROOM_DATA={self.root} cannot be used: {error.filename}: {error.strerror}"
            raise FolderUnusable(told) from error

    def _refuse_a_folder_of_others(self) -> None:
        """Making it private would shut everybody else out of, say, /tmp."""
        held = {path.name for path in self.root.iterdir()} if self.root.is_dir() else set()
        if held and not held & _OURS:
            told = f"DARKROOM_DATA={self.root} holds other things; name a folder that is empty or does not exist yet"
            raise FolderUnusable(told)

    def _lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode().strip() or "unknown"
            raise FolderInUse(
                f"{self.root} is in use by another stack (process {holder}). "
                "Stop it, or set DARKROOM_DATA and DARKROOM_HTTP_PORT to start a second one beside it."
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def _clear(self) -> None:
        """Drop what a stack that was killed could not: its numbers mean nothing any more."""
        for path in (*self.run.glob("*.pid"), self.addresses):
            path.unlink(missing_ok=True)
