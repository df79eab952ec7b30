"""How often and how soon a process is started again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from libs.devstack import process as processes
from libs.devstack.child import Child, restart_delay_s
from libs.devstack.process import Process, ProcessFailed, how_it_ended, log_tail, rotate_log


class Hurried:
    """A clock whose sleeps take no time, and that remembers them."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> float:
        return 0.0

    def monotonic(self) -> float:
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


def test_delays_double_up_to_the_longest() -> None:
    delays = [restart_delay_s(failures, chance=1.0) for failures in range(1, 9)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert restart_delay_s(10_000, chance=0.0) == 5.0


def test_jitter_spreads_over_the_upper_half() -> None:
    assert restart_delay_s(3, chance=0.0) == pytest.approx(0.4)
    assert restart_delay_s(3, chance=0.5) == pytest.approx(0.6)


async def test_what_never_becomes_ready_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    class Ended:
        pid, returncode = 2**22 + 1, 3

        async def wait(self) -> int:
            return 3

    async def spawn(process: Process) -> Ended:
        started.append(process.name)
        return Ended()

    async def never() -> bool:
        return False

    monkeypatch.setattr(processes, "spawn", spawn)
    process = Process("a", (sys.executable,), {}, never, tmp_path / "a.log")
    said: list[str] = []
    clock = Hurried()
    with pytest.raises(ProcessFailed, match=r"a never became ready in 5 start.*exited with status 3"):
        await Child(process, tmp_path, said.append, clock, chance=lambda: 1.0).keep()
    assert len(started) == 5
    assert [delay for delay in clock.slept if delay != 0.1] == [0.2, 0.4, 0.8, 1.6]
    assert said[0] == "a exited with status 3 after 0.0 s; starting it again in 0.2 s"


def test_an_end_is_told_in_words() -> None:
    assert how_it_ended(3) == "exited with status 3"
    assert how_it_ended(-9) == "was ended by SIGKILL"
    assert how_it_ended(-250) == "was ended by signal 250"


def test_the_tail_of_a_log_begins_with_this_start(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("old\n")
    start = rotate_log(log)
    assert "wrote nothing" in log_tail(log, start)
    with log.open("a") as file:
        file.write("".join(f"line {number}\n" for number in range(100)))
    assert log_tail(log, start, lines=2) == "    line 98\n    line 99"
    assert "old" not in log_tail(log, start, lines=1000)


def test_a_log_that_grew_too_large_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_LOG_LIMIT_BYTES", 3)
    log = tmp_path / "a.log"
    log.write_text("four")
    assert rotate_log(log) == 0
    assert not log.exists()
    assert (tmp_path / "a.log.1").read_text() == "four"
