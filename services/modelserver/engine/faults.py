"""What torch and the libraries say when something goes wrong, in the words of the seam."""

from __future__ import annotations

import traceback

import torch

from services.modelserver.engine.protocol import DeviceLost, EngineFailure, OutOfMemory

_ALLOCATION_FAILED = ("not enough memory", "can't allocate memory", "out of memory")


def as_failure(error: Exception) -> Exception:
    """Return a lack of memory as OutOfMemory, a dead device as DeviceLost, anything else as it is."""
    if isinstance(error, EngineFailure):
        return error
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return _caused(OutOfMemory("the device's memory did not suffice"), error)
    if isinstance(error, torch.AcceleratorError):
        return _caused(DeviceLost("the device does not answer any more"), error)
    if isinstance(error, RuntimeError) and any(words in str(error) for words in _ALLOCATION_FAILED):
        return _caused(OutOfMemory("the device's memory did not suffice"), error)
    return error


def _caused(failure: EngineFailure, error: Exception) -> EngineFailure:
    _let_go(error)
    failure.__cause__ = error
    return failure


def _let_go(error: BaseException | None) -> None:
    """Empty the frames that an error passed through: they hold what the failed forward had allocated."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
