"""A model from its folder into the host's memory: component by component, as plain diffusers would, options applied.

Files are mapped, not read, where they hold the type that is wanted; their pages are then touched here, so that it is
this thread that waits for the disk and nobody later. What is wrong with the files breaks the model, with the reason.
A disk that cannot be read just now does not: that OSError is raised as it is, and a later try may succeed.
"""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from services.modelserver.engine.building import BUILDING
from services.modelserver.engine.classes import find_class
from services.modelserver.engine.file_faults import reasons_told
from services.modelserver.engine.float8 import store_in_float8
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.models import ModelFolder
from services.modelserver.options import FLOAT8
from services.modelserver.refusal import Unusable, read_json
from services.modelserver.safe_loading import INDEX

logger = logging.getLogger(__name__)

DENOISERS = ("unet", "transformer", "transformer_2")

_PAGE_BYTES = 4096
_SAFETY = "safety_checker"

Tell = Callable[[float], None]


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A pipeline with its weights. `denoiser` is the name of its main one, empty when it is of a kind not known."""

    folder: ModelFolder
    pipe: Any
    denoiser: str
    weight_bytes: int


def load_model(folder: ModelFolder, dtype: torch.dtype, tell: Tell, *, backend: str = "inductor") -> LoadedModel:
    """Load a model into the host's memory, with the type of the device it is for.

    `tell` is told the share that is done, 0 to 1; what it raises ends the load. Raises ModelBroken, OutOfMemory, or
    OSError when files cannot be read just now. `backend` is torch.compile's, for a model that is compiled.
    """
    quiet_libraries()
    with reasons_told():
        kinds = _kinds(folder)
        sizes = {name: _file_bytes(folder.path / name) for name in kinds}
    total, done = sum(sizes.values()) or 1, 0
    parts: dict[str, Any] = {}
    for name, kind in kinds.items():
        with reasons_told():
            parts[name] = _load_part(folder.path / name, kind, dtype)
        for share in _touched(parts[name]):
            tell(min(1.0, (done + sizes[name] * share) / total))
        done += sizes[name]
    with reasons_told():
        pipe = _assemble(folder, parts, dtype)
        _apply_options(folder, pipe, dtype, backend)
    tell(1.0)
    return LoadedModel(folder, pipe, denoiser_of(pipe), weight_bytes(pipe))


def denoiser_of(pipe: Any) -> str:
    """Return the name of a pipeline's main denoiser, empty when it is of a kind not known."""
    return next((name for name in DENOISERS if getattr(pipe, name, None) is not None), "")


def weight_bytes(pipe: Any) -> int:
    """Return the bytes of all weights of a pipeline, shared ones once."""
    modules = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    tensors = {id(tensor): tensor for module in modules for tensor in _tensors(module)}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _kinds(folder: ModelFolder) -> Mapping[str, type]:
    """Return the components that have weights, with their classes."""
    index = read_json(folder.path / INDEX, INDEX)
    named = {name: part for name, part in index.items() if isinstance(part, list) and part[0] is not None}
    if not folder.options.safety_checker:
        named.pop(_SAFETY, None)
    kinds = {name: find_class(library, class_name) for name, (library, class_name) in named.items()}
    return {name: kind for name, kind in kinds.items() if kind is not None and issubclass(kind, torch.nn.Module)}


def _file_bytes(component: Path) -> int:
    return sum(file.stat().st_size for file in component.glob("*.safetensors"))


def _load_part(component: Path, kind: Any, dtype: torch.dtype) -> Any:
    is_diffusers = issubclass(kind, diffusers.ModelMixin)
    with BUILDING if is_diffusers else nullcontext():
        part, info = kind.from_pretrained(
            str(component), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    part.requires_grad_(False)  # nothing is trained here; adapters would do so later, and change what was compiled
    missing = sorted(info["missing_keys"])
    if missing:  # the libraries would fill in noise, and draw it
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Unusable(f"{component.name} lacks the weights {missing[0]}{more}")
    return part


def _touched(module: Any) -> Iterator[float]:
    """Bring a module's mapped weights into memory; yields the share of its bytes that is there."""
    tensors = list(_tensors(module))
    total, done = sum(tensor.nbytes for tensor in tensors) or 1, 0
    for tensor in tensors:
        whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        whole[::_PAGE_BYTES].sum()
        done += tensor.nbytes
        yield done / total


def _tensors(module: Any) -> Iterator[torch.Tensor]:
    return itertools.chain(module.parameters(), module.buffers())


def _assemble(folder: ModelFolder, parts: Mapping[str, Any], dtype: torch.dtype) -> Any:
    without = {} if folder.options.safety_checker else {_SAFETY: None, "requires_safety_checker": False}
    taken = inspect.signature(getattr(diffusers, folder.model.pipeline).__init__).parameters
    given = {name: value for name, value in without.items() if name in taken}
    pipe = diffusers.DiffusionPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        str(folder.path), local_files_only=True, use_safetensors=True, dtype=dtype, **parts, **given
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _apply_options(folder: ModelFolder, pipe: Any, dtype: torch.dtype, backend: str) -> None:
    options, vae = folder.options, getattr(pipe, "vae", None)
    denoisers = [getattr(pipe, name) for name in DENOISERS if getattr(pipe, name, None) is not None]
    wanted: list[tuple[str, bool, Any, str]] = [
        ("attention_slicing", options.attention_slicing, pipe, "enable_attention_slicing"),
        ("vae_slicing", options.vae_slicing, vae, "enable_slicing"),
        ("vae_tiling", options.vae_tiling, vae, "enable_tiling"),
    ]
    for name, is_wanted, part, method in wanted:
        if is_wanted:
            _enable(folder, name, part, method)
    for denoiser in denoisers:
        if options.weights == FLOAT8:
            store_in_float8(denoiser, dtype)
        if options.compile:
            _compile(denoiser, backend)


def _enable(folder: ModelFolder, option: str, part: Any, method: str) -> None:
    try:
        getattr(part, method)()
    except (AttributeError, NotImplementedError) as error:
        extra = {"model": folder.model.pinned, "option": option, "cause": str(error)}
        logger.warning("option has no effect on this model", extra=extra)


def _compile(denoiser: Any, backend: str) -> None:
    """Mark a denoiser, or the blocks that it repeats, for being compiled at their first forwards."""
    repeated = getattr(denoiser, "_repeated_blocks", None) or ()
    if any(type(part).__name__ in repeated for part in denoiser.modules()):
        denoiser.compile_repeated_blocks(backend=backend)
    else:
        denoiser.compile(backend=backend)
