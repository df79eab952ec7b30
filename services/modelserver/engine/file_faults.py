"""What went wrong while files were loaded: the files, this machine's memory, or the disk just now."""

from __future__ import annotations

import errno
from collections.abc import Generator
from contextlib import contextmanager

from safetensors import SafetensorError

from services.modelserver.engine.faults import as_failure, chain
from services.modelserver.engine.protocol import DeviceLost, ModelBroken, OutOfMemory
from services.modelserver.refusal import Unusable

# What loaders of files raise when the files are wrong; anything else is a fault of ours and is raised as it is.
FILE_ERRORS = (
    *(OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, ImportError, SafetensorError, Unusable),
)
_LASTING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG})
_MAX_REASON = 200  # characters of a library's own words in a reason


@contextmanager
def reasons_told() -> Generator[None]:
    """Give what loaders raise the names of the seam."""
    try:
        yield
    except (*FILE_ERRORS, MemoryError) as error:
        raise as_told(error) from error


def as_told(error: BaseException) -> Exception:
    """Return what an error of a loader means: libraries wrap memory and disk that fail into errors of their own."""
    for cause in chain(error):
        failure = as_failure(cause) if isinstance(cause, Exception) else None
        if isinstance(failure, (OutOfMemory, DeviceLost)):
            return failure
        if isinstance(cause, OSError) and cause.errno is not None and cause.errno not in _LASTING:
            return OSError(cause.errno, cause.strerror)
    return ModelBroken(f"it does not load: {reason_of(error)}")


def reason_of(error: BaseException) -> str:
    """Return a library's words, short; paths and tensors' names are fine to show, requests are not in them."""
    told = str(error).partition("\n")[0][:_MAX_REASON]
    return told if isinstance(error, Unusable) else f"{type(error).__name__}: {told}"
