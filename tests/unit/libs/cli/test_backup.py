"""`darkroom backup` and `darkroom restore` on a data folder that nobody uses."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from libs import secret_files
from libs.cli.main import app

RUN = CliRunner()


def run(data: Path, *arguments: str) -> Result:
    return RUN.invoke(app, ["--data", str(data), *arguments])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data folder as a stack leaves it."""
    folder = tmp_path / "data"
    for name in ("run", "logs", "etcd/data", "redis", "blobs/images"):
        (folder / name).mkdir(parents=True)
        (folder / name / "something").write_text(name)
    for name in ("scheduler", "ratelimiter"):
        with closing(sqlite3.connect(folder / f"{name}.db")) as database, database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"CREATE TABLE {name}_version (version_num TEXT)")
            database.execute(f"INSERT INTO {name}_version VALUES ('0003')")
    secret_files.ensure(folder / "secrets")
    (folder / "tiers.toml").write_text("tiers")
    (folder / "dev-key").write_text("dk_first")
    return folder


@pytest.fixture
def made(data: Path, tmp_path: Path) -> Path:
    done = run(data, "backup", str(tmp_path / "backup"))
    assert done.exit_code == 0, done.output
    assert "ratelimiter_version 0003, scheduler_version 0003" in done.output
    return tmp_path / "backup"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_a_disk_would_take_comes_back_and_nothing_else(data: Path, made: Path, tmp_path: Path) -> None:
    again = tmp_path / "new" / "data"
    done = run(again, "restore", str(made))
    assert (done.exit_code, f"--data {again} up" in done.output) == (0, True)
    before, after = contents(data), contents(again)
    kept = {name for name in before if name.split("/")[0] not in ("run", "logs", "etcd", "redis")}
    assert set(after) == kept
    assert {name for name in kept if before[name] != after[name] and not name.endswith(".db")} == set()
    places = [again, *again.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in places} == {0o600, 0o700}


def test_pictures_can_be_left_out(data: Path, tmp_path: Path) -> None:
    done = run(data, "backup", str(tmp_path / "small"), "--no-pictures")
    assert (done.exit_code, "left out" in done.output) == (0, True)
    assert not (tmp_path / "small" / "data" / "blobs").exists()
    assert "DARKROOM_BLOBS" in run(tmp_path / "new", "restore", str(tmp_path / "small")).output


def test_what_settings_put_elsewhere_is_copied_from_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("secrets", "blobs", "tiers.toml"):
        (data / name).rename(tmp_path / f"own-{name}")
        monkeypatch.setenv(f"DARKROOM_{name.partition('.')[0].upper()}", str(tmp_path / f"own-{name}"))
    assert run(data, "backup", str(tmp_path / "backup")).exit_code == 0
    copied = contents(tmp_path / "backup" / "data")
    assert {"secrets/mesh-token", "blobs/images/something", "tiers.toml"} <= set(copied)


@pytest.mark.parametrize("target", ["backup", "file"])
def test_nothing_is_written_over(data: Path, made: Path, target: str) -> None:
    (made.parent / "file").touch()
    done = run(data, "backup", str(made.parent / target))
    assert (done.exit_code, "is not empty" in done.output) == (1, True)
    before = contents(data)
    done = run(data, "restore", str(made))
    assert (done.exit_code, "is not empty" in done.output) == (1, True)
    assert contents(data) == before


def test_a_folder_without_a_stack_has_nothing_to_copy(tmp_path: Path) -> None:
    done = run(tmp_path, "backup", str(tmp_path / "backup"))
    assert (done.exit_code, "--data" in done.output) == (1, True)
    assert not (tmp_path / "backup").exists()


