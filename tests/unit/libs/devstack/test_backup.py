"""What `restore` does with names that the manifest should never have let through."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.devstack import manifest
from libs.devstack.backup import restore
from libs.devstack.manifest import BackupProblem, FileEntry, Manifest


@pytest.mark.parametrize("name", ["data/{outside}", "data/../../outside"])
def test_no_file_is_written_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    outside = tmp_path / "outside"
    told = Manifest("1", "now", {}, "here", {name.format(outside=outside): FileEntry(0, "")})
    monkeypatch.setattr(manifest, "read", lambda folder: told)
    (tmp_path / "backup" / "data").mkdir(parents=True)
    (tmp_path / "backup" / name.format(outside=str(outside)[1:])).resolve().parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "backup" / name.format(outside=str(outside)[1:])).write_text("theirs")
    with pytest.raises(BackupProblem, match="leads out of"):
        restore(tmp_path / "backup", tmp_path / "new" / "data")
    assert [path.name for path in tmp_path.iterdir() if path.name != "outside"] == ["backup"]
