"""The device as torch sees it: `cpu` or `cuda:N`, its memory, its number type."""

from __future__ import annotations

import gc
import os
import time

import torch

from services.modelserver import memory
from services.modelserver.engine.busy import Busy
from services.modelserver.engine.protocol import DeviceInfo

_CPU_THREADS_LEFT_FREE = 1  # for the event loop, so that a long step does not delay heartbeats


class Device:
    """One device of this process. `threads` is torch's number on a CPU; 0 means all cores but one."""

    def __init__(self, name: str, threads: int = 0) -> None:
        self.torch = torch.device(name)
        self.is_cuda = self.torch.type == "cuda"
        self.overlaps = self.is_cuda  # whether encoding and decoding beside the denoiser makes anything faster
        if self.is_cuda:
            torch.cuda.set_device(self.torch)
        torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) - _CPU_THREADS_LEFT_FREE))
        self.info = self._describe(name)
        self.busy = Busy(self.now)
        self._cpu_peak_bytes = 0
        self._peak_base = 0

    def dtype(self, wanted: str) -> torch.dtype:
        """Return the number type to load a model in: what it asks for, on a CPU always float32."""
        if not self.is_cuda:
            return torch.float32
        kinds = {"float32": torch.float32, "float16": torch.float16}
        return kinds.get(wanted, torch.bfloat16)

    def now(self) -> float:
        """Return monotonic seconds, for measuring the device."""
        return time.monotonic()

    def wait(self) -> None:
        """Wait until the device has done what it was given, so that times and cancels are true."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch)
        else:
            self._cpu_peak_bytes = max(self._cpu_peak_bytes, memory.process_bytes())

    def begin_peak(self) -> None:
        """Forget the highest memory so far."""
        if self.is_cuda:
            torch.cuda.reset_peak_memory_stats(self.torch)
            self._peak_base = torch.cuda.memory_allocated(self.torch)
        self._cpu_peak_bytes = memory.process_bytes()

    def peak_bytes(self) -> int:
        """Return the most memory in use since `begin_peak`; on a CPU as sampled at each `wait`."""
        return torch.cuda.max_memory_allocated(self.torch) if self.is_cuda else self._cpu_peak_bytes

    def peak_growth_bytes(self) -> int:
        """Return how much the memory in use grew at most since `begin_peak`; 0 on a CPU, which does not tell."""
        return max(0, torch.cuda.max_memory_allocated(self.torch) - self._peak_base) if self.is_cuda else 0

    def free_bytes(self) -> int:
        """Return what can still be allocated: what the device has free, and what torch holds unused."""
        if not self.is_cuda:
            return memory.available_bytes()
        free, _total = torch.cuda.mem_get_info(self.torch)
        return int(free) + torch.cuda.memory_reserved(self.torch) - torch.cuda.memory_allocated(self.torch)

    def memory_bytes(self) -> int:
        """Return the memory in use by this process now."""
        return torch.cuda.memory_reserved(self.torch) if self.is_cuda else memory.process_bytes()

    def host_bytes(self) -> int:
        """Return the memory of the machine that the device is in."""
        return memory.machine_bytes()

    def release(self, *, search: bool = True) -> None:
        """Give back what is not used any more; with `search` also what only the collector finds, which takes a while."""
        if search:
            gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def _describe(self, name: str) -> DeviceInfo:
        if not self.is_cuda:
            return DeviceInfo(name, "cpu", memory.machine_bytes())
        properties = torch.cuda.get_device_properties(self.torch)
        return DeviceInfo(name, f"GPU-{properties.uuid}", properties.total_memory, properties.name)
