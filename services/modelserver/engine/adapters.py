"""Adapters (LoRA) of one model: loaded when first asked for, switched between forwards, the least used let go.

Diffusers and PEFT put them beside the layers that they change; the weights of the model are never touched, so without
adapters a model draws bit for bit what it drew before. A denoiser and the text encoders belong to different threads:
each of the two sides here loads its own part of the file and is used from its own thread only.
"""

from __future__ import annotations

from typing import Any

from libs.generation.batch_key import AdapterUse
from services.modelserver.engine.adapter_side import AdapterSide
from services.modelserver.engine.loading import LoadedModel

_TEXT = "text_encoder"  # and text_encoder_2, …
_LOAD_DENOISER = ("load_lora_into_unet", "load_lora_into_transformer")
_LOAD_TEXT = ("load_lora_into_text_encoder",)


class Adapters:
    """Sets which adapters of a model are in effect, with their weights."""

    def __init__(self, model: LoadedModel) -> None:
        names = [name for name in getattr(model.pipe, "_lora_loadable_modules", ()) if _has(model.pipe, name)]
        texts = [name for name in names if name.startswith(_TEXT)]
        denoisers = [name for name in names if not name.startswith(_TEXT)]
        self._denoiser = AdapterSide(model, denoisers, without=_LOAD_TEXT)
        self._text = AdapterSide(model, texts, without=_LOAD_DENOISER)

    def use(self, wanted: AdapterUse) -> None:
        """Let the denoiser draw with these; does nothing when it does so already. Device thread.

        Raises BadInput when the model has no such adapter or its file does not fit, OutOfMemory, or OSError when the
        file cannot be read just now; the next call is not affected.
        """
        self._denoiser.use(wanted)

    def use_on_text_encoders(self, wanted: AdapterUse) -> None:
        """Let the text encoders read with these, as `use` does. Encode thread."""
        self._text.use(wanted)

    def loaded(self) -> tuple[str, ...]:
        """Return the adapters that are in memory beside the denoiser, the least recently used first."""
        return self._denoiser.loaded()


def _has(pipe: Any, name: str) -> bool:
    return getattr(pipe, name, None) is not None
