"""`darkroom backup` and `darkroom restore`: all that a stack would lose with its disk, and back."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from libs.cli.target import Target
from libs.devstack import backup as backups
from libs.devstack.backup import HERE, Places
from libs.devstack.manifest import BackupProblem, Manifest
from libs.sql.addresses import is_database_url, is_sqlite

T = TypeVar("T")
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the backup.")]


def backup(
    context: typer.Context,
    folder: Folder,
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Copy pictures, uploads and checkpoints, too.")
    ] = True,
) -> None:
    """Copy databases, secrets, tiers and pictures of the data folder into DIR, also while the stack runs.

    DIR then holds secrets: keep it as you keep them.
    """
    target: Target = context.obj
    made = _told(lambda: backups.back_up(_places(target, os.environ, pictures=pictures), folder, datetime.now(UTC)))
    size_mb = sum(entry.bytes for entry in made.files.values()) / 1e6
    sys.stdout.write(f"{folder} holds {len(made.files)} files, {size_mb:.1f} MB, {_revisions(made)}\n")
    if made.pictures != HERE:
        sys.stderr.write(f"darkroom: pictures are not in it ({made.pictures})\n")


def restore(context: typer.Context, folder: Folder) -> None:
    """Make the data folder (--data), which must be empty or not exist, of the backup in DIR.

    A backup of PostgreSQL also needs DARKROOM_DATABASE_URL, of a database without rows.
    """
    target: Target = context.obj
    made = _told(lambda: backups.restore(folder, target.data, _server(os.environ)))
    sys.stdout.write(
        f"{target.data} is as it was at {made.made}: {len(made.files)} files, {_revisions(made)}.\n"
        f"Start it with `darkroom --data {target.data} up`.\n"
    )
    if made.pictures != HERE:
        sys.stderr.write(f"darkroom: its pictures are elsewhere ({made.pictures}): set DARKROOM_BLOBS\n")


def _places(target: Target, environ: Mapping[str, str], *, pictures: bool) -> Places:
    """Find what settings have put elsewhere, by the variables that the stack was started with."""
    data = target.data
    database = _server(environ)
    if target.is_on_server() and not database:
        raise BackupProblem(f"the stack in {data} is on PostgreSQL: set DARKROOM_DATABASE_URL as it was started with")
    blobs = environ.get("DARKROOM_BLOBS") or str(data / "blobs")
    return Places(
        data=data,
        secrets=Path(environ.get("DARKROOM_SECRETS") or data / "secrets"),
        tiers=Path(environ.get("DARKROOM_TIERS") or data / "tiers.toml"),
        pictures=blobs if pictures else "",
        database_url=database,
    )


def _server(environ: Mapping[str, str]) -> str:
    url = environ.get("DARKROOM_DATABASE_URL", "")
    if complaint := is_database_url(url):
        raise BackupProblem(f"DARKROOM_DATABASE_URL {complaint}")
    if url and is_sqlite(url):
        raise BackupProblem("DARKROOM_DATABASE_URL names a file; only those in the data folder are copied")
    return url


def _revisions(made: Manifest) -> str:
    return ", ".join(f"{name} {revision}" for name, revision in sorted(made.revisions.items()))


def _told(work: Callable[[], T]) -> T:
    try:
        return work()
    except BackupProblem as error:
        sys.stderr.write(f"darkroom: {error}\n")
        raise typer.Exit(1) from None
