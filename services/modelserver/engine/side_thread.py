"""A thread beside the denoiser's, with a bounded queue: for encoding prompts, and for decoding pictures.

Bounded, because more overlap than the device can take makes the denoiser stumble. On a GPU each has a stream of its
own: it begins after what the loop has asked of the device so far, and is waited for before its answer is used. A CPU
is taken whole by the denoiser; there the work is done at once, in between two forwards.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from services.modelserver.engine.device import Device


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came of a piece of work: a value, or the exception. `seconds` is how long it took."""

    then: Callable[[Answer], None]
    value: Any
    error: Exception | None
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    do: Callable[[], Any]
    then: Callable[[Answer], None]
    asked: torch.cuda.Event | None


class SideThread:
    """Takes work from the loop, one piece at a time. All but `_serve` belongs to the device thread."""

    def __init__(self, name: str, device: Device, wake: Callable[[], None], *, depth: int = 2) -> None:
        self._device = device
        self._wake = wake
        self._depth = depth
        self._beside = device.overlaps
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._answers: deque[Answer] = deque()
        self._under_way = 0
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        if self._beside:
            self._thread.start()

    @property
    def full(self) -> bool:
        """Whether it takes nothing more until an answer was fetched."""
        return self._under_way >= self._depth

    def put(self, do: Callable[[], Any], then: Callable[[Answer], None]) -> None:
        """Give it work; `then` is called with the answer by whoever goes through `answers`."""
        self._under_way += 1
        if not self._beside:
            self._answers.append(self._answer(_Work(do, then, None), None))
            return
        asked = None
        if self._device.is_cuda:
            asked = torch.cuda.Event()  # type: ignore[no-untyped-call]
            asked.record()
        self._work.put(_Work(do, then, asked))

    def answers(self) -> Iterator[Answer]:
        """Yield the answers that are there."""
        while self._answers:
            self._under_way -= 1
            yield self._answers.popleft()

    def close(self) -> None:
        """End the thread after what it has."""
        if self._beside:
            self._work.put(None)
            self._thread.join()

    def _serve(self) -> None:
        stream = _stream(self._device)
        while (work := self._work.get()) is not None:
            self._answers.append(self._answer(work, stream))
            self._wake()

    def _answer(self, work: _Work, stream: torch.cuda.Stream | None) -> Answer:
        began_s = self._device.now()
        try:
            with self._device.busy.working(), torch.inference_mode(), torch.cuda.stream(stream):
                if stream is not None and work.asked is not None:
                    stream.wait_event(work.asked)
                value = work.do()
                if stream is not None:
                    stream.synchronize()
        except Exception as error:  # noqa: BLE001 – it belongs to the request that asked, not to this thread
            return Answer(work.then, None, error, self._device.now() - began_s)
        return Answer(work.then, value, None, self._device.now() - began_s)


def _stream(device: Device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device.torch) if device.is_cuda else None  # type: ignore[no-untyped-call]
