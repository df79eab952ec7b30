"""The pipeline objects of the models on the device: one a task, all around the same components."""

from __future__ import annotations

from typing import Any

import diffusers

from services.modelserver.engine.adapters import Adapters
from services.modelserver.engine.loading import LoadedModel
from services.modelserver.engine.protocol import BadInput, Request
from services.modelserver.pipelines import sibling


class Pipes:
    """Made when first asked for, forgotten when the model leaves. Device thread only."""

    def __init__(self) -> None:
        self._pipes: dict[tuple[str, str], Any] = {}
        self._adapters: dict[str, Adapters] = {}

    def pipe(self, model: LoadedModel, request: Request) -> Any:
        """Return the pipeline that does what the request asks for; raises BadInput when the family has none."""
        task = task_of(request)
        key = (model.folder.model.pinned, task)
        if key not in self._pipes:
            self._pipes[key] = _made(model.pipe, task)
        return self._pipes[key]

    def adapters(self, model: LoadedModel) -> Adapters:
        """Return who sets the adapters of a model."""
        pinned = model.folder.model.pinned
        if pinned not in self._adapters:
            self._adapters[pinned] = Adapters(model)
        return self._adapters[pinned]

    def models(self) -> set[str]:
        """Return the models that have pipelines here."""
        return {pinned for pinned, _ in self._pipes} | self._adapters.keys()

    def forget(self, pinned: str) -> None:
        """Let go of a model that left."""
        self._adapters.pop(pinned, None)
        for key in [key for key in self._pipes if key[0] == pinned]:
            del self._pipes[key]


def task_of(request: Request) -> str:
    """Return `text`, `image` or `inpaint`."""
    if request.image is None:
        return "text"
    return "image" if request.mask is None else "inpaint"


def _made(pipe: Any, task: str) -> Any:
    name = type(pipe).__name__
    wanted = sibling(name, task)
    if not wanted:
        raise BadInput(f"{name} cannot do the task {task!r}")
    if wanted == name:
        return pipe
    made = getattr(diffusers, wanted)(**pipe.components)
    made.set_progress_bar_config(disable=True)
    return made
