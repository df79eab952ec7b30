"""What a person meets who starts a stack where another runs, or with settings that cannot work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from libs.devstack.environment import inherited
from libs.devstack.folder import DataFolder

START_LIMIT_S = 30


def start(**variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m libs.devstack` to its end."""
    env = {**inherited(os.environ), **{f"DARKROOM_{name}": value for name, value in variables.items()}}
    command = [sys.executable, "-m", "libs.devstack"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=START_LIMIT_S, check=False)


def test_a_second_start_on_the_same_folder_says_who_holds_it(tmp_path: Path) -> None:
    with DataFolder(tmp_path).held():
        second = start(DATA=str(tmp_path), HTTP_PORT="0")
    assert second.returncode == 1
    assert f"in use by another stack (process {os.getpid()})" in second.stderr
    assert second.stdout == ""


def test_a_setting_that_is_unknown_is_named(tmp_path: Path) -> None:
    refused = start(DATA=str(tmp_path / "new"), HTTP_PROT="0")
    assert refused.returncode == 2
    assert "DARKROOM_HTTP_PROT is unknown; did you mean DARKROOM_HTTP_PORT?" in refused.stderr
    assert not (tmp_path / "new").exists()
