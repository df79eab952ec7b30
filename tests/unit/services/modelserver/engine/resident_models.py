"""Stand-ins for residency: models of a few bytes, a loader under the test's hand, a device with memory of its own."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch

from libs.generation.model import Model
from services.modelserver.engine.residency import Loaded, LoadFailed, Residency
from services.modelserver.models import ModelFolder

WAIT_S = 20.0


class OwnMemory:
    """A device's memory on a CPU: copies lie apart. `room_bytes` and `arrives` are the test's to change."""

    own = True

    def __init__(self) -> None:
        self.room_bytes: float = float("inf")
        self.arrives = True
        self.registered: set[int] = set()
        self.copies: list[int] = []

    def pin(self, buffer: torch.Tensor) -> None:
        self.registered.add(buffer.data_ptr())

    def unpin(self, buffer: torch.Tensor) -> None:
        self.registered.remove(buffer.data_ptr())

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.numel() * tensor.element_size() > self.room_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.copies.append(tensor.numel() * tensor.element_size())
        return tensor.clone()

    def copied(self, *, wait: bool) -> bool:
        return self.arrives or wait


class StandinDevice:
    """As much of a Device as residency asks for."""

    is_cuda = False

    def __init__(self) -> None:
        self.released = 0
        self.on_release: Callable[[], None] = lambda: None

    def dtype(self, wanted: str) -> torch.dtype:
        return torch.float32

    def wait(self) -> None:
        pass

    def release(self, *, search: bool = True) -> None:
        self.released += 1
        self.on_release()


class Loader:
    """Loads at once, unless `hold` was called for a model; `errors` are raised, once each."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.sizes: dict[str, int] = {}  # where they differ from what the files say
        self.pipes: dict[str, Any] = {}
        self._held: dict[str, threading.Event] = {}
        self.under_way = threading.Event()

    def hold(self, name: str) -> threading.Event:
        """Keep a load from ending before the event is set."""
        self._held[name] = threading.Event()
        return self._held[name]

    def __call__(self, folder: ModelFolder, dtype: torch.dtype, tell: Callable[[float], None]) -> Any:
        name = folder.model.id
        tell(0.5)
        self.under_way.set()
        if name in self._held:
            assert self._held[name].wait(WAIT_S)
        if name in self.errors:
            raise self.errors.pop(name)
        tell(1.0)
        self.loaded.append(name)
        size = self.sizes.get(name, int((folder.path / "size").read_text()))
        unet = torch.nn.Module()
        unet.weight = own_weight(name, size)
        self.pipes[name] = SimpleNamespace(components={"unet": unet, "scheduler": object()})
        return SimpleNamespace(folder=folder, pipe=self.pipes[name])


def own_weight(name: str, size: int) -> torch.nn.Parameter:
    """Return `size` bytes of numbers that are the model's own."""
    return torch.nn.Parameter(torch.full((size // 4,), float(sum(map(ord, name)))))


def model_folder(place: Path, name: str, size: int) -> ModelFolder:
    """Write a folder whose one file of weights says that it takes `size` bytes."""
    folder = place / name
    (folder / "unet").mkdir(parents=True)
    (folder / "size").write_text(str(size))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "X", "unet": ["diffusers", "Y"]}))
    header = json.dumps({"w": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}).encode()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return ModelFolder(folder, Model(id=name, version="1", pipeline="X"))


class Place:
    """A Residency with everything around it. The clock stands still until `now_s` is changed."""

    def __init__(
        self, path: Path, sizes: dict[str, int], *, budget: int = 300, host: int = 1000, idle_s: float = 0.0
    ) -> None:
        self.now_s = 0.0
        self.folders = {name: model_folder(path, name, size) for name, size in sizes.items()}
        self.loader, self.memory = Loader(), OwnMemory()
        self.device = StandinDevice()
        self.woken = threading.Event()
        self.residency = Residency(
            cast("Any", self.device),
            budget,
            host,
            self.loader,
            clock=lambda: self.now_s,
            idle_s=idle_s,
            wake=self.woken.set,
        )
        self.residency.use_memory(self.memory)
        self.changes: list[Loaded | LoadFailed] = []

    def want(self, *names: str, **options: Any) -> None:
        for name in names:
            self.residency.want(self.folders[name], **options)

    def advance(self, busy: Collection[str] = (), waiting: Collection[str] = ()) -> list[Loaded | LoadFailed]:
        changes = self.residency.advance(pinned(busy), pinned(waiting))
        self.changes += changes
        return changes

    def until(self, come: Callable[[], bool], busy: Collection[str] = ()) -> None:
        """Go on whenever woken, until it is so."""
        while True:
            self.woken.clear()
            self.advance(busy)
            if come():
                return
            assert self.woken.wait(WAIT_S), f"nothing came: {self.tiers()}"

    def bring(self, *names: str, busy: Collection[str] = ()) -> None:
        """Want models one after another, each until it can draw."""
        for name in names:
            self.want(name)
            self.until(lambda name=name: self.draws(name), busy)

    def draws(self, name: str) -> bool:
        return self.residency.on_device(f"{name}@1") is not None

    def tiers(self) -> dict[str, str]:
        return {name.removesuffix("@1"): tier.value for name, tier in self.residency.tiers().items()}

    def in_vram(self) -> set[str]:
        return {name for name, tier in self.tiers().items() if tier == "vram"}

    def blocked_by(self, name: str) -> set[str]:
        return {name.removesuffix("@1") for name in self.residency.blocked_by(f"{name}@1")}

    def weight(self, name: str) -> torch.Tensor:
        weight: torch.Tensor = self.loader.pipes[name].components["unet"].weight
        return weight


def pinned(names: Iterable[str]) -> set[str]:
    return {f"{name}@1" for name in names}
