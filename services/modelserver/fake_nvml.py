"""An NVML without a driver: one GPU whose readings are what its owner sets. It ships, and the tests run on it."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace


class FakeNvmlError(Exception):
    """What its calls raise."""


@dataclass(slots=True)
class FakeNvml:
    """Keeps the promise of `gpu.Nvml` for one GPU; `mute` functions are not supported, as some are on some GPUs."""

    uuid: str = "GPU-1"
    utilisation_percent: int = 37
    memory_used_bytes: int = 1000
    temperature_celsius: int = 61
    power_milliwatts: int = 250_500
    sm_clock_mhz: int = 1980
    clock_reasons: int = 0  # NVML's bits, see gpu.THROTTLES
    mute: frozenset[str] = frozenset()  # names of functions
    driver: bool = True
    reads: int = 0  # how often its utilisation was asked for

    NVML_TEMPERATURE_GPU = 0
    NVML_CLOCK_SM = 1

    @property
    def NVMLError(self) -> type[Exception]:
        """What its calls raise."""
        return FakeNvmlError

    def nvmlInit(self) -> None:
        """Find the driver."""
        if not self.driver:
            raise FakeNvmlError("driver not loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        """Find the GPU."""
        if uuid != self.uuid:
            raise FakeNvmlError("not found")
        return uuid

    def nvmlDeviceGetUtilizationRates(self, _handle: str) -> SimpleNamespace:
        """Return the utilisation in percent as `gpu`."""
        self._ask("nvmlDeviceGetUtilizationRates")
        self.reads += 1
        return SimpleNamespace(gpu=self.utilisation_percent)

    def nvmlDeviceGetMemoryInfo(self, _handle: str) -> SimpleNamespace:
        """Return the bytes in use as `used`."""
        self._ask("nvmlDeviceGetMemoryInfo")
        return SimpleNamespace(used=self.memory_used_bytes)

    def nvmlDeviceGetTemperature(self, _handle: str, _sensor: int) -> int:
        """Return degrees Celsius."""
        self._ask("nvmlDeviceGetTemperature")
        return self.temperature_celsius

    def nvmlDeviceGetPowerUsage(self, _handle: str) -> int:
        """Return milliwatts."""
        self._ask("nvmlDeviceGetPowerUsage")
        return self.power_milliwatts

    def nvmlDeviceGetClockInfo(self, _handle: str, _clock: int) -> int:
        """Return megahertz."""
        self._ask("nvmlDeviceGetClockInfo")
        return self.sm_clock_mhz

    def nvmlDeviceGetCurrentClocksEventReasons(self, _handle: str) -> int:
        """Return the bits of what holds the clocks."""
        self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        return self.clock_reasons

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _handle: str) -> int:
        """Return the same by its older name."""
        self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return self.clock_reasons

    def _ask(self, function: str) -> None:
        if function in self.mute:
            raise FakeNvmlError(f"{function} is not supported")
