"""Part `swap`: how long models take from files and from the host's memory, and whether that disturbs who draws.

Beside each swap stands a plain copy of as many bytes from registered host memory, which is what the bus can do. Files
are written first, into a folder of their own that is removed; "disk" is after they were dropped from the system's
cache, "files in cache" right after that.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from services.modelserver.engine.device import Device
from services.modelserver.engine.host_weights import CudaMemory, Memory
from services.modelserver.engine.loading import load_model
from services.modelserver.engine.protocol import Tier
from services.modelserver.engine.residency import Loaded, LoadFailed, Residency
from services.modelserver.engine.weight_estimate import estimated_bytes
from services.modelserver.models import ModelFolder
from tests.bench.gpu.drawing import Drawer
from tests.bench.gpu.report import UNKNOWN, gigabytes, print_table, quantile
from tests.bench.gpu.sized_models import SizedModel, folder_of
from tests.bench.gpu.stand import Stand, spec_maker
from tests.unit.services.modelserver.engine.resident_models import OwnMemory

_PATIENCE_S = 300.0
_ALONE = 1.02  # times the largest model is room for it and for no other beside it
_COPIES = 3
_WRITTEN_TYPE = torch.bfloat16


@dataclass(frozen=True, slots=True)
class Swap:
    """One arrival of a model on the device; `read_s` of the seconds went by reading its files."""

    name: str
    came_from: str
    seconds: float
    read_s: float


def measure(stand: Stand) -> None:
    """Print swap times, and the steps of a drawing while another model is loaded."""
    with _written(stand) as folders:
        if not folders:
            return
        sizes = {folder.model.id: estimated_bytes(folder, stand.device.dtype("").itemsize) for folder in folders}
        copies = {name: _plain_copy_s(stand.device, size) for name, size in sizes.items()}
        others = list(folders) if len(folders) > 1 else [folders[0], _twin(folders[0])]
        rows = []
        for swap in _swaps(stand, others):
            name = swap.name.removesuffix(_TWIN)
            against = f"{swap.seconds / copies[name]:.2f} ×"
            times = f"{swap.seconds:.3f}", f"{swap.read_s:.3f}" if swap.read_s else UNKNOWN
            rows.append((name, gigabytes(sizes[name]), swap.came_from, *times, f"{copies[name]:.3f}", against))
        header = "model | GB | to the device from | seconds | of them reading | plain copy, seconds | against it"
        print_table("Models coming to the device, with room for one of them", header, rows)
        _measure_disturbance(stand, others)


_TWIN = "-twin"


def _twin(folder: ModelFolder) -> ModelFolder:
    """Return the same files as another model, to swap with."""
    return folder_of(SizedModel(folder.model.id + _TWIN, "", _unbuilt, 1.0, 1.0), folder.path, folder.model.pipeline)


def _unbuilt(_device: torch.device, _dtype: torch.dtype) -> None:
    raise AssertionError("it is read from its files")


@contextlib.contextmanager
def _written(stand: Stand) -> Iterator[Sequence[ModelFolder]]:
    """Write the models' files; yields those for which the disk has room."""
    folders = []
    with tempfile.TemporaryDirectory(prefix="darkroom-swap-", dir=stand.place) as place:
        for model in stand.models:
            if shutil.disk_usage(place).free < model.file_bytes:
                print(f"{model.title} is left out: {stand.place} lacks room for {model.file_bytes / 1e9:.0f} GB.")
                continue
            pipe = model.build(stand.device.torch, _WRITTEN_TYPE if stand.device.is_cuda else torch.float32)
            pipe.save_pretrained(Path(place) / model.id)
            folders.append(folder_of(model, Path(place) / model.id, type(pipe).__name__))
            del pipe
            stand.device.release()
        yield folders


