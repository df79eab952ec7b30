"""What a backup says of itself: which files, with which hashes, of which version and schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

NAME, FORMAT = "manifest.json", 1


class BackupProblem(Exception):
    """A backup cannot be made, read or restored; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its length and its SHA-256 in hex."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`revisions` by table of versions; `pictures` says where they are: in the backup (`here`), or elsewhere or left out.

    Names of files are relative to the backup's folder.
    """

    version: str
    made: str
    revisions: dict[str, str]
    pictures: str
    files: dict[str, FileEntry]

    def write(self, folder: Path) -> None:
        """Write it into the folder of the backup."""
        files = {name: {"bytes": entry.bytes, "sha256": entry.sha256} for name, entry in sorted(self.files.items())}
        document = {
            "format": FORMAT,
            "darkroom": self.version,
            "made": self.made,
            "revisions": self.revisions,
            "pictures": self.pictures,
            "files": files,
        }
        (folder / NAME).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read(folder: Path) -> Manifest:
    """Return what a backup says of itself; raises BackupProblem."""
    try:
        document = json.loads((folder / NAME).read_text())
    except OSError as error:
        raise BackupProblem(f"{folder} is no backup: {NAME} cannot be read: {error.strerror}") from error
    except ValueError:
        raise BackupProblem(f"{folder / NAME} is not what `darkroom backup` wrote") from None
    if isinstance(document, dict) and document.get("format", 0) != FORMAT:
        told = f"{folder} has the format {document.get('format')}, this version reads {FORMAT}"
        raise BackupProblem(f"{told}; restore it with Darkroom {document.get('darkroom')}")
    try:
        return _manifest(document)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackupProblem(f"{folder / NAME} is not what `darkroom backup` wrote: {error}") from None


def _manifest(document: dict[str, Any]) -> Manifest:
    files = {
        _inside(name): FileEntry(int(entry["bytes"]), str(entry["sha256"])) for name, entry in document["files"].items()
    }
    revisions = {str(name): str(value) for name, value in document["revisions"].items()}
    return Manifest(str(document["darkroom"]), str(document["made"]), revisions, str(document["pictures"]), files)


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"{name} leads out of it")
    if path.as_posix() != name or "\0" in name:  # `data//etc` reads as `data/etc`, and is not what it joins to
        raise ValueError(f"{name!r} is not how a file is named there")
    return path.as_posix()
