"""Which classes diffusers and transformers bring; the only ones a model folder may name."""

from __future__ import annotations

import inspect

import diffusers
import transformers
from diffusers import pipelines

from services.modelserver.pipelines import REQUIRED, Parameters

_LIBRARIES = {"diffusers": diffusers, "transformers": transformers}


class LibraryClasses:
    """Keeps the promise of `KnownClasses` with the libraries themselves."""

    def pipeline(self, name: str) -> bool:
        """Return whether diffusers has this pipeline."""
        kind = getattr(diffusers, name, None) if name.isidentifier() else None
        return inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)

    def parameters(self, pipeline: str) -> Parameters:
        """Return the parameters of a pipeline's call, without those that are passed on as they come."""
        taken = list(inspect.signature(getattr(diffusers, pipeline).__call__).parameters.values())[1:]
        named = [p for p in taken if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        return {p.name: REQUIRED if p.default is p.empty else p.default for p in named}

    def component(self, library: str, name: str) -> bool:
        """Return whether the library, or a pipeline's own module in diffusers, has a class that loads itself."""
        return find_class(library, name) is not None


def find_class(library: str, name: str) -> type | None:
    """Return the class behind an entry of model_index.json, None when there is none that loads itself."""
    module = _LIBRARIES.get(library) or getattr(pipelines, library, None)
    kind = getattr(module, name, None) if inspect.ismodule(module) else None
    return kind if inspect.isclass(kind) and hasattr(kind, "from_pretrained") else None
