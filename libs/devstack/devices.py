"""Which devices this machine offers, asked of NVIDIA's management library where there is one."""

from __future__ import annotations

import ctypes
import os

_NVML = "libnvidia-ml.so.1"
_SUCCESS = 0


def default_devices() -> tuple[str, ...]:
    """Return `cuda:N` for each visible NVIDIA GPU, or `cpu` alone. N counts what the child processes will see."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = nvidia_gpus()
    if chosen is not None:
        # CUDA renumbers what is listed, from 0, and stops at the first entry that names nothing.
        listed = [entry.strip() for entry in chosen.split(",")]
        count = min(count, next((i for i, entry in enumerate(listed) if entry in ("", "-1")), len(listed)))
    return tuple(f"cuda:{index}" for index in range(count)) or ("cpu",)


def nvidia_gpus() -> int:
    """Return the number of NVIDIA GPUs; 0 when there is no driver or it does not answer."""
    try:
        nvml = ctypes.CDLL(_NVML)
    except OSError:
        return 0
    if nvml.nvmlInit_v2() != _SUCCESS:
        return 0
    try:
        count = ctypes.c_uint(0)
        return count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == _SUCCESS else 0
    finally:
        nvml.nvmlShutdown()