def damage(made: Path, how: str) -> None:
    dev_key, told = made / "data" / "dev-key", json.loads((made / "manifest.json").read_text())
    if how == "changed":
        dev_key.write_text("dk_other")
    elif how == "shorter":
        dev_key.write_text("dk")
    elif how == "gone":
        dev_key.unlink()
    elif how == "no manifest":
        (made / "manifest.json").unlink()
    elif how == "half a manifest":
        (made / "manifest.json").write_text(json.dumps(told)[:100])
    elif how == "another form":
        (made / "manifest.json").write_text(json.dumps({**told, "files": [1]}))
    elif how == "a newer format":
        (made / "manifest.json").write_text(json.dumps({**told, "format": 2}))
    elif how == "another schema":
        (made / "manifest.json").write_text(json.dumps({**told, "revisions": {}}))
    elif how == "leads out":
        (made.parent / "dev-key").write_text("dk_first")
        told["files"]["data/../../dev-key"] = told["files"].pop("data/dev-key")
        (made / "manifest.json").write_text(json.dumps(told))
    elif how.startswith("data/"):
        told["files"][how] = told["files"].pop("data/dev-key")
        (made / "manifest.json").write_text(json.dumps(told))
    elif how == "a folder":
        dev_key.unlink()
        dev_key.mkdir()
    elif how == "a link":
        dev_key.rename(made.parent / "dev-key")
        dev_key.symlink_to(made.parent / "dev-key")
    elif how == "a folder that is a link":
        (made / "data" / "secrets").rename(made.parent / "secrets")
        (made / "data" / "secrets").symlink_to(made.parent / "secrets")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("changed", "damaged: data/dev-key"),
        ("shorter", "damaged: data/dev-key"),
        ("gone", "damaged: data/dev-key"),
        ("a folder", "damaged: data/dev-key"),
        ("no manifest", "is no backup"),
        ("half a manifest", "not what `darkroom backup` wrote"),
        ("another form", "not what `darkroom backup` wrote"),
        ("a newer format", "the format 2"),
        ("another schema", "damaged: its databases"),
        ("leads out", "leads out of it"),
        ("data/./dev-key", "is not how a file is named"),
        ("data/dev-key\0", "is not how a file is named"),
        ("a link", "data/dev-key is a link or lies behind one"),
        ("a folder that is a link", "is a link or lies behind one"),
    ],
)
def test_a_damaged_backup_restores_nothing(made: Path, tmp_path: Path, how: str, told: str) -> None:
    damage(made, how)
    done = run(tmp_path / "new" / "data", "restore", str(made))
    assert (done.exit_code, told in done.output) == (1, True), done.output
    assert not (tmp_path / "new").exists()
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


def test_a_manifest_names_no_place_outside_the_new_folder(made: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside" / "x"
    hidden = made / "data" / outside.relative_to("/")  # as `data//…` is read
    hidden.parent.mkdir(parents=True)
    (made / "data" / "dev-key").rename(hidden)
    told = json.loads((made / "manifest.json").read_text())
    told["files"][f"data/{outside}"] = told["files"].pop("data/dev-key")
    (made / "manifest.json").write_text(json.dumps(told))
    done = run(tmp_path / "new", "restore", str(made))
    assert (done.exit_code, "is not how a file is named" in done.output) == (1, True), done.output
    assert hidden.exists()
    assert not (tmp_path / "new").exists()
    assert not outside.parent.exists()


@pytest.mark.parametrize(
    "target", ["data", "data/backups/one", "data/run/../backup", "linked/backup", "own-blobs/backup"]
)
def test_a_backup_is_not_made_in_what_is_copied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (tmp_path / "linked").symlink_to(data)
    (tmp_path / "own-blobs").mkdir()
    monkeypatch.setenv("DARKROOM_BLOBS", str(tmp_path / "own-blobs"))
    before = contents(tmp_path)
    done = run(data, "backup", str(tmp_path / target))
    assert (done.exit_code, "name a folder outside of it" in done.output) == (1, True), done.output
    assert contents(tmp_path) == before


def test_a_damaged_database_is_not_copied(data: Path, tmp_path: Path) -> None:
    (data / "scheduler.db").write_bytes(b"no database at all, but long enough to have a header " * 4)
    done = run(data, "backup", str(tmp_path / "backup"))
    assert (done.exit_code, "scheduler.db cannot be copied" in done.output) == (1, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("mysql://x", "must begin with"),
        ("sqlite+aiosqlite:////x.db", "names a file"),
        ("postgresql+asyncpg://127.0.0.1:1/x", "the database cannot be copied"),
    ],
)
def test_a_database_that_cannot_be_copied_leaves_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("DARKROOM_DATABASE_URL", url)
    done = run(data, "backup", str(tmp_path / "backup"))
    assert (done.exit_code, told in done.output) == (1, True), done.output
    assert not (tmp_path / "backup").exists()


def test_a_stack_on_a_server_is_not_taken_for_the_files_that_lie_there(data: Path, tmp_path: Path) -> None:
    (data / "run" / "addresses.json").write_text(json.dumps({"database": "postgresql"}))
    done = run(data, "backup", str(tmp_path / "backup"))
    assert (done.exit_code, "set DARKROOM_DATABASE_URL" in done.output) == (1, True)


def test_files_are_not_restored_to_a_server(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DARKROOM_DATABASE_URL", "postgresql+asyncpg://127.0.0.1:1/x")
    done = run(tmp_path / "new", "restore", str(made))
    assert (done.exit_code, "unset DARKROOM_DATABASE_URL" in done.output) == (1, True)