def _forget_files(folder: ModelFolder) -> None:
    """Have the system drop the files from its cache."""
    for file in folder.path.rglob("*.safetensors"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _memory(device: Device) -> Memory:
    """Return the device's memory; a CPU plays that it had one of its own."""
    return CudaMemory(device.torch) if device.is_cuda else OwnMemory()


def _plain_copy_s(device: Device, size: int) -> float:
    """Return the seconds of the quickest of some copies of so many bytes from registered host memory."""
    memory, host = _memory(device), torch.ones(size, dtype=torch.uint8)
    memory.pin(host)
    try:
        there, seconds = torch.empty(size, dtype=torch.uint8, device=device.torch), []
        for _ in range(_COPIES):
            device.wait()
            began_s = time.perf_counter()
            there.copy_(host, non_blocking=True)
            device.wait()
            seconds.append(time.perf_counter() - began_s)
    finally:
        memory.unpin(host)
        del there
        device.release()
    return min(seconds)


class Room:
    """A device with room for one model."""

    def __init__(self, device: Device, largest_bytes: int) -> None:
        budget, self._woken = int(_ALONE * largest_bytes), threading.Event()
        self.residency = Residency(
            device, budget, device.host_bytes() // 2, load_model, clock=device.now, idle_s=0.0, wake=self._woken.set
        )
        self.residency.use_memory(_memory(device))

    def bring(self, folder: ModelFolder) -> Loaded:
        """Bring a model to the device, whoever is there leaves it."""
        until_s = time.monotonic() + _PATIENCE_S
        self.residency.want(folder)
        while time.monotonic() < until_s:
            for change in self.residency.advance(()):
                if isinstance(change, LoadFailed):
                    raise change.error
                self.residency.advance({change.pinned})  # it has been used: its turn is over
                return change
            self._woken.wait(1.0)
            self._woken.clear()
        raise TimeoutError(folder.model.pinned)


def _swaps(stand: Stand, folders: Sequence[ModelFolder]) -> list[Swap]:
    """Bring each model from the disk, from the system's cache, and by turns from the host's memory."""
    room = Room(stand.device, max(estimated_bytes(folder, stand.device.dtype("").itemsize) for folder in folders))
    swaps = []

    def bring(folder: ModelFolder, came_from: str) -> None:
        loaded = room.bring(folder)
        swaps.append(Swap(folder.model.id, came_from, loaded.end_s - loaded.start_s, loaded.read_s))

    try:
        for folder in folders:
            _forget_files(folder)
            bring(folder, "disk")
            room.residency.evict(folder.model.pinned, ())
            bring(folder, "files in cache")
        for _ in range(stand.scale.rounds):
            for folder in folders:
                bring(folder, "ram")
    finally:
        room.residency.close()
        stand.device.release()
    return _medians(swaps)


def _medians(swaps: Sequence[Swap]) -> list[Swap]:
    """Return one for each model and origin: that of median length."""
    groups: dict[tuple[str, str], list[Swap]] = {}
    for swap in swaps:
        groups.setdefault((swap.name.removesuffix(_TWIN), swap.came_from), []).append(swap)
    return [sorted(group, key=lambda swap: swap.seconds)[(len(group) - 1) // 2] for group in groups.values()]


def _measure_disturbance(stand: Stand, folders: Sequence[ModelFolder]) -> None:
    """Print the steps of a drawing alone, and while another model is read and copied to the device."""
    drawn, loaded = folders[0], folders[1]
    engine, size = stand.engine(load=load_model), stand.scale.sizes[-1]
    try:
        drawer, pinned = Drawer(engine, drawn), loaded.model.pinned
        spec = spec_maker(drawn, size, 10 * stand.scale.steps)
        calm = drawer.keep_drawing(spec, lambda steps: len(steps) >= stand.scale.calm_steps)
        _forget_files(loaded)
        engine.warm(loaded, Tier.RAM)
        reading = drawer.keep_drawing(spec, lambda _: pinned in engine.residency())
        engine.warm(loaded, Tier.VRAM)
        copying = drawer.keep_drawing(spec, lambda _: engine.residency()[pinned] is Tier.VRAM)
    finally:
        engine.close()
    phases = {"alone": calm, "while the files are read": reading, "while the weights are copied": copying}
    rows = [_phase(name, steps, statistics.median(calm)) for name, steps in phases.items()]
    title = f"Steps of {drawn.model.id}, {size} × {size}, one drawing, while {loaded.model.id} comes to the device"
    print_table(title, "when | steps | median ms | p95 ms | longest ms | median against alone", rows)


def _phase(name: str, steps: Sequence[float], calm_s: float) -> tuple[object, ...]:
    if not steps:
        return name, 0, *[UNKNOWN] * 4
    median_s = statistics.median(steps)
    times = (f"{1000 * each:.1f}" for each in (median_s, quantile(steps, 0.95), max(steps)))
    return name, len(steps), *times, f"{median_s / calm_s:.2f} ×"
