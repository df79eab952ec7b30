"""Copies of SQLite files that others write to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from libs.sql.copies import CopyFailed, copy_file, revisions_of


@pytest.fixture
def live(tmp_path: Path) -> Path:
    place = tmp_path / "live.db"
    with closing(sqlite3.connect(place)) as database, database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, words TEXT)")
        database.execute("CREATE TABLE some_version (version_num TEXT)")
        database.execute("INSERT INTO some_version VALUES ('0007')")
        database.executemany("INSERT INTO jobs (words) VALUES (?)", [("word " * 50,)] * 500)
    return place


def count(place: Path) -> int:
    with closing(sqlite3.connect(place)) as database:
        return int(database.execute("SELECT count(*) FROM jobs").fetchone()[0])


def test_a_copy_is_of_one_moment_and_one_file(live: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(live)) as writer:
        writer.execute("INSERT INTO jobs (words) VALUES ('committed')")
        writer.commit()
        writer.execute("INSERT INTO jobs (words) VALUES ('not yet')")
        assert copy_file(live, tmp_path / "copy.db") == {"some_version": "0007"}
        writer.commit()
    assert (count(tmp_path / "copy.db"), count(live)) == (501, 502)
    assert not list(tmp_path.glob("copy.db?*"))
    assert revisions_of(tmp_path / "copy.db") == {"some_version": "0007"}


def test_a_name_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CopyFailed, match=r"nothing\.db cannot be copied"):
        copy_file(tmp_path / "nothing.db", tmp_path / "copy.db")
    assert not (tmp_path / "nothing.db").exists()


def test_what_is_broken_is_found(live: Path, tmp_path: Path) -> None:
    copy_file(live, tmp_path / "copy.db")
    whole = (tmp_path / "copy.db").read_bytes()
    (tmp_path / "copy.db").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CopyFailed, match="no whole database"):
        revisions_of(tmp_path / "copy.db")
    (tmp_path / "copy.db").write_bytes(b"no database at all, but long enough to have a header " * 4)
    with pytest.raises(CopyFailed, match="no whole database"):
        revisions_of(tmp_path / "copy.db")
