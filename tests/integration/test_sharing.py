"""Tests of a folder that shares a stack run on one worker, the others on all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from tests.conftest import FOLDERS

OTHERS = "tests/unit/"
TESTS = """
import os, pytest
@pytest.mark.parametrize("number", range(8))
def test_it(number):
    with open(os.environ["WORKERS"], "a") as told:
        told.write(f"{__file__} {os.environ['PYTEST_XDIST_WORKER']}\\n")
"""


def test_who_shares_a_stack_shares_a_worker(tmp_path: Path) -> None:
    for folder in (*FOLDERS, OTHERS):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("one", "two"):
            (tmp_path / folder / f"test_{name}.py").write_text(TESTS)
    shutil.copy(Path(__file__).parents[1] / "conftest.py", tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\naddopts = --import-mode=importlib\n")
    told = tmp_path / "workers"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"WORKERS": str(told), "PATH": "", "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    workers = defaultdict(set)
    for line in told.read_text().splitlines():
        path, worker = line.split()
        workers[next(folder for folder in (*FOLDERS, OTHERS) if f"/{folder}" in path)].add(worker)
    assert workers.keys() == {*FOLDERS, OTHERS}
    assert [len(workers[folder]) for folder in FOLDERS] == [1, 1]
