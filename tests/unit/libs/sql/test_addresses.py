"""Addresses of databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.sql import addresses


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("", True),
        ("sqlite+aiosqlite:////data/x.db", True),
        ("postgresql+asyncpg://u:p@host/db", True),
        ("postgresql://u:p@host/db", False),
        ("x.db", False),
    ],
)
def test_an_address_names_its_driver(url: str, fine: bool):
    assert (addresses.is_database_url(url) is None) == fine


def test_a_file_has_an_address_and_a_folder():
    url = addresses.of_file(Path("/data/x.db"))
    assert url == "sqlite+aiosqlite:////data/x.db"
    assert addresses.is_sqlite(url)
    assert addresses.folder_of(url) == Path("/data")
    assert not addresses.is_sqlite("postgresql+asyncpg://u:p@host/db")
