"""The adapters of those components of a model that one thread owns."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from diffusers.utils.peft_utils import delete_adapter_layers, set_weights_and_activate_adapters
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import safe_open

from libs.generation.batch_key import AdapterUse
from services.modelserver.engine.building import BUILDING
from services.modelserver.engine.file_faults import FILE_ERRORS, as_told, reason_of
from services.modelserver.engine.float8 import shown_as_computed
from services.modelserver.engine.loading import LoadedModel
from services.modelserver.engine.protocol import BadInput, ModelBroken
from services.modelserver.loras import LoraFile
from services.modelserver.refusal import Unusable

MOST_LOADED = 8
_MOST_SHARE = 0.25  # of the model's own bytes
_OF_TEXT = ("text_encoder", "lora_te")  # how names of tensors begin that are for text encoders


class AdapterSide:
    """See Adapters. `without` are the methods of the pipeline that load what belongs to the other side."""

    def __init__(self, model: LoadedModel, components: Sequence[str], *, without: Sequence[str]) -> None:
        self._model = model
        self._components = [getattr(model.pipe, name) for name in components]
        self._of_text = "load_lora_into_text_encoder" not in without
        self._without = without
        self._files = {lora.name: lora for lora in model.folder.loras}
        self._loaded: OrderedDict[str, LoraFile] = OrderedDict()
        self._current: AdapterUse | None = ()
        self._compiled = [part for root in self._components for part in root.modules() if _is_compiled(part)]
        self._compiled_calls = [part._compiled_call_impl for part in self._compiled]
        self._probes: list[tuple[torch.Tensor, torch.Tensor]] = []  # one of an adapter in effect and one of its layer
        self._wraps: list[tuple[Any, str, Any]] = []  # parent, name and wrapped layer, while they are out of the model

    def use(self, wanted: AdapterUse) -> None:
        """Let these be in effect and no others."""
        if wanted == self._current and self._in_place():
            return
        unknown = next((name for name, _ in wanted if name not in self._files), None)
        if unknown is not None:
            raise BadInput(f"the model has no adapter {unknown!r}")
        if wanted and not hasattr(self._model.pipe, "load_lora_weights"):
            raise BadInput("a model of this kind takes no adapters")
        if not self._components:
            return
        self._current = None  # if this fails the next one begins from scratch
        self._put_in()
        for name, _ in wanted:
            self._need(name, {name for name, _ in wanted})
        self._activate(wanted)
        if not wanted:
            self._take_out()
        self._current = wanted

    def loaded(self) -> tuple[str, ...]:
        """Return the names of those in memory, the least recently used first."""
        return tuple(self._loaded)

    def _need(self, name: str, wanted: set[str]) -> None:
        if name not in self._loaded:
            self._make_room(self._files[name], wanted)
            self._load(self._files[name])
            self._loaded[name] = self._files[name]
        self._loaded.move_to_end(name)

    def _make_room(self, coming: LoraFile, wanted: set[str]) -> None:
        most_bytes = self._model.weight_bytes * _MOST_SHARE
        for name in [name for name in self._loaded if name not in wanted]:
            held = sum(lora.bytes for lora in self._loaded.values()) + coming.bytes
            if len(self._loaded) < MOST_LOADED and held <= most_bytes:
                return
            self._delete(self._loaded.pop(name))

    def _load(self, lora: LoraFile) -> None:
        try:
            with ExitStack() as stack:
                stack.enter_context(BUILDING)
                for component in self._components:
                    stack.enter_context(shown_as_computed(component))
                self._view().load_lora_weights(
                    str(lora.path.parent),
                    weight_name=lora.path.name,
                    adapter_name=_key(lora.name),
                    local_files_only=True,
                    use_safetensors=True,
                )
            self._check_it_fits(lora)
        except (*FILE_ERRORS, MemoryError) as error:
            self._delete(lora)
            told = as_told(error)
            if isinstance(told, ModelBroken):
                # Tidying up after an error, diffusers fails itself where nothing had been put in yet.
                first = error.__context__ if isinstance(error, KeyError) and error.__context__ else error
                told = BadInput(f"the adapter {lora.name!r} does not load: {reason_of(first)}")
            raise told from error

    def _view(self) -> Any:
        """Return the pipeline as it loads adapters for this side alone, and changes no weights of the model."""
        view = copy.copy(self._model.pipe)
        for method in self._without:
            view.__dict__[method] = _nothing
        view.__dict__["_maybe_expand_transformer_param_shape_or_error_"] = _nothing
        view.__dict__["_load_norm_into_transformer"] = _refuse_norms
        return view

    def _check_it_fits(self, lora: LoraFile) -> None:
        """Refuse a file whose tensors for this side have no place in the model: it would change nothing."""
        if any(_key(lora.name) in _adapters_of(layer) for layer in self._layers()):
            return
        with safe_open(str(lora.path), framework="pt") as opened:
            names = list(opened.keys())
        ours = [name for name in names if name.startswith(_OF_TEXT) == self._of_text]
        if ours or not names:
            raise Unusable("it fits no part of the model")

    def _activate(self, wanted: AdapterUse) -> None:
        self._probes = []
        for component in self._components:
            layers = _layers_of(component)
            here = {key for layer in layers for key in _adapters_of(layer)}
            uses = {_key(name): weight for name, weight in wanted if _key(name) in here}
            _set(component, list(uses), list(uses.values()))
            pairs = [(tensor, layer) for layer in layers for tensor in _tensors_of(layer, uses)]
            for tensor, layer in pairs:
                tensor.data = tensor.data.to(_device_of(layer))
                tensor.requires_grad_(False)  # PEFT prepares for training
            self._probes += [(tensor, next(layer.get_base_layer().parameters())) for tensor, layer in pairs[:1]]
        for part, call in zip(self._compiled, self._compiled_calls, strict=True):
            part._compiled_call_impl = None if wanted else call  # every other set would be compiled anew

    def _in_place(self) -> bool:
        """Whether adapters are still where the weights are: the model may have left the device and come back."""
        return all(tensor.device == weight.device for tensor, weight in self._probes)

    def _layers(self) -> list[Any]:
        return [layer for component in self._components for layer in _layers_of(component)]

    def _delete(self, lora: LoraFile) -> None:
        for component in self._components:
            _set(component, [], [])
            delete_adapter_layers(component, _key(lora.name))  # type: ignore[no-untyped-call]
            getattr(component, "peft_config", {}).pop(_key(lora.name), None)

    def _take_out(self) -> None:
        """Put a compiled model's own layers back, so that what was compiled for them still holds."""
        if not self._compiled:
            return
        parents = [parent for component in self._components for parent in component.modules()]
        children = [(parent, name, child) for parent in parents for name, child in parent.named_children()]
        self._wraps = [each for each in children if isinstance(each[2], BaseTunerLayer)]
        for parent, name, layer in self._wraps:
            setattr(parent, name, layer.get_base_layer())
            for tensor in _tensors_of(layer, _adapters_of(layer)):
                tensor.data = tensor.data.to("cpu")  # out of the model nobody takes them along when it leaves

    def _put_in(self) -> None:
        for parent, name, layer in self._wraps:
            setattr(parent, name, layer)
        self._wraps.clear()


