"""A copy of an SQLite file, as of one moment, while others write to it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_TIMEOUT_S = 60.0  # for a writer that holds the file, as a migration does


class CopyFailed(Exception):
    """The file could not be read, or its copy is not whole; the message says which."""


def copy_file(source: Path, target: Path) -> dict[str, str]:
    """Copy a database into one file of its own; return its schema revisions by the table that holds them.

    Writers go on: in WAL mode they do not wait for readers. Raises CopyFailed.
    """
    try:
        # `rw` makes no new file of a name that is not there.
        with (
            closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=_TIMEOUT_S)) as live,
            closing(sqlite3.connect(target, isolation_level=None)) as copied,
        ):
            live.backup(copied)
            copied.execute("PRAGMA journal_mode=DELETE")  # its log would be a second file
            return _checked(copied)
    except sqlite3.Error as error:
        raise CopyFailed(f"{source} cannot be copied: {error}") from error


def revisions_of(file: Path) -> dict[str, str]:
    """Check that a copy is whole and return its schema revisions. Raises CopyFailed."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as copied:
            return _checked(copied)
    except sqlite3.Error as error:
        raise CopyFailed(f"{file} is no whole database: {error}") from error


def _checked(copied: sqlite3.Connection) -> dict[str, str]:
    [[verdict]] = copied.execute("PRAGMA quick_check(1)").fetchall()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    holding = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE c.name = 'version_num'"
    tables = [name for (name,) in copied.execute(holding)]
    return {name: copied.execute(f'SELECT version_num FROM "{name}"').fetchone()[0] for name in tables}  # noqa: S608
