"""Runs one seed: `python -m tests.unit.services.scheduler.simulation.run SEED` prints what happened."""

from __future__ import annotations

import logging
import sys

from libs.testing.simulated_loop import simulate
from tests.unit.services.scheduler.simulation import checks
from tests.unit.services.scheduler.simulation.world import World

COMMAND = "python -m tests.unit.services.scheduler.simulation.run"
_SHOWN = 200  # lines of a trace that are worth reading in a report


def run(seed: int) -> World:
    """Run a seed. Raises AssertionError with the way to see it again."""
    world, found = World(seed), list[str]()
    logging.disable(logging.ERROR)
    try:
        simulate(seed, _run(world, found))
    except Exception as error:
        error.add_note(f"again with: {COMMAND} {seed}")
        raise
    finally:
        logging.disable(logging.NOTSET)
    if found:
        raise AssertionError("\n".join([*world.trace[-_SHOWN:], *found, f"again with: {COMMAND} {seed}"]))
    return world


async def _run(world: World, found: list[str]) -> None:
    try:
        await world.run()
    except AssertionError as error:
        found.append(str(error))
    found += await checks.wrong(world)
    await world.stop()


if __name__ == "__main__":
    print("\n".join(run(int(sys.argv[1])).trace))
