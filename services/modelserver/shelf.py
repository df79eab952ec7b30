"""The models of this worker as they stand now: found at start, marked when a load fails. Event loop only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from libs.generation.model import Model
from services.modelserver.models import ModelFolder
from services.modelserver.refusal import Unusable


class Shelf:
    """Folders by pinned name."""

    def __init__(self, folders: Sequence[ModelFolder]) -> None:
        self._folders = {folder.model.pinned: folder for folder in folders}

    def usable(self, pinned: str) -> ModelFolder:
        """Return the folder behind `id@version`; raises Unusable when it is not here or not served."""
        folder = self._folders.get(pinned)
        if folder is None:
            raise Unusable(f"{pinned} is not on this worker")
        if not folder.model.usable:
            raise Unusable(f"{pinned} cannot be used: {folder.model.unusable_reason}")
        return folder

    def mark_unusable(self, pinned: str, reason: str) -> None:
        """Stop to serve a model whose files looked fine and did not load."""
        folder = self._folders[pinned]
        self._folders[pinned] = replace(folder, model=replace(folder.model, unusable_reason=reason))

    def usable_names(self) -> tuple[str, ...]:
        """Return what is served, as `id@version`."""
        return tuple(pinned for pinned, folder in self._folders.items() if folder.model.usable)

    def models(self, resident: Collection[str], residency: str) -> list[Model]:
        """Return every model, the default one first; those in `resident` are in the device's memory."""
        return [
            replace(folder.model, residency=residency if pinned in resident else "disk")
            for pinned, folder in self._folders.items()
        ]
