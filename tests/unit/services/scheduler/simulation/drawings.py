"""What workers draw: models, pictures that tell what they were drawn from, and a journal of who drew what when."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field

from libs.clients.modelserver import AttemptEvent, Order
from libs.generation.attempt import ImageStored
from libs.generation.model import Model
from libs.generation.spec import GenerationSpec
from libs.ids import JobId

MODELS = tuple(
    Model(id=name, version="v1", pipeline="P", fallback=fallback)
    for name, fallback in (("shapes", "lines"), ("lines", ""), ("dots", "shapes"))
)
PINNED = tuple(model.pinned for model in MODELS)
BUILD = "build-1"
Token = tuple[JobId, int]


@dataclass(slots=True)
class Drawing:
    """One run of an attempt: what it has said, and when it began and ended."""

    order: Order
    began_at: float
    events: list[AttemptEvent] = field(default_factory=list)
    ended_at: float | None = None
    done: bool = False  # its pictures are stored
    stop: bool = False
    parked: bool = False
    parks: int = 0
    followers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, *events: AttemptEvent) -> None:
        """Add to what it has said."""
        self.events.extend(events)
        self.wake()

    def wake(self) -> None:
        """Let who listens look again."""
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class Ran:
    """A run for the journal."""

    token: Token
    worker: str
    drawing: Drawing


def sha256_of(spec: GenerationSpec, model_version: str, index: int) -> str:
    """The name of a picture, by all that its pixels depend on."""
    told = f"{model_version} {spec.prompt} {spec.image_seed(index)} {spec.width}x{spec.height}"
    return hashlib.sha256(told.encode()).hexdigest()


def pictures(order: Order, run: int) -> list[ImageStored]:
    """What a run brings; its place in the journal stands where the size does."""
    spec = order.spec
    return [
        ImageStored(i, sha256_of(spec, order.model_version, i), "image/png", 128, 128, spec.image_seed(i), run)
        for i in range(spec.images)
    ]
