"""The supervisor with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from libs.devstack.process import ProcessFailed
from libs.devstack.supervisor import Supervisor
from tests.integration.libs.devstack import children
from tests.integration.libs.devstack.children import Console, is_running, pid_files, pid_of, python_child

SUPERVISE = """
import asyncio, sys
from pathlib import Path
from libs.devstack.supervisor import Supervisor
from tests.integration.libs.devstack.children import STUBBORN, python_child

async def main(folder):
    supervisor = Supervisor(folder, print)
    await supervisor.start([python_child(folder, "a", STUBBORN)])
    print("up", flush=True)
    await supervisor.watch()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def console() -> Console:
    return Console()


@pytest.fixture
async def supervisor(tmp_path: Path, console: Console) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(tmp_path, console.say)
    yield supervisor
    await supervisor.stop()


async def test_a_group_starts_when_the_one_before_it_is_ready(supervisor: Supervisor, tmp_path: Path) -> None:
    probes, open_gate = asyncio.Semaphore(0), asyncio.Event()

    async def gated() -> bool:
        probes.release()
        return open_gate.is_set()

    first = replace(python_child(tmp_path, "first", children.PATIENT), is_ready=gated)
    starting = asyncio.create_task(supervisor.start([first]))
    async with asyncio.timeout(20):
        for _ in range(3):
            await probes.acquire()
        assert not starting.done()
        assert pid_of(tmp_path, "first") > 0
        open_gate.set()
        await starting
        await supervisor.start([python_child(tmp_path, "second", children.PATIENT)])
    assert is_running(pid_of(tmp_path, "second"))


async def test_a_killed_process_is_started_again_and_that_is_said(
    supervisor: Supervisor, console: Console, tmp_path: Path
) -> None:
    await supervisor.start([python_child(tmp_path, "a", children.PATIENT)])
    before = pid_of(tmp_path, "a")
    os.kill(before, signal.SIGKILL)
    said = await console.until("a was ended by SIGKILL")
    assert "starting it again in" in said
    await console.until("a is ready again")
    assert pid_of(tmp_path, "a") != before
    assert is_running(pid_of(tmp_path, "a"))


async def test_stop_ends_everything_and_kills_what_ignores_it(
    supervisor: Supervisor, console: Console, tmp_path: Path
) -> None:
    await supervisor.start([python_child(tmp_path, "deaf", children.STUBBORN, grace_s=0.3)])
    await supervisor.start([python_child(tmp_path, "parent", children.PARENT)])
    grandchild = int((tmp_path / "parent.log").read_text())
    pids = [pid_of(tmp_path, "deaf"), pid_of(tmp_path, "parent"), grandchild]
    assert all(map(is_running, pids))
    await supervisor.stop()
    assert not any(map(is_running, pids))
    assert [line for line in console.lines if "killing it" in line] == ["deaf did not stop in 0.3 s; killing it"]
    assert not pid_files(tmp_path)


async def test_what_a_killed_process_had_started_is_gone_before_it_is_started_again(
    supervisor: Supervisor, console: Console, tmp_path: Path
) -> None:
    await supervisor.start([python_child(tmp_path, "parent", children.PARENT)])
    grandchild = int((tmp_path / "parent.log").read_text())
    os.kill(pid_of(tmp_path, "parent"), signal.SIGKILL)
    await console.until("parent is ready again")
    assert not is_running(grandchild)


async def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    supervising = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SUPERVISE, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
    )
    assert supervising.stdout is not None
    async with asyncio.timeout(20):
        while (await supervising.stdout.readline()).strip() != b"up":
            assert not supervising.stdout.at_eof()
    child = pid_of(tmp_path, "a")
    assert is_running(child)
    gone = asyncio.create_task(children.ended(child))
    supervising.kill()
    await gone
    await supervising.wait()


async def test_bad_settings_stop_the_start_with_the_end_of_the_log(
    supervisor: Supervisor, console: Console, tmp_path: Path
) -> None:
    log = tmp_path / "bad.log"
    log.write_text("from an earlier run\n")
    with pytest.raises(ProcessFailed, match="DARKROOM_SPEED is unknown") as failure:
        await supervisor.start([python_child(tmp_path, "bad", children.REFUSING)])
    assert "exited with status 2" in str(failure.value)
    assert "earlier run" not in str(failure.value)
    assert not any("again" in line for line in console.lines)


async def test_settings_that_turn_bad_stop_a_running_stack(supervisor: Supervisor, tmp_path: Path) -> None:
    turns_bad = f"import os, sys\nif os.path.exists(sys.argv[1]):\n    {children.REFUSING}\n{children.PATIENT}"
    await supervisor.start([python_child(tmp_path, "good", children.PATIENT)])
    await supervisor.start([python_child(tmp_path, "turncoat", turns_bad)])
    os.kill(pid_of(tmp_path, "turncoat"), signal.SIGKILL)
    async with asyncio.timeout(20):
        with pytest.raises(ProcessFailed, match="turncoat exited with status 2"):
            await supervisor.watch()
    good = pid_of(tmp_path, "good")
    await supervisor.stop()
    assert not is_running(good)


async def test_a_program_that_is_not_there_is_named(supervisor: Supervisor, tmp_path: Path) -> None:
    absent = replace(python_child(tmp_path, "absent", ""), argv=("no-such-program",), hopeless=frozenset({127}))
    with pytest.raises(ProcessFailed, match="cannot run no-such-program"):
        await supervisor.start([absent])
