"""The file of the tiers while the process runs: taken when it changes, left alone when it is wrong."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from libs.errors import InvalidRequest, PreconditionFailed
from libs.testing import waiting
from services.ratelimiter.tiers import policy
from services.ratelimiter.tiers.file import TiersFile
from services.ratelimiter.tiers.policy import BadTiers

GOOD = policy.SHIPPED.read_text()
MORE = GOOD.replace("daily_images = 50", "daily_images = 60")
WRONG = GOOD.replace("daily_images = 50", "daily_images = -50")


@pytest.fixture
def file(tmp_path: Path, bench) -> TiersFile:
    return TiersFile(Path(), tmp_path, bench.clock, bench.meters)


def images(file: TiersFile) -> int | None:
    return file.tariffs.policy.of("anonymous").daily_images


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def shown(bench) -> float:
    return bench.counted("darkroom_tiers_wrong")[()]


async def test_without_a_file_the_shipped_tiers_hold_until_there_is_one(file: TiersFile, tmp_path: Path):
    assert images(file) == 50
    (tmp_path / "tiers.toml").write_text(MORE)
    await file.look()
    assert images(file) == 60
    (tmp_path / "tiers.toml").unlink()
    await file.look()
    assert images(file) == 50


async def test_a_changed_file_is_taken_within_seconds_and_a_wrong_one_told(file: TiersFile, tmp_path: Path, bench):
    told: list[bool] = []

    async def tell(good: bool) -> None:
        told.append(good)

    task = asyncio.create_task(file.run(tell))
    (tmp_path / "tiers.toml").write_text(MORE)

    async def taken() -> bool:
        await bench.clock.advance(2)
        return images(file) == 60

    await waiting.until(taken, within_s=20)
    (tmp_path / "tiers.toml").write_text(WRONG)

    async def refused() -> bool:
        await bench.clock.advance(2)
        return told[-1] is False

    await waiting.until(refused, within_s=20)
    assert told[0] is True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_wrong_file_leaves_the_tiers_before_and_says_so_once(
    file: TiersFile, tmp_path: Path, bench, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "tiers.toml").write_text(MORE)
    await file.look()
    (tmp_path / "tiers.toml").write_text(WRONG)
    for _ in range(3):
        await file.look()
    assert images(file) == 60
    assert "tier anonymous: daily_images: must be a whole number above 0" in file.wrong
    assert shown(bench) == 1
    assert [record.levelno for record in caplog.records if record.levelno >= logging.ERROR] == [logging.ERROR]
    (tmp_path / "tiers.toml").write_text(MORE)  # as it was before
    await file.look()
    assert (file.wrong, shown(bench)) == ("", 0)


async def test_a_file_that_cannot_be_read_leaves_the_tiers_before(file: TiersFile, tmp_path: Path):
    (tmp_path / "tiers.toml").write_bytes(b"\xff\xfe")
    await file.look()
    assert images(file) == 50
    assert str(tmp_path / "tiers.toml") in file.wrong


def test_a_named_file_must_be_there_and_right_at_the_start(tmp_path: Path, bench):
    with pytest.raises(BadTiers, match=r"none\.toml"):
        TiersFile(tmp_path / "none.toml", tmp_path, bench.clock, bench.meters)
    (tmp_path / "tiers.toml").write_text(WRONG)
    with pytest.raises(BadTiers, match="daily_images"):
        TiersFile(Path(), tmp_path, bench.clock, bench.meters)


async def test_applying_writes_the_file_takes_it_and_tells_what_changed(file: TiersFile, tmp_path: Path, bench):
    assert file.check(MORE) == ["anonymous.daily_images: 50 → 60"]
    assert images(file) == 50  # a check changes nothing
    assert await file.apply(MORE) == ["anonymous.daily_images: 50 → 60"]
    assert (images(file), (tmp_path / "tiers.toml").read_text()) == (60, MORE)
    assert names_in(tmp_path) == ["tiers.toml"]
    again = TiersFile(Path(), tmp_path, bench.clock, bench.meters)
    assert images(again) == 60


async def test_what_is_wrong_is_never_applied(file: TiersFile, tmp_path: Path):
    with pytest.raises(InvalidRequest) as caught:
        await file.apply(WRONG)
    assert caught.value.violations[0].description.startswith("tier anonymous: daily_images")
    assert (images(file), names_in(tmp_path)) == (50, [])


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, bench):
    file = TiersFile(Path(), tmp_path / "gone", bench.clock, bench.meters)
    with pytest.raises(PreconditionFailed, match=r"gone/tiers\.toml cannot be written"):
        await file.apply(MORE)
    assert images(file) == 50
