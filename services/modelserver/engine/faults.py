"""What torch and the libraries say when something goes wrong, in the words of the seam."""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import torch

from services.modelserver.engine.protocol import DeviceLost, EngineFailure, OutOfMemory

LACKING = "the device's memory did not suffice"
_ALLOCATION_FAILED = ("not enough memory", "can't allocate memory", "out of memory")


def as_failure(error: Exception) -> Exception:
    """Return a lack of memory as OutOfMemory, a dead device as DeviceLost, anything else as it is."""
    if isinstance(error, EngineFailure):
        return error
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return _caused(OutOfMemory(LACKING), error)
    if isinstance(error, torch.AcceleratorError):
        return _caused(DeviceLost("the device does not answer any more"), error)
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILED):
        return _caused(OutOfMemory(LACKING), error)
    return error


def no_memory() -> Exception:
    """Return what torch raises when the device is full."""
    return torch.OutOfMemoryError("out of memory, as a test asked for")


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it came of, each once."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        yield cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__


def _caused(failure: EngineFailure, error: Exception) -> EngineFailure:
    for each in chain(error):
        traceback.clear_frames(each.__traceback__)  # they hold what the failed forward had allocated
    failure.__cause__ = error
    return failure
