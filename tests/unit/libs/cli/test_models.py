"""`darkroom models warm|evict`: a line a worker, and exit status 1 when one of them did not."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from libs.cli import models
from libs.cli.main import app
from libs.cli.target import Target
from libs.clients.scheduler_admin import ModelMove
from libs.ids import WorkerId

RUN = CliRunner()
DOES = ModelMove(WorkerId("gpu-0"), "m@1", accepted=True, message="")
DOES_NOT = ModelMove(WorkerId("gpu-1"), "m@1", accepted=False, message="It draws, or was not in memory.")


@pytest.fixture
def asked(monkeypatch):
    """Answer wishes with what a test puts into `answers`; returns what was asked."""
    told: dict[str, list[Any]] = {"asked": [], "answers": [DOES]}

    class Admin:
        def __init__(self, _channel):
            pass

        async def warm_model(self, *wish):
            told["asked"].append(wish)
            return told["answers"]

        async def evict_model(self, *wish):
            told["asked"].append(wish)
            return told["answers"]

    @asynccontextmanager
    async def channel(_target, _service):
        yield None

    monkeypatch.setattr(models, "SchedulerAdminClient", Admin)
    monkeypatch.setattr(Target, "admin", channel)
    return told


def run(*command: str):
    return RUN.invoke(app, ["--data", str(Path.cwd()), "models", *command])


def test_warm_says_what_each_worker_does(asked):
    result = run("warm", "m", "--tier", "ram", "--worker", "gpu-0")
    assert (result.exit_code, result.output) == (0, "gpu-0 brings m@1 into ram\n")
    assert asked["asked"] == [("m", "gpu-0", "ram")]


def test_a_worker_that_does_not_is_told_with_its_words_and_the_exit_status(asked):
    asked["answers"] = [DOES, DOES_NOT]
    result = run("evict", "m")
    assert result.exit_code == 1
    assert result.output == "gpu-0 has let m@1 go\ngpu-1 does not: It draws, or was not in memory.\n"
    assert asked["asked"] == [("m", "")]
    assert [move["accepted"] for move in json.loads(run("evict", "m", "--json").output)] == [True, False]


def test_wrong_places_are_told_by_option(asked):
    result = run("warm", "m", "--tier", "disk")
    assert result.exit_code == 2
    assert "--tier" in result.output
    assert asked["asked"] == []
