"""Whole runs of the real scheduler on made-up time, one a seed; a seed that fails says how to see it again."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.unit.services.scheduler.simulation.run import COMMAND, run

QUICK, ALL = 40, 540


@pytest.mark.parametrize("seed", range(QUICK))
def test_everything_that_was_acknowledged_ends_once(seed: int) -> None:
    run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(QUICK, ALL))
def test_everything_that_was_acknowledged_ends_once_in_many_more_runs(seed: int) -> None:
    run(seed)


def test_a_seed_is_the_same_run_every_time() -> None:
    assert run(7).trace == run(7).trace


def test_a_seed_is_the_same_run_wherever_its_events_lie_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    for step in (1, -1):
        monkeypatch.setattr(asyncio.Event, "__hash__", _numbered(step))
        told.append(run(10).trace)
    assert told[0] == told[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_seed_is_the_same_run_in_every_process(seed: int) -> None:
    told = {_told_elsewhere(seed, hashes) for hashes in ("1", "2", "3")}
    assert told == {"\n".join(run(seed).trace) + "\n"}


def _numbered(step: int) -> Callable[[asyncio.Event], int]:
    """Return a hash by the order in which events are first asked for one, upwards or downwards."""
    numbers = itertools.count(0, step)
    return lambda event: int(event.__dict__.setdefault("_number", next(numbers)))


def _told_elsewhere(seed: int, hashes: str) -> str:
    command = [sys.executable, *COMMAND.split()[1:], str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return ran.stdout
