"""The adapters (LoRA) beside a model: `loras/NAME.safetensors` in its folder. Reads headers only.

They belong to the model but not to its version: one that is added must not retire the version that jobs in the queue
are pinned to. Each has a digest of its own, which tells whether it is still the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from services.modelserver.digests import FileDigests
from services.modelserver.options import NAME
from services.modelserver.refusal import Unusable
from services.modelserver.weights import check_safetensors

logger = logging.getLogger(__name__)

LORAS = "loras"
_SUFFIX = ".safetensors"


@dataclass(frozen=True, slots=True)
class LoraFile:
    """One adapter; `digest` is of its name and contents, `bytes` the size of its file."""

    name: str
    path: Path
    digest: str
    bytes: int


def is_lora(folder: Path, file: Path) -> bool:
    """Return whether a file of a model folder is an adapter."""
    return file.parent == folder / LORAS and file.suffix == _SUFFIX


def find_loras(folder: Path, files: Iterable[Path], digests: FileDigests) -> tuple[LoraFile, ...]:
    """Return the adapters among the files of a model folder, by name. A broken one is left out, with a line in the log."""
    found = []
    for file in sorted(file for file in files if is_lora(folder, file)):
        try:
            if NAME.fullmatch(file.stem) is None:
                raise Unusable("an adapter is named in lower case letters, digits, '.', '_' and '-'")
            check_safetensors(file, f"{LORAS}/{file.name}")
            found.append(LoraFile(file.stem, file, digests.version(folder, [file]), file.stat().st_size))
        except (Unusable, OSError) as error:
            extra = {"model": folder.name, "adapter": file.name, "cause": str(error)}
            logger.warning("adapter cannot be used", extra=extra)
    return tuple(found)
