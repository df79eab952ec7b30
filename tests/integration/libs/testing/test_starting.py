"""What tests are told of a server of their own that does not come up, and that nothing of it stays."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from libs.devstack.process import Process
from libs.testing.starting import started


def shell(script: str, folder: Path, is_ready: Callable[[], Awaitable[bool]]) -> Process:
    return Process("peer", ("/bin/sh", "-c", script), {"PATH": os.defpath}, is_ready, folder / "log")


async def never() -> bool:
    return False


async def test_one_that_ends_is_told_at_once_with_its_log(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"peer did not start, it exited with status 3:\n    no such port"):
        await started(shell("echo no such port; exit 3", tmp_path, never), within_s=600.0)


async def test_one_that_is_never_ready_is_told_and_gone(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"peer did not start, it is not ready after 0 s"):
        await started(shell("exec sleep 600", tmp_path, never), within_s=0.0)


async def test_nothing_is_left_of_one_that_nobody_waits_for_any_more(tmp_path: Path):
    pid = tmp_path / "pid"

    async def interrupted() -> bool:
        if pid.exists() and pid.read_text().endswith("\n"):
            raise KeyError("the test ends")
        return False

    with pytest.raises(KeyError):
        await started(shell(f"echo $$ > {pid}; exec sleep 600", tmp_path, interrupted), within_s=60.0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
