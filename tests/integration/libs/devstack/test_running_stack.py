"""A whole stack with real etcd and Envoy around services that only say that they serve."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.testing.stack import RunningStack, StackBroken
from tests.integration.libs.devstack.children import ended, is_running

SERVICE = """
import asyncio
from tests.integration.libs.devstack.stand_in import serve
asyncio.run(serve())
"""
RENDERER = """
import sys
from tests.integration.libs.devstack.stand_in import print_envoy_config
print_envoy_config(sys.argv[1:])
"""
REFUSING = """
import sys
print("DARKROOM_SPEED is unknown")
sys.exit(2)
"""


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """Return a folder of stand-ins that can be run as `python -m services.NAME`."""
    services = tmp_path / "code" / "services"
    programs = dict.fromkeys(("ratelimiter", "scheduler", "modelserver", "gateway"), SERVICE)
    for name, program in {**programs, "gateway/envoy": RENDERER}.items():
        (services / name).mkdir(parents=True)
        (services / name / "__init__.py").touch()
        (services / name / "__main__.py").write_text(program)
    (services / "__init__.py").touch()
    return services


@pytest.fixture
def stand_ins(tmp_path: Path, services: Path) -> Iterator[RunningStack]:
    """Return a stack, not started, of the stand-ins."""
    # The working directory must not come first on the path: the real services lie there.
    stack = RunningStack(tmp_path / "data", {"PYTHONPATH": str(services.parent), "PYTHONSAFEPATH": "1"})
    yield stack
    stack.stop()


async def test_a_stack_comes_up_heals_and_leaves_nothing_behind(stand_ins: RunningStack) -> None:
    stand_ins.folder.root.mkdir()
    stand_ins.folder.first_key.write_text("dk_of_another_database\n")
    stand_ins.start()
    assert stand_ins.names() == ["envoy", "etcd", "gateway", "modelserver-0", "ratelimiter", "scheduler"]
    assert stand_ins.key == "dk_standin_1"
    assert stand_ins.folder.first_key.stat().st_mode & 0o777 == 0o600
    addresses = stand_ins.addresses
    stand_ins.kill("scheduler")
    await stand_ins.wait_ready("scheduler")
    assert stand_ins.addresses == addresses
    pids = [stand_ins.pid(name) for name in stand_ins.names()]
    assert stand_ins.stop() == 0
    assert not any(map(is_running, pids))
    assert not stand_ins.names()
    assert not stand_ins.folder.addresses.exists()


async def test_a_stack_that_is_killed_takes_its_processes_along_and_starts_again(stand_ins: RunningStack) -> None:
    stand_ins.start()
    key, pids = stand_ins.key, [stand_ins.pid(name) for name in stand_ins.names()]
    os.kill(stand_ins.supervisor_pid, signal.SIGKILL)
    for pid in pids:
        await ended(pid)
    stand_ins.stop()
    stand_ins.start()
    assert stand_ins.key == key, "a key that the ratelimiter knows is kept"


def test_bad_settings_of_a_service_stop_the_stack_with_its_words(stand_ins: RunningStack, services: Path) -> None:
    (services / "scheduler" / "__main__.py").write_text(REFUSING)
    with pytest.raises(StackBroken, match="scheduler exited with status 2") as broken:
        stand_ins.start()
    assert "DARKROOM_SPEED is unknown" in str(broken.value)
    assert "everything is stopped" in stand_ins.console()
    assert not stand_ins.names()


def test_ctrl_c_while_it_starts_leaves_nothing_behind(stand_ins: RunningStack, services: Path) -> None:
    (services / "scheduler" / "__main__.py").write_text("import signal\nsignal.pause()\n")
    stand_ins.launch()
    stand_ins.wait_said("etcd is ready")
    etcd = stand_ins.pid("etcd")
    assert stand_ins.stop(signal.SIGINT) == 0
    assert not is_running(etcd)
    assert not stand_ins.names()


def test_a_second_ctrl_c_does_not_wait(stand_ins: RunningStack, services: Path) -> None:
    (services / "scheduler" / "__main__.py").write_text(SERVICE.replace("serve()", "serve(deaf=True)"))
    stand_ins.start()
    scheduler = stand_ins.pid("scheduler")
    os.kill(stand_ins.supervisor_pid, signal.SIGINT)
    stand_ins.wait_said(" stopping")
    assert stand_ins.stop(signal.SIGINT) == 0
    assert "did not stop" not in stand_ins.console()
    assert not is_running(scheduler)
