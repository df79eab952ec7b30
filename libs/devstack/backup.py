"""A copy of all that a stack would lose with its disk, made while it runs, and a data folder made of it again.

    BACKUP/manifest.json
           data/…          what the data folder will hold: databases, secrets, the first key, tiers, pictures

Jobs are copied before accounts: what the jobs' outbox still holds is settled again after a restore, and counts once.
Neither a backup nor a restored folder is ever half: both are made beside their place and then renamed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from libs.devstack import manifest
from libs.devstack.manifest import BackupProblem, FileEntry, Manifest
from libs.sql import copies
from libs.sql.copies import CopyFailed

HERE, LEFT_OUT = "here", "left out"
DATABASES = ("scheduler.db", "ratelimiter.db")  # in this order
_DATA, _SECRETS, _PICTURES, _TIERS = "data", "secrets", "blobs", "tiers.toml"
_PART_BYTES = 1024 * 1024
# True only while a stack runs, or rebuilt by it, or copied in a way of its own.
_NOT_COPIED = frozenset({"run", "logs", "etcd", "redis", _SECRETS, _PICTURES, _TIERS})


@dataclass(frozen=True, slots=True)
class Places:
    """Where what belongs to a stack lies. `pictures` is a folder, an s3:// address, or empty to leave them out."""

    data: Path
    secrets: Path
    tiers: Path
    pictures: str


def back_up(places: Places, target: Path, now: datetime) -> Manifest:
    """Copy a stack into the folder `target`, which must be empty or not exist. Raises BackupProblem."""
    databases = [place for name in DATABASES if (place := places.data / name).is_file()]
    if len(databases) < len(DATABASES):
        raise BackupProblem(f"{places.data} holds no {' or '.join(DATABASES)}: name the data folder with --data")
    with _made_whole(target) as folder:
        revisions: dict[str, str] = {}
        (folder / _DATA).mkdir(mode=0o700)
        for database in databases:
            revisions |= _copied(database, folder / _DATA / database.name)
        files = {f"{_DATA}/{place.name}": _entry(folder / _DATA / place.name) for place in databases}
        for source, name in _files(places):
            if (entry := _copy(source, folder / name)) is not None:
                files[name] = entry
        elsewhere = "://" in places.pictures
        pictures = places.pictures if elsewhere else (HERE if places.pictures else LEFT_OUT)
        version = importlib.metadata.version("darkroom")
        made = Manifest(version, now.isoformat(timespec="seconds"), revisions, pictures, files)
        made.write(folder)
    return made


def restore(source: Path, data: Path) -> Manifest:
    """Make the data folder `data`, which must be empty or not exist, of a backup. Raises BackupProblem."""
    told = manifest.read(source)
    with _made_whole(data) as folder:
        wrong = [name for name, entry in told.files.items() if not _is_restored(source, folder, name, entry)]
        if wrong:
            named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            raise BackupProblem(f"{source} is damaged: {named} not as when it was made; nothing was restored")
        revisions: dict[str, str] = {}
        for name in DATABASES:
            revisions |= _checked(folder / name)
        if revisions != told.revisions:
            raise BackupProblem(f"{source} is damaged: its databases are of {revisions}, not of {told.revisions}")
    return told


@contextmanager
def _made_whole(place: Path) -> Iterator[Path]:
    """Give a new folder beside `place` that takes its name in the end; on a failure nothing stays."""
    place = place.absolute()
    part = place.with_name(f".{place.name}.part-{os.getpid()}")
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise BackupProblem(f"{place} is not empty; name a folder that is empty or does not exist yet")
        place.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir(mode=0o700)
        try:
            yield part
            _keep(part)
            part.rename(place)  # over an empty folder, too
            _keep(place.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise BackupProblem(f"cannot copy to {place}: {error.filename}: {error.strerror}") from error


def _files(places: Places) -> Iterator[tuple[Path, str]]:
    """Find what is copied as it lies there, and under which names."""
    kept = [path for path in places.data.iterdir() if path.name not in _NOT_COPIED]
    for path in kept:
        if path.name.startswith(DATABASES):
            continue  # and their logs
        yield from _below(path, f"{_DATA}/{path.name}")
    yield from _below(places.secrets, f"{_DATA}/{_SECRETS}")
    yield from _below(places.tiers, f"{_DATA}/{_TIERS}")
    if places.pictures and "://" not in places.pictures:
        yield from _below(Path(places.pictures), f"{_DATA}/{_PICTURES}")


def _below(place: Path, name: str) -> Iterator[tuple[Path, str]]:
    if place.is_file():
        yield place, name
    for folder, _, files in os.walk(place):
        for file in sorted(files):
            path = Path(folder) / file
            if path.is_file():
                yield path, f"{name}/{path.relative_to(place).as_posix()}"


def _copy(source: Path, target: Path) -> FileEntry | None:
    """Copy a file to the disk and return its hash; None for one that was removed meanwhile, as old pictures are."""
    digest, length = hashlib.sha256(), 0
    for folder in reversed(target.parents):
        folder.mkdir(exist_ok=True, mode=0o700)
    try:
        reader = source.open("rb")
    except FileNotFoundError:
        return None
    with reader, os.fdopen(_new(target), "wb") as writer:
        while part := reader.read(_PART_BYTES):
            digest.update(part)
            length += writer.write(part)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(length, digest.hexdigest())


def _is_restored(source: Path, folder: Path, name: str, entry: FileEntry) -> bool:
    """Copy one file of a backup to its place in the data folder, and look whether it is what it was."""
    inside = name.removeprefix(f"{_DATA}/")
    return inside != name and _copy(source / name, folder / inside) == entry


def _copied(database: Path, target: Path) -> dict[str, str]:
    try:
        os.close(_new(target))
        return copies.copy_file(database, target)
    except CopyFailed as error:
        raise BackupProblem(str(error)) from error


def _checked(database: Path) -> dict[str, str]:
    try:
        return copies.revisions_of(database)
    except CopyFailed as error:
        raise BackupProblem(str(error)) from error


def _entry(file: Path) -> FileEntry:
    _keep(file)
    with file.open("rb") as reader:
        return FileEntry(file.stat().st_size, hashlib.file_digest(reader, "sha256").hexdigest())


def _new(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _keep(path: Path) -> None:
    """Have the disk keep a file, or the names in a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
