"""The device as torch sees it: `cpu` or `cuda:N`, its memory, its number type."""

from __future__ import annotations

import gc
import os

import torch

from services.modelserver import memory
from services.modelserver.engine.protocol import DeviceInfo

_CPU_THREADS_LEFT_FREE = 1  # for the event loop, so that a long step does not delay heartbeats


class Device:
    """One device of this process. `threads` is torch's number on a CPU; 0 means all cores but one."""

    def __init__(self, name: str, threads: int = 0) -> None:
        self.torch = torch.device(name)
        self.is_cuda = self.torch.type == "cuda"
        if self.is_cuda:
            torch.cuda.set_device(self.torch)
        torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) - _CPU_THREADS_LEFT_FREE))
        self.info = self._describe(name)
        self._cpu_peak_bytes = 0

    def dtype(self, wanted: str) -> torch.dtype:
        """Return the number type to load a model in: what it asks for, on a CPU always float32."""
        if not self.is_cuda:
            return torch.float32
        kinds = {"float32": torch.float32, "float16": torch.float16}
        return kinds.get(wanted, torch.bfloat16)

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
        self._cpu_peak_bytes = memory.process_bytes()

    def peak_bytes(self) -> int:
        """Return the most memory in use since `begin_peak`; on a CPU as sampled at each `wait`."""
        return torch.cuda.max_memory_allocated(self.torch) if self.is_cuda else self._cpu_peak_bytes

    def memory_bytes(self) -> int:
        """Return the memory in use by this process now."""
        return torch.cuda.memory_reserved(self.torch) if self.is_cuda else memory.process_bytes()

    def release(self) -> None:
        """Give back what is not used any more."""
        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()

    def _describe(self, name: str) -> DeviceInfo:
        if not self.is_cuda:
            return DeviceInfo(name, "cpu", memory.machine_bytes())
        properties = torch.cuda.get_device_properties(self.torch)
        return DeviceInfo(name, f"GPU-{properties.uuid}", properties.total_memory)
