"""Readings of one NVIDIA GPU through NVML: utilisation, memory, temperature, power, clock and what holds it down.

No GPU, no readings. They cost milliseconds, so everybody shares one that is at most FRESH_S old.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import pynvml

from libs.clock import Clock, SystemClock

logger = logging.getLogger(__name__)

FRESH_S = 1.0
# Bits of NVML's clock event reasons that mean slower than it could be. Idle, and clocks that somebody chose to set
# (applications clocks, display clocks), are none.
THROTTLES = MappingProxyType(
    {
        "sw_power_cap": 0x04,  # the power limit
        "hw_slowdown": 0x08,  # heat, power or a brake, as the hardware says; the cause may follow below
        "sync_boost": 0x10,  # kept level with another GPU
        "sw_thermal_slowdown": 0x20,  # heat of GPU or memory, held by the driver
        "hw_thermal_slowdown": 0x40,  # heat, held by the hardware
        "hw_power_brake_slowdown": 0x80,  # the power supply asked for it
    }
)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """The GPU now; None for what it does not tell. `throttle` are names of THROTTLES."""

    utilisation_ratio: float | None = None
    memory_used_bytes: int | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None
    sm_clock_hertz: float | None = None
    throttle: tuple[str, ...] | None = None


class Nvml(Protocol):
    """The part of pynvml that is used here."""

    NVML_TEMPERATURE_GPU: int
    NVML_CLOCK_SM: int

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

    def nvmlDeviceGetClockInfo(self, handle: Any, clock: int) -> int: ...

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int: ...

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int: ...


class Gpu:
    """One GPU by its UUID, so that another order of devices never mixes two up. Every thread may read it."""

    def __init__(self, nvml: Nvml, handle: Any, clock: Clock) -> None:
        self._nvml, self._handle, self._clock = nvml, handle, clock
        self._latest: tuple[float, Reading] | None = None
        self._lock = threading.Lock()

    def read(self) -> Reading:
        """Return what the GPU tells now, or told within FRESH_S; may block for some milliseconds."""
        with self._lock:
            if self._latest is None or self._clock.monotonic() - self._latest[0] > FRESH_S:
                self._latest = self._clock.monotonic(), self._read()
            return self._latest[1]

    def _read(self) -> Reading:
        nvml, gpu = self._nvml, self._handle
        percent = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu)
        milliwatts = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(gpu))
        megahertz = self._ask(lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM))
        reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu))
        if reasons is None:  # drivers before 535 know it by its older name only
            reasons = self._ask(lambda: nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu))
        return Reading(
            utilisation_ratio=None if percent is None else percent / 100,
            memory_used_bytes=self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(gpu).used),
            temperature_celsius=self._ask(lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU)),
            power_watts=None if milliwatts is None else milliwatts / 1000,
            sm_clock_hertz=None if megahertz is None else megahertz * 1e6,
            throttle=None if reasons is None else tuple(name for name, bit in THROTTLES.items() if reasons & bit),
        )

    def _ask(self, question: Callable[[], T]) -> T | None:
        try:
            return question()
        except self._nvml.NVMLError:
            return None  # some parts tell nothing on some GPUs, and a lost GPU tells nothing at all


def open_gpu(device_id: str, nvml: Nvml = pynvml, clock: Clock | None = None) -> Gpu | None:
    """Return the GPU of this UUID, or None on a CPU and where NVML is not there."""
    if device_id == "cpu":
        return None
    try:
        nvml.nvmlInit()
        return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(device_id), clock or SystemClock())
    except nvml.NVMLError as error:
        logger.warning("no readings of the GPU", extra={"device": device_id, "cause": str(error)})
        return None
