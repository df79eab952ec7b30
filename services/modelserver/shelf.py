"""The models of this worker as they stand now: found at start, marked when a load fails. Event loop only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from libs.generation.model import Model
from services.modelserver.models import ModelFolder
from services.modelserver.refusal import Unusable


class Shelf:
    """Folders by pinned name."""

    def __init__(self, folders: Sequence[ModelFolder]) -> None:
        self._folders = {folder.model.pinned: folder for folder in folders}
        self._weight_bytes = {pinned: _weight_bytes(folder) for pinned, folder in self._folders.items()}

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

    def weight_bytes(self, pinned: str) -> int:
        """Return the size of a model's files of weights, as they were at the start."""
        return self._weight_bytes[pinned]

    def usable_names(self) -> tuple[str, ...]:
        """Return what is served, as `id@version`."""
        return tuple(pinned for pinned, folder in self._folders.items() if folder.model.usable)

    def models(self, places: Mapping[str, str]) -> list[Model]:
        """Return every model with its place, the default one first; those without one are on disk."""
        return [replace(folder.model, residency=places.get(pinned, "disk")) for pinned, folder in self._folders.items()]


def _weight_bytes(folder: ModelFolder) -> int:
    files = folder.path.rglob("*.safetensors") if folder.model.usable else ()
    return sum(file.stat().st_size for file in files)
