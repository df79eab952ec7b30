"""Whole runs of the real scheduler on made-up time, one a seed; a seed that fails says how to see it again."""

from __future__ import annotations

import pytest

from tests.unit.services.scheduler.simulation.run import run

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
