"""A copy of all that a stack would lose with its disk, made while it runs, and a data folder made of it again.

    BACKUP/manifest.json
           data/…          what the data folder will hold: databases, secrets, the first key, tiers, pictures
           postgresql/…    the tables, where the databases are on a server

Jobs are copied before accounts: what the jobs' outbox still holds is settled again after a restore, and counts once.
Neither a backup nor a restored folder is ever half: both are made beside their place and then renamed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from libs.devstack import manifest, server_database
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
    """Where what belongs to a stack lies. `pictures` is a folder, an s3:// address, or empty to leave them out.

    `database_url` is that of PostgreSQL; empty: the databases are files in the data folder.
    """

    data: Path
    secrets: Path
    tiers: Path
    pictures: str
    database_url: str = ""


def back_up(places: Places, target: Path, now: datetime) -> Manifest:
    """Copy a stack into the folder `target`, which must be empty or not exist. Raises BackupProblem."""
    if not places.database_url and not all((places.data / name).is_file() for name in DATABASES):
        raise BackupProblem(f"{places.data} holds no {' or '.join(DATABASES)}: name the data folder with --data")
    _refuse_what_is_copied(places, target)
    with _made_whole(target) as folder:
        (folder / _DATA).mkdir(mode=0o700)
        revisions = _databases(places, folder)
        files = {path.relative_to(folder).as_posix(): _entry(path) for path, _ in _below(folder, "")}
        for source, name in _files(places):
            if (entry := _copy(source, folder / name)) is not None:
                files[name] = entry
        elsewhere = "://" in places.pictures
        pictures = places.pictures if elsewhere else (HERE if places.pictures else LEFT_OUT)
        version = importlib.metadata.version("darkroom")
        made = Manifest(version, now.isoformat(timespec="seconds"), revisions, pictures, files)
        made.write(folder)
    return made


def restore(source: Path, data: Path, database_url: str = "") -> Manifest:
    """Make the data folder `data`, which must be empty or not exist, of a backup. Raises BackupProblem.

    What was on a PostgreSQL server needs the address of a database without rows.
    """
    told = manifest.read(source)
    on_server = any(name.startswith(f"{server_database.FOLDER}/") for name in told.files)
    if on_server != bool(database_url):
        how = "set DARKROOM_DATABASE_URL to an empty database" if on_server else "unset DARKROOM_DATABASE_URL"
        raise BackupProblem(f"the databases of {source} {'are of PostgreSQL' if on_server else 'are files'}: {how}")
    with _made_whole(data) as folder:
        wrong = [name for name, entry in told.files.items() if not _is_restored(source, folder, name, entry)]
        if wrong:
            named = ", ".join(wrong[:5]) + (f" and {len(wrong) - 5} more" if len(wrong) > 5 else "")
            raise BackupProblem(f"{source} is damaged: {named} not as when it was made; nothing was restored")
        revisions = _restored(folder, database_url)
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
        made = [parent for parent in place.parents if not parent.exists()]  # the deepest first
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir(mode=0o700)
            yield part
            _keep(part)
            part.rename(place)  # over an empty folder, too
            _keep(place.parent)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            if not place.exists():
                _remove_empty(made)
    except CopyFailed as error:
        raise BackupProblem(str(error)) from error
    except OSError as error:
        raise BackupProblem(f"cannot copy to {place}: {error.filename}: {error.strerror}") from error


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it was not made, or somebody put something there meanwhile
            folder.rmdir()


def _refuse_what_is_copied(places: Places, target: Path) -> None:
    """A backup in what is copied would hold itself, and the next one this one with its secrets."""
    own = [places.data, places.secrets]
    if places.pictures and "://" not in places.pictures:
        own.append(Path(places.pictures))
    for copied in own:
        if target.resolve().is_relative_to(copied.resolve()):
            raise BackupProblem(f"{target} lies in {copied}, which is copied: name a folder outside of it")


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


def _copy(source: Path, target: Path, flags: int = 0) -> FileEntry | None:
    """Copy a file to the disk and return its hash; None for one that was removed meanwhile, as old pictures are."""
    digest, length = hashlib.sha256(), 0
    for folder in reversed(target.parents):
        folder.mkdir(exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(source, os.O_RDONLY | flags)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as reader, os.fdopen(_new(target), "wb") as writer:
        while part := reader.read(_PART_BYTES):
            digest.update(part)
            length += writer.write(part)
        writer.flush()
        os.fsync(writer.fileno())
    return FileEntry(length, digest.hexdigest())


def _is_restored(source: Path, folder: Path, name: str, entry: FileEntry) -> bool:
    """Copy one file of a backup to its place in the data folder, and look whether it is what it was."""
    inside = name.removeprefix(f"{_DATA}/")
    known = inside != name or name.startswith(f"{server_database.FOLDER}/")
    if not (folder / inside).resolve().is_relative_to(folder.resolve()):
        raise BackupProblem(f"{source} is damaged: {name} leads out of the new folder; nothing was restored")
    if (source / name).resolve() != source.resolve() / name:
        raise BackupProblem(f"{source} is damaged: {name} is a link or lies behind one; put the file itself there")
    return known and (source / name).is_file() and _copy(source / name, folder / inside, os.O_NOFOLLOW) == entry


def _databases(places: Places, folder: Path) -> dict[str, str]:
    """Copy the databases into the backup; return their revisions."""
    if places.database_url:
        return server_database.save(places.database_url, folder / server_database.FOLDER)
    revisions: dict[str, str] = {}
    for name in DATABASES:
        os.close(_new(folder / _DATA / name))
        revisions |= copies.copy_file(places.data / name, folder / _DATA / name)
    return revisions


def _restored(folder: Path, database_url: str) -> dict[str, str]:
    """Check the databases in the new data folder, or fill those on a server; return their revisions."""
    if database_url:
        revisions = server_database.load(database_url, folder / server_database.FOLDER)
        shutil.rmtree(folder / server_database.FOLDER)
        return revisions
    revisions = {}
    for name in DATABASES:
        revisions |= copies.revisions_of(folder / name)
    return revisions


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
