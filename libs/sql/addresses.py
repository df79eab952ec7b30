"""Addresses of databases, as settings take them."""

from __future__ import annotations

from pathlib import Path

SQLITE, POSTGRESQL = "sqlite+aiosqlite", "postgresql+asyncpg"


def is_database_url(url: str) -> str | None:
    """Check the address of a database, for a setting; empty stands for the default."""
    fine = not url or url.startswith((f"{SQLITE}:///", f"{POSTGRESQL}://"))
    return None if fine else f"must begin with {SQLITE}:/// or {POSTGRESQL}://"


def is_sqlite(url: str) -> bool:
    """Whether the database is a file."""
    return url.startswith(f"{SQLITE}:")


def of_file(path: Path) -> str:
    """Return the address of an SQLite file."""
    return f"{SQLITE}:///{path.absolute()}"


def folder_of(url: str) -> Path:
    """Return the folder of an SQLite file."""
    return Path(url.removeprefix(f"{SQLITE}:///").partition("?")[0]).parent
