"""What goes to the device and comes from it beside requests: input pictures, checkpoints, finished pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.modelserver.attempt import Order
from services.modelserver.checkpoints import CheckpointPolicy, Checkpoints, due
from services.modelserver.delivery import Delivery
from services.modelserver.inputs import Inputs
from services.modelserver.safety import Checker


class ReadsInputs(Protocol):
    """Part of `InputReader`."""

    async def read(self, order: Order) -> Inputs:
        """Return the inputs of an order; raises DarkroomError."""
        ...


@dataclass(slots=True)
class Urgency:
    """When a checkpoint is due: when it pays, and at every step once the worker is about to go."""

    policy: CheckpointPolicy
    hurried: bool = False

    def due(self, step: int, total: int, since_s: float, eta_s: float) -> bool:
        """Return whether a checkpoint is wanted after this step; called from the device thread."""
        return (self.hurried and step < total) or due(self.policy, step, total, since_s, eta_s)


@dataclass(frozen=True, slots=True)
class Carriers:
    """All of them, and who judges prompts. `urgency.due` is what the engine asks."""

    checker: Checker
    inputs: ReadsInputs
    checkpoints: Checkpoints
    urgency: Urgency
    delivery: Delivery


def needs_any(order: Order) -> bool:
    """Return whether something must be fetched before the device can begin."""
    return bool(order.resume_from or order.spec.input_image or order.spec.mask_image)
