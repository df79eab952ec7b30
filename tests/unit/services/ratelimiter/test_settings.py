"""What the process takes from the environment, and what it refuses by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs import settings
from libs.settings import BadSetting
from services.ratelimiter.settings import Settings


def test_a_data_folder_is_enough():
    read = settings.load(Settings, {"DARKROOM_DATA": "/data"})
    assert read.database == "sqlite+aiosqlite:////data/ratelimiter.db"
    assert read.reservation_ttl_s == 60


def test_everything_wrong_is_named_at_once(tmp_path: Path):
    tiers = tmp_path / "tiers.toml"
    tiers.write_text("[gold]\n")
    environ = {
        "DARKROOM_DATA": "/data",
        "DARKROOM_DATABASE_URL": "mysql://user:hunter2@host/db",
        "DARKROOM_RESERVATION_TTL_S": "0",
        "DARKROOM_TIERS": str(tiers),
        "DARKROOM_TIER": "x",
    }
    with pytest.raises(BadSetting) as caught:
        settings.load(Settings, environ)
    told = str(caught.value)
    assert "DARKROOM_TIER is unknown; did you mean DARKROOM_TIERS?" in told
    assert "DARKROOM_RESERVATION_TTL_S='0': must be above 0" in told
    assert "DARKROOM_DATABASE_URL='***': must begin with sqlite+aiosqlite:/// or postgresql+asyncpg://" in told
    assert f"{tiers}: tier gold: unknown" in told
    assert "hunter2" not in told


def test_the_password_of_the_database_is_masked_in_the_log():
    url = "postgresql+asyncpg://user:hunter2@host/db"
    read = settings.load(Settings, {"DARKROOM_DATA": "/data", "DARKROOM_DATABASE_URL": url})
    assert read.database == url
    assert settings.describe(read)["database_url"] == "***"
