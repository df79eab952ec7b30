"""What may be loaded: safetensors weights of classes that diffusers and transformers bring. Nothing of it runs here.

Pickles and Python files can run anything on being read, so a folder that holds one is refused by name, whole, even if
the loader would not look at it. Whether a class is the libraries' own is asked through `KnownClasses`, because only
the engine may import them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from services.modelserver.pipelines import Parameters
from services.modelserver.quantised import check_quantised
from services.modelserver.refusal import Unusable, read_json
from services.modelserver.weights import check_weights

INDEX = "model_index.json"
_PICKLED = frozenset({".bin", ".ckpt", ".joblib", ".pickle", ".pkl", ".pt", ".pth"})
_CODE = frozenset({".py", ".pyc", ".so"})
_WITHOUT_WEIGHTS = (  # what is in the class's name, the files one of which describes it
    ("Tokenizer", ("tokenizer_config.json",)),
    ("FeatureExtractor", ("preprocessor_config.json",)),
    ("Processor", ("preprocessor_config.json", "processor_config.json")),
    ("Scheduler", ("scheduler_config.json",)),
    ("Guidance", ("guider_config.json",)),
)


class KnownClasses(Protocol):
    """Says which classes the installed libraries have."""

    def pipeline(self, name: str) -> bool:
        """Return whether diffusers has this pipeline."""
        ...

    def parameters(self, pipeline: str) -> Parameters:
        """Return the parameters of the call of one of those pipelines."""
        ...

    def component(self, library: str, name: str) -> bool:
        """Return whether the library, or a pipeline's own module in diffusers, has this part of a pipeline."""
        ...


def visible_files(folder: Path) -> list[Path]:
    """Return every file of the folder but hidden ones, sorted. Links are followed, as the loader does; raises OSError."""

    def fail(error: OSError) -> None:
        raise error

    found: list[Path] = []
    for place, folders, files in os.walk(folder, followlinks=True, onerror=fail):
        here = Path(place)
        folders[:] = [name for name in folders if not name.startswith(".") and not _leads_back(here, name)]
        found += [here / name for name in files if not name.startswith(".") and (here / name).is_file()]
    return sorted(found)


def _leads_back(here: Path, name: str) -> bool:
    """Whether a folder is a link to one that holds it: following it would never end."""
    return (here / name).is_symlink() and here.resolve().is_relative_to((here / name).resolve())


def check_folder(folder: Path, files: Sequence[Path], known: KnownClasses) -> dict[str, Any]:
    """Return the contents of model_index.json when everything may be loaded; raises Unusable with the reason."""
    index = read_json(folder / INDEX, INDEX)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str) or "custom_pipeline" in index:
        raise Unusable("a custom pipeline is not run: _class_name must be one name, of a pipeline of diffusers")
    _refuse(folder, files, _CODE, "code in a model folder is not run")
    _refuse(folder, files, _PICKLED, "pickled weights are not loaded, convert them to safetensors and remove them")
    _refuse_auto_map(folder, files)
    if not known.pipeline(pipeline):
        raise Unusable(f"a custom pipeline is not run: {pipeline} is not a pipeline of diffusers")
    for name, library, class_name in _components(index):
        if not known.component(library, class_name):
            raise Unusable(f"{name} is {library}.{class_name}, which is not a class of diffusers or transformers")
        _check_component(folder / name, name, library, class_name)
    return index


def _refuse(folder: Path, files: Sequence[Path], suffixes: frozenset[str], told: str) -> None:
    found = [file.relative_to(folder).as_posix() for file in files if file.suffix.lower() in suffixes]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise Unusable(f"{told}: {found[0]}{more}")


def _refuse_auto_map(folder: Path, files: Sequence[Path]) -> None:
    for file in files:
        if file.suffix == ".json" and "config" in file.name:
            shown = file.relative_to(folder).as_posix()
            if "auto_map" in read_json(file, shown):
                raise Unusable(f"remote code is not run: {shown} has an auto_map")


def _components(index: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        if value == [None, None]:
            continue
        if len(value) != 2 or not all(isinstance(part, str) and part.isidentifier() for part in value):
            raise Unusable(f"{INDEX}: {name} must be a library and a class")
        if not name.isidentifier():
            raise Unusable(f"{INDEX}: {name!r} is not the name of a component")
        yield name, value[0], value[1]


def _check_component(component: Path, name: str, library: str, class_name: str) -> None:
    if not component.is_dir():
        raise Unusable(f"a file is missing: the folder {name}")
    described_by = next((files for word, files in _WITHOUT_WEIGHTS if word in class_name), None)
    if described_by is not None:
        if not any((component / file).is_file() for file in described_by):
            raise Unusable(f"a file is missing: {name}/{described_by[0]}")
        return
    check_quantised(read_json(component / "config.json", f"{name}/config.json"), name)
    stem = "diffusion_pytorch_model" if library == "diffusers" else "model"
    check_weights(component, stem, name)
