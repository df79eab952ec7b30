"""Readings of one NVIDIA GPU through NVML: utilisation, memory, temperature, power. No GPU, no readings."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Protocol

import pynvml

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """The GPU now; None for what it does not tell."""

    utilisation_ratio: float | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


class Nvml(Protocol):
    """The part of pynvml that is used here."""

    NVML_TEMPERATURE_GPU: int

    @property
    def NVMLError(self) -> type[Exception]:
        """What its calls raise."""
        ...

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any: ...

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...

    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...


class Gpu:
    """One GPU by its UUID, so that another order of devices never mixes two up."""

    def __init__(self, nvml: Nvml, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle

    def read(self) -> Reading:
        """Return what the GPU tells now."""
        nvml, gpu = self._nvml, self._handle
        percent = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(gpu))
        return Reading(
            utilisation_ratio=None if percent is None else percent / 100,
            memory_used_bytes=self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
            temperature_celsius=self._ask(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
            power_watts=None if milliwatts is None else milliwatts / 1000,
        )

    def _ask(self, question: Any) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:
            return None  # some parts tell nothing on some GPUs, and a lost GPU tells nothing at all


def open_gpu(device_id: str, nvml: Nvml = pynvml) -> Gpu | None:
    """Return the GPU of this UUID, or None on a CPU and where NVML is not there."""
    if device_id == "cpu":
        return None
    try:
        nvml.nvmlInit()
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(device_id))
    except nvml.NVMLError as error:
        logger.warning("no readings of the GPU", extra={"device": device_id, "cause": str(error)})
        return None
