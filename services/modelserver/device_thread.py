"""The one thread that owns the device. Its loop reads aloud:

    do what is in the inbox (admit, cancel, park, resume, warm, evict) → one tick → wait when there is nothing to do

It knows nothing of gRPC or the blob store. What the engine says goes to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from services.modelserver.engine.protocol import Engine, Load, Tier
from services.modelserver.pulse import Pulse

logger = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[Engine], object]

_END = object()


def _only_wake(_engine: Engine) -> None:
    return None


class DeviceThread:
    """Runs an engine. `on_change` is called on the event loop when load or residency have changed, `on_broken` when
    the engine failed as a whole; there are no more ticks then.
    """

    def __init__(
        self, engine: Engine, pulse: Pulse, on_change: Callable[[], None], on_broken: Callable[[str], None]
    ) -> None:
        self._engine, self._pulse = engine, pulse
        self._on_change, self._on_broken = on_change, on_broken
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Command | object] = queue.SimpleQueue()
        self._ending = False
        self.thread = threading.Thread(target=self._serve, name="device", daemon=True)
        self.load = Load(0, 0, 0, 0, 1)
        self.residency: Mapping[str, Tier] = {}

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def tell(self, command: Command) -> None:
        """Have something done before the next tick; callable from every thread."""
        self._inbox.put(command)

    def coming(self, pinned: str) -> None:
        """Note that a model is on its way whose compiling is no silence."""
        self._pulse.coming(pinned)

    async def ask(self, question: Callable[[Engine], T]) -> T:
        """Have something done before the next tick and return its answer. Bound it: a tick may take long."""
        answer: asyncio.Future[T] = self._loop.create_future()

        def command(engine: Engine) -> None:
            try:
                self.on_loop(_settle, answer, question(engine), None)
            except Exception as error:  # noqa: BLE001 – it is the asker's
                self.on_loop(_settle, answer, None, error)

        self._inbox.put(command)
        return await answer

    async def end(self, within_s: float) -> bool:
        """End the thread after what it does now; False when it did not end in time."""
        self._inbox.put(_END)
        if self.thread.ident is not None:
            await asyncio.to_thread(self.thread.join, within_s)
        return not self.thread.is_alive()

    def on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """Have something called on the event loop; callable from every thread."""
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has ended: nobody is left to be told
            logger.warning("said after the end", extra={"what": getattr(call, "__name__", "")})

    def _serve(self) -> None:
        try:
            self._engine.on_wake(lambda: self.tell(_only_wake))
            self._follow()
            more = True
            while not self._ending:
                self._empty_inbox(wait=not more)
                if not self._ending:
                    more = self._tick()
        except Exception as error:  # owns the thread: whatever comes out of a tick, the engine is not to be trusted
            logger.exception("the engine failed as a whole")
            self.on_loop(self._on_broken, f"the engine failed: {type(error).__name__}")
        finally:
            self._engine.close()

    def _empty_inbox(self, *, wait: bool) -> None:
        """Do everything that is there; with `wait` at least one thing."""
        while wait or not self._inbox.empty():
            wait = False
            command = self._inbox.get()
            if command is _END:
                self._ending = True
                return
            self._do(command)

    def _do(self, command: object) -> None:
        assert callable(command)
        self._pulse.calling(True)
        try:
            command(self._engine)
        except Exception:  # owns the thread: one bad command must not end what draws
            logger.exception("a command failed")
        finally:
            self._pulse.calling(False)

    def _tick(self) -> bool:
        self._pulse.calling(True)
        more = self._engine.tick()
        self._pulse.calling(False)
        self._follow()
        return more

    def _follow(self) -> None:
        load, residency = self._engine.load(), dict(self._engine.residency())
        before = (self.load.most_requests, self.load.models, self.residency)
        changed = (load.most_requests, load.models, residency) != before
        self.load, self.residency = load, residency
        if changed:
            self.on_loop(self._on_change)


def _settle(future: asyncio.Future[T], answer: T, error: Exception | None) -> None:
    if future.done():
        return  # the asker went away
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(answer)
