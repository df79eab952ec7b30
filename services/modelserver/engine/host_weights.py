"""One host copy of a model's weights, and its way to the device and back.

Drawing never writes to weights. So going to the device is one copy, and leaving it is none: every tensor points back
at the host's copy, and the device's memory is let go. On a device with memory of its own the copy is one buffer:
pinned by one registration (torch's own pinned tensors are rounded up to powers of two) and moved by one transfer.
A device that computes in the host's memory needs nothing of it; the tensors stay as they were loaded.

Parameters are followed by what they are, not by name: adapters wrap modules and rename them. Tensors that came after
loading, like those of a LoRA, and tensors of a kind of their own, like quantised ones, are moved one by one.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from services.modelserver.engine.device import Device
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.protocol import DeviceLost

logger = logging.getLogger(__name__)

_ALIGNMENT = 512  # bytes; what torch's own allocations on a GPU have


class Memory(Protocol):
    """The device's memory as weights see it."""

    @property
    def own(self) -> bool:
        """Whether it is not the host's."""
        ...

    def pin(self, buffer: torch.Tensor) -> None:
        """Make a host buffer quick to copy from."""
        ...

    def unpin(self, buffer: torch.Tensor) -> None:
        """Take that back, before the buffer is freed."""
        ...

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor on the device; the transfer may be under way still."""
        ...

    def copied(self, *, wait: bool) -> bool:
        """Whether everything copied so far is there; with `wait` it is on return."""
        ...


class HostMemory:
    """The device computes in the host's memory."""

    own = False

    def pin(self, buffer: torch.Tensor) -> None:
        """Do nothing."""

    def unpin(self, buffer: torch.Tensor) -> None:
        """Do nothing."""

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the tensor itself."""
        return tensor

    def copied(self, *, wait: bool) -> bool:  # noqa: ARG002 – nothing is ever under way
        """Return that it is there."""
        return True


class CudaMemory:
    """A GPU. Transfers go over a stream of their own, so that drawing goes on meanwhile."""

    own = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def pin(self, buffer: torch.Tensor) -> None:
        """Register the buffer with the driver; where that is refused, copies are slower and otherwise the same."""
        with torch.cuda.device(self._device):  # a thread that names none would wake the first GPU
            error = torch.cuda.cudart().cudaHostRegister(buffer.data_ptr(), buffer.numel(), 0)  # type: ignore[no-untyped-call]
        if int(error) != 0:
            logger.warning("host memory not pinned", extra={"cause": str(error), "bytes": buffer.numel()})

    def unpin(self, buffer: torch.Tensor) -> None:
        """Undo the registration, if there is one."""
        with torch.cuda.device(self._device):
            if buffer.is_pinned():
                torch.cuda.cudart().cudaHostUnregister(buffer.data_ptr())  # type: ignore[no-untyped-call]

    def copy(self, tensor: torch.Tensor) -> torch.Tensor:
        """Begin a transfer."""
        with torch.cuda.stream(self._stream):
            moved = tensor.to(self._device, non_blocking=True)
            self._done.record(self._stream)
        return moved

    def copied(self, *, wait: bool) -> bool:
        """Ask the stream."""
        if wait:
            self._done.synchronize()
        return bool(self._done.query())  # type: ignore[no-untyped-call]


def memory_of(device: Device) -> Memory:
    """Return the memory that the device computes in."""
    return CudaMemory(device.torch) if device.is_cuda else HostMemory()


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """A tensor of the model and where it lies in the buffer."""

    tensor: torch.Tensor
    dtype: torch.dtype
    shape: torch.Size
    stride: tuple[int, ...]
    offset: int
    bytes: int

    def view(self, buffer: torch.Tensor) -> torch.Tensor:
        flat = buffer[self.offset : self.offset + self.bytes].view(self.dtype)
        return flat.as_strided(self.shape, self.stride)


class HostWeights:
    """The weights of one pipeline. Made where the pipeline was loaded; all else on the device thread.

        host ⇄ device → (forget_host) → device alone → (let_go) → nothing

    `bytes` is what the weights take on the device.
    """

    def __init__(self, pipe: Any, memory: Memory) -> None:
        self._pipe = pipe
        self._memory = memory
        self._placed: list[_Placed] = []
        self._host: torch.Tensor | None = None
        self.bytes = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(pipe))
        if memory.own:
            self._place()

    def enter(self) -> None:
        """Begin to bring the weights to the device; raises OutOfMemory, with everything where it was."""
        if not self._memory.own:
            return
        assert self._host is not None, "the host's copy was forgotten"
        try:
            with torch.inference_mode(mode=False), torch.no_grad():
                on_device = self._memory.copy(self._host)
                for each in self._placed:
                    each.tensor.data = each.view(on_device)
                for tensor in self._others():
                    tensor.data = self._memory.copy(tensor.data)
        except (RuntimeError, MemoryError) as error:  # torch's errors of memory and of the device among them
            failure = as_failure(error)
            if not isinstance(failure, DeviceLost):
                self.leave()
            raise failure from failure.__cause__

    def arrived(self, *, wait: bool = False) -> bool:
        """Whether they are all there; with `wait` they are on return."""
        return self._memory.copied(wait=wait)

    def leave(self) -> None:
        """Point back at the host's copy. The device must have done with the weights."""
        if not self._memory.own:
            return
        assert self._host is not None, "the host's copy was forgotten"
        self._memory.copied(wait=True)
        with torch.inference_mode(mode=False), torch.no_grad():
            for each in self._placed:
                each.tensor.data = each.view(self._host)
            for tensor in self._others():
                tensor.data = tensor.data.to("cpu")

    def forget_host(self) -> None:
        """Free the host's copy of weights that are on the device."""
        if self._host is not None:
            self._memory.copied(wait=True)
            self._memory.unpin(self._host)
            self._host = None

    def let_go(self) -> None:
        """Free the weights wherever they are, even if somebody still holds the pipeline; it can draw no more."""
        self.forget_host()
        with torch.inference_mode(mode=False), torch.no_grad():
            for tensor in filter(_is_plain, list(_tensors(self._pipe))):
                tensor.data = torch.empty(0, dtype=tensor.dtype)

    def _place(self) -> None:
        """Move the tensors into one buffer, letting go of where each was before the next one is copied."""
        offset = 0
        for tensor in filter(_is_plain, _tensors(self._pipe)):
            size = tensor.numel() * tensor.element_size()
            stride = tensor.stride() if _is_dense(tensor) else tensor.contiguous().stride()
            self._placed.append(_Placed(tensor, tensor.dtype, tensor.shape, stride, offset, size))
            offset += -(-size // _ALIGNMENT) * _ALIGNMENT
        self._host = torch.empty(offset, dtype=torch.uint8)
        if offset:
            self._memory.pin(self._host)
        with torch.inference_mode(mode=False), torch.no_grad():
            for each in self._placed:
                view = each.view(self._host)
                view.copy_(each.tensor.data)
                each.tensor.data = view

    def _others(self) -> list[torch.Tensor]:
        placed = {id(each.tensor) for each in self._placed}
        return [tensor for tensor in _tensors(self._pipe) if id(tensor) not in placed]


def _tensors(pipe: Any) -> Iterator[torch.Tensor]:
    """Yield every parameter and buffer of the pipeline's modules once."""
    seen: set[int] = set()
    for module in pipe.components.values():
        if not isinstance(module, torch.nn.Module):
            continue
        for tensor in itertools.chain(module.parameters(), module.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def _is_plain(tensor: torch.Tensor) -> bool:
    return type(tensor.data) is torch.Tensor and tensor.numel() > 0 and tensor.layout is torch.strided


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its strides leave no gap and overlap nothing, as channels-last ones do."""
    order = sorted(range(tensor.ndim), key=tensor.stride, reverse=True)
    return tensor.permute(order).is_contiguous()
