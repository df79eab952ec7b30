"""Signs of life of the device thread, and whether there is enough of them. Nothing here waits or reads a clock.

Written by the device thread, read by the watchdog on the event loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from services.modelserver.engine.protocol import Request

FLOOR_S = 60.0  # silence that is never held against a device
TIMES_EXPECTED = 5.0
FIRST_TIME_S = 900.0  # for what has a bound of its own: files are read, kernels compiled, nothing was measured yet

# Model, width, height, frames, images, whether it is guided: what decides how long a pass takes.
Kind = tuple[str, int, int, int, int, bool]


@dataclass(frozen=True, slots=True)
class Signs:
    """How it is now. Times monotonic; `expected_s` is the longest silence that what is under way had lately."""

    busy: bool  # something must come: a call into the engine, or a request that is neither parked nor over
    heard_s: float
    expected_s: float
    first_time: bool  # a model is loaded or compiled, or something is drawn that never was

    @property
    def limit_s(self) -> float:
        """Return the longest silence that is allowed."""
        return FIRST_TIME_S if self.first_time else max(FLOOR_S, TIMES_EXPECTED * self.expected_s)

    def silent_too_long(self, now_s: float) -> bool:
        """Return whether nothing will come any more."""
        return self.busy and now_s - self.heard_s > self.limit_s


@dataclass(slots=True)
class _UnderWay:
    kind: Kind
    compiled: bool  # its model is: rows that are new are compiled before its first step
    stepped: bool = False
    parked: bool = False
    longest_s: float = 0.0


@dataclass(slots=True)
class Pulse:
    """Counts what is under way. `in_memory` tells whether a model is ready on the device."""

    monotonic: Callable[[], float]
    in_memory: Callable[[str], bool]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _heard_s: float = 0.0
    _calling: bool = False
    _under_way: dict[str, _UnderWay] = field(default_factory=dict)
    _coming: dict[str, float] = field(default_factory=dict)  # models that are compiled once they are here; until when
    _usual_s: dict[Kind, float] = field(default_factory=dict)  # longest silence of the latest drawing that ended well

    def calling(self, calling: bool) -> None:
        """Note that the engine is called, or has returned."""
        with self._lock:
            self._beat()
            self._calling = calling
            if not calling:  # a model that came was compiled within the same call
                self._coming = {pinned: until_s for pinned, until_s in self._coming.items() if self._awaits(pinned)}

    def coming(self, pinned: str) -> None:
        """Note that a model is on its way that is compiled when it is here."""
        with self._lock:
            self._coming[pinned] = self.monotonic() + FIRST_TIME_S

    def began(self, request: Request) -> None:
        """Note that a request is with the engine."""
        with self._lock:
            self._beat()
            compiled, pinned = request.folder.options.compile, request.folder.model.pinned
            self._under_way[request.id] = _UnderWay(_kind(request), compiled)
            if compiled and not self.in_memory(pinned):  # it comes, and is compiled, also when the request is cancelled
                self._coming[pinned] = self.monotonic() + FIRST_TIME_S

    def stepped(self, request_id: str) -> None:
        """Note a step of a request."""
        with self._lock:
            self._beat()
            if request_id in self._under_way:
                self._under_way[request_id].stepped = True

    def said(self) -> None:
        """Note any other word of the engine."""
        with self._lock:
            self._beat()

    def parked(self, request_id: str, parked: bool) -> None:
        """Note that nothing is to be expected of a request, or again something."""
        with self._lock:
            self._beat()
            if request_id in self._under_way:
                self._under_way[request_id].parked = parked
                self._under_way[request_id].stepped = False  # its model may have left meanwhile

    def ended(self, request_id: str, *, well: bool) -> None:
        """Note that a request is over."""
        with self._lock:
            self._beat()
            gone = self._under_way.pop(request_id, None)
            if gone is not None and well:
                self._usual_s[gone.kind] = gone.longest_s

    def signs(self) -> Signs:
        """Return how it is now."""
        with self._lock:
            active = [one for one in self._under_way.values() if not one.parked]
            usual = [max(one.longest_s, self._usual_s.get(one.kind, 0.0)) for one in active]
            return Signs(
                busy=self._calling or bool(active),
                heard_s=self._heard_s,
                expected_s=max(usual, default=0.0),
                first_time=bool(self._coming) or any(self._is_first_time(one) for one in active),
            )

    def _is_first_time(self, one: _UnderWay) -> bool:
        if one.kind not in self._usual_s:
            return True
        return not one.stepped and (one.compiled or not self.in_memory(one.kind[0]))

    def _awaits(self, pinned: str) -> bool:
        return not self.in_memory(pinned) and self.monotonic() < self._coming[pinned]

    def _beat(self) -> None:
        now_s = self.monotonic()
        for one in self._under_way.values():
            if not one.parked:
                one.longest_s = max(one.longest_s, now_s - self._heard_s)
        self._heard_s = now_s


def _kind(request: Request) -> Kind:
    spec = request.spec
    return request.folder.model.pinned, spec.width, spec.height, spec.frames or 0, spec.images, spec.guided
