"""The model folders of this worker: found, named, versioned, and either usable or listed with the reason.

Nothing is loaded and no code of a folder runs. What is wrong with one folder never keeps the others from serving.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from libs.generation.model import Model
from services.modelserver.description import DESCRIPTION, describe, is_model_name
from services.modelserver.digests import FileDigests
from services.modelserver.loras import LoraFile, find_loras, is_lora
from services.modelserver.options import ModelOptions
from services.modelserver.pipelines import Parameters
from services.modelserver.refusal import Unusable
from services.modelserver.safe_loading import INDEX, KnownClasses, check_folder, visible_files

logger = logging.getLogger(__name__)

DEFAULT_ALIAS = "default"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """One folder that holds a pipeline, usable or not."""

    path: Path
    model: Model
    options: ModelOptions = field(default_factory=ModelOptions)
    loras: tuple[LoraFile, ...] = ()


def scan(places: Sequence[Path], digests: FileDigests, known: KnownClasses) -> tuple[ModelFolder, ...]:
    """Return every model folder of the places, the default one first; reads every file once in its life."""
    found: dict[str, ModelFolder] = {}
    for path in _model_paths(places):
        if path.name in found:
            extra = {"model": path.name, "folder": str(path)}
            logger.warning("model folder ignored, another one has its name", extra=extra)
        else:
            found[path.name] = _examine(path, digests, known)
    digests.save()
    return tuple(sorted(found.values(), key=_default_first))


def _model_paths(places: Sequence[Path]) -> Iterator[Path]:
    for place in (place.absolute() for place in places):
        if _holds_model(place):
            yield place
        elif place.is_dir():
            yield from sorted(path for path in place.iterdir() if _holds_model(path))
        else:
            logger.warning("no such folder of models", extra={"folder": str(place)})


def _holds_model(path: Path) -> bool:
    try:
        return (path / INDEX).is_file()
    except OSError as error:  # like the `lost+found` of a disk, which only root may look into
        logger.warning("folder ignored", extra={"folder": str(path), "cause": error.strerror})
        return False


def _examine(path: Path, digests: FileDigests, known: KnownClasses) -> ModelFolder:
    folder = ModelFolder(path, Model(id=path.name, version="unknown", pipeline=""))
    try:
        files = visible_files(path)
        # The description is left out: another limit must not retire a version that jobs in the queue are pinned to.
        # So are adapters, see loras.py.
        versioned = [file for file in files if file != path / DESCRIPTION and not is_lora(path, file)]
        version = digests.version(path, versioned)
        folder = replace(folder, model=replace(folder.model, version=version))
        if not is_model_name(path.name):
            raise Unusable("a model folder is named in lower case letters, digits, '.', '_' and '-'")
        index = check_folder(path, files, known)
        folder = _described(folder, index, known.parameters(str(index["_class_name"])))
        loras = find_loras(path, files, digests)
        return replace(folder, loras=loras, model=replace(folder.model, loras=tuple(lora.name for lora in loras)))
    except Unusable as refusal:
        reason = str(refusal)
    except OSError as error:
        reason = f"{error.filename or path.name} cannot be read: {error.strerror}"
    logger.warning("model cannot be used", extra={"model": path.name, "cause": reason})
    return replace(folder, model=replace(folder.model, unusable_reason=reason))


def _described(folder: ModelFolder, index: dict[str, object], parameters: Parameters) -> ModelFolder:
    description = describe(folder.path, index, parameters)
    model = replace(
        folder.model,
        pipeline=str(index["_class_name"]),
        aliases=description.aliases,
        limits=description.limits,
        defaults=description.defaults,
        tasks=description.tasks,
        output=description.output,
        fallback=description.options.fallback,
    )
    return ModelFolder(folder.path, model, description.options)


def _default_first(folder: ModelFolder) -> tuple[bool, bool, str]:
    model = folder.model
    return DEFAULT_ALIAS not in model.aliases, not model.usable, model.id
