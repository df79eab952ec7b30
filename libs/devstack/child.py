"""One process kept running: spawn, wait until it is ready, wait until it ends, again.

    starting ──ready──▶ ready ──ended──▶ waiting ──backoff──▶ starting
        └── ended or not ready in time ──▶ waiting, or ProcessFailed when there is no hope

No hope: an exit status that says so (bad settings), or no readiness once in the first tries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Callable
from pathlib import Path

from libs.clock import Clock, SystemClock
from libs.devstack import process as processes
from libs.devstack.process import Process, ProcessFailed

FIRST_DELAY_S, LONGEST_DELAY_S = 0.2, 10.0
RESET_AFTER_S = 10.0
FIRST_TRIES = 5
_PROBE_EVERY_S = 0.1

_logger = logging.getLogger(__name__)


def restart_delay_s(failures: int, chance: float) -> float:
    """Return how long to wait after `failures` (from 1) in a row; `chance` in 0…1 spreads it over its upper half."""
    longest = min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 30), LONGEST_DELAY_S)
    return longest * (0.5 + chance / 2)


class Child:
    """Keeps one process running; `keep` is its loop, `ready` says whether it serves now."""

    def __init__(
        self,
        process: Process,
        run_folder: Path,
        say: Callable[[str], None],
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self._pid_path = run_folder / f"{process.name}.pid"
        self._say, self._clock, self._chance = say, clock or SystemClock(), chance
        self._running: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self._log_start = 0

    async def keep(self) -> None:
        """Run it for ever; raises ProcessFailed when restarting will not help."""
        failures = 0
        while True:
            began_s = self._clock.monotonic()
            status = await self._run_once()
            up_s = self._clock.monotonic() - began_s
            failures = 1 if up_s >= RESET_AFTER_S and self._was_ready else failures + 1
            self._give_up_if_hopeless(status, failures, up_s)
            delay_s = restart_delay_s(failures, self._chance())
            self._say(
                f"{self.process.name} {processes.how_it_ended(status)} after {up_s:.1f} s; "
                f"starting it again in {delay_s:.1f} s"
            )
            await self._clock.sleep(delay_s)

    async def stop(self) -> None:
        """Ask it to end, make it end after its grace. `keep` must not be running any more."""
        running = self._running
        if running is None:
            return
        if running.returncode is None:
            processes.signal_group(running.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(self.process.stop_grace_s):
                    await running.wait()
            except TimeoutError:
                self._say(f"{self.process.name} did not stop in {self.process.stop_grace_s:.1f} s; killing it")
        self.kill()
        await running.wait()
        self._forget()

    def kill(self) -> None:
        """End it and all it started, at once."""
        if self._running is not None:
            processes.signal_group(self._running.pid, signal.SIGKILL)

    def tail(self) -> str:
        """Return the last lines of its log since it was started last."""
        return processes.log_tail(self.process.log_path, self._log_start)

    async def _run_once(self) -> int:
        """Return the exit status, negative for a signal."""
        self._log_start = processes.rotate_log(self.process.log_path)
        running = self._running = await processes.spawn(self.process)
        self._write_pid(running.pid)
        watching = asyncio.create_task(self._watch_readiness())
        try:
            status = await running.wait()
        finally:
            self.ready.clear()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        self.kill()  # what it may have started and left behind
        self._forget()
        return status

    async def _watch_readiness(self) -> None:
        try:
            async with asyncio.timeout(self.process.start_timeout_s):
                while not await self._probe():
                    await self._clock.sleep(_PROBE_EVERY_S)
        except TimeoutError:
            self._say(f"{self.process.name} is not ready after {self.process.start_timeout_s:.0f} s; killing it")
            self.kill()
            return
        self._say(f"{self.process.name} is {'ready again' if self._was_ready else 'ready'}")
        self._was_ready = True
        self.ready.set()

    async def _probe(self) -> bool:
        try:
            return await self.process.is_ready()
        except Exception:  # a probe that breaks must not end the watch: the process is just not ready
            _logger.exception("readiness probe failed", extra={"process": self.process.name})
            return False

    def _give_up_if_hopeless(self, status: int, failures: int, up_s: float) -> None:
        reason = processes.how_it_ended(status)
        never_ready = failures >= FIRST_TRIES or up_s >= self.process.start_timeout_s
        if status not in self.process.hopeless:
            if self._was_ready or not never_ready:
                return
            reason = f"never became ready in {failures} start(s); it {reason}"
        raise ProcessFailed(f"{self.process.name} {reason}. The end of {self.process.log_path}:\n{self.tail()}")

    def _write_pid(self, pid: int) -> None:
        """Replace the pid file at once, so that no reader sees half a number."""
        new = self._pid_path.with_suffix(".pid.new")
        new.write_text(f"{pid}\n")
        new.replace(self._pid_path)

    def _forget(self) -> None:
        """Drop the pid file, so that nobody signals a number that is another process by then."""
        self._running = None
        self._pid_path.unlink(missing_ok=True)