def _key(name: str) -> str:
    """Return the name by which PEFT knows an adapter: torch allows no dots in names of modules."""
    return name.replace(".", ":")


def _nothing(*_args: Any, **_kwargs: Any) -> bool:
    return False


def _refuse_norms(*_args: Any, **_kwargs: Any) -> None:
    raise Unusable("it would replace weights of the model itself")


def _is_compiled(module: Any) -> bool:
    return module._compiled_call_impl is not None


def _layers_of(component: Any) -> list[Any]:
    return [layer for layer in component.modules() if isinstance(layer, BaseTunerLayer)]


def _adapters_of(layer: Any) -> set[str]:
    return {name for part in layer.adapter_layer_names for name in getattr(layer, part, ())}


def _tensors_of(layer: Any, names: Collection[str]) -> list[torch.Tensor]:
    """Return the tensors of these adapters in a layer."""
    parts = [getattr(layer, part, {}) for part in layer.adapter_layer_names]
    found = [part[name] for part in parts for name in names if name in part]
    modules = [part for part in found if isinstance(part, torch.nn.Module)]
    plain = [part for part in found if isinstance(part, torch.Tensor)]
    return [*plain, *(tensor for module in modules for tensor in module.parameters())]


def _device_of(layer: Any) -> torch.device:
    return next(layer.get_base_layer().parameters()).device  # type: ignore[no-any-return]


def _set(component: Any, names: list[str], weights: list[float]) -> None:
    set_weights_and_activate_adapters(component, names, weights)  # type: ignore[no-untyped-call]
