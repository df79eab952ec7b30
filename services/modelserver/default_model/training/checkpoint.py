"""A training stage that can be stopped anywhere: what it must offer, and its state on disk.

A stage draws the random numbers of a step from the seed and the number of the step alone, so a checkpoint holds no
generator, and a resumed run takes the same next step as one that was never stopped.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Protocol

import torch

log = logging.getLogger(__name__)


class Stage(Protocol):
    """One thing that is trained."""

    @property
    def plan(self) -> dict[str, Any]:
        """What was decided before the first step; a checkpoint of another plan cannot be resumed."""

    @property
    def total_steps(self) -> int:
        """How many steps the plan has."""

    def advance(self, step: int) -> float:
        """Take step number `step`, from 0, and return its loss."""

    def state(self) -> dict[str, Any]:
        """Return weights, averages and optimiser state; tensors and plain values only."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the source of all random numbers of one step. On the CPU, so that every device draws the same ones."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def save_checkpoint(path: Path, stage: Stage, steps_done: int) -> None:
    """Write the checkpoint; a crash while writing leaves the one before."""
    scratch = path.with_suffix(".part")
    torch.save({"plan": stage.plan, "steps_done": steps_done, "state": stage.state()}, scratch)
    scratch.replace(path)


def restore_checkpoint(path: Path, stage: Stage) -> int:
    """Bring `stage` to where it was saved and return the steps done. Raises ValueError for another plan."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    changed = sorted(k for k, v in stage.plan.items() if saved["plan"].get(k) != v)
    if changed:
        raise ValueError(f"{path.name} was made with another {', '.join(changed)}; use those again or start afresh")
    stage.restore(saved["state"])
    return int(saved["steps_done"])


def run_stage(stage: Stage, path: Path, *, resume: bool, save_every: int = 500, report_every: int = 100) -> None:
    """Take every step that is left, with a checkpoint now and then and one at the end."""
    done = restore_checkpoint(path, stage) if resume and path.exists() else 0
    recent: list[float] = []
    for step in range(done, stage.total_steps):
        recent.append(stage.advance(step))
        if len(recent) == report_every or step + 1 == stage.total_steps:
            log.info("training", extra={"step": step + 1, "loss": round(sum(recent) / len(recent), 4)})
            recent.clear()
        if (step + 1) % save_every == 0 or step + 1 == stage.total_steps:
            save_checkpoint(path, stage, step + 1)
