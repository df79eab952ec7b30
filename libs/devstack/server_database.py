"""The part of a backup that lies on a PostgreSQL server: its tables as files, and tables made anew and filled."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from libs.devstack.environment import inherited
from libs.devstack.manifest import BackupProblem
from libs.settings import PREFIX
from libs.sql import exports

FOLDER = "postgresql"
# Which service makes the tables of a history; each is its own program.
_HISTORIES = {
    "scheduler_version": "services.scheduler.migrations",
    "ratelimiter_version": "services.ratelimiter.migrations",
}
_MIGRATION_S = 600.0


def save(url: str, folder: Path) -> dict[str, str]:
    """Write all tables into `folder`, which is made; return the revisions. Raises CopyFailed."""
    folder.mkdir(mode=0o700)
    return asyncio.run(exports.export(url, folder))


def load(url: str, folder: Path) -> dict[str, str]:
    """Make the tables in a database without rows, at the backup's revisions, and fill them.

    Raises CopyFailed, and BackupProblem.
    """
    try:
        revisions: dict[str, str] = json.loads((folder / exports.TABLES).read_text())["revisions"]
        asyncio.run(exports.refuse_unless_empty(url))
        for table, revision in revisions.items():
            _migrate(url, _HISTORIES[table], revision)
        asyncio.run(exports.load(url, folder))
    except (KeyError, ValueError) as error:
        raise BackupProblem(f"{FOLDER}/{exports.TABLES} of the backup is not what was written: {error}") from error
    return revisions


def _migrate(url: str, program: str, revision: str) -> None:
    environ = {**inherited(os.environ), f"{PREFIX}DATABASE_URL": url}
    done = subprocess.run(
        (sys.executable, "-m", program, revision), env=environ, capture_output=True, timeout=_MIGRATION_S, check=False
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise BackupProblem(f"the tables cannot be made at revision {revision}: {last}")
