"""README's commands work as printed; only the address is the stack's own when port 8080 is taken."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from libs.testing.stack import RunningStack

ROOT = Path(__file__).parents[2]
NOT_HERE = ("make run",)  # the fixture's stack stands for it


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    return [block for block in found if block.strip() not in NOT_HERE]


async def run(stack: RunningStack, folder: Path, *command: str) -> str:
    for name, target in ((".venv", ROOT / ".venv"), (".darkroom", stack.folder.root)):
        (folder / name).symlink_to(target)
    child = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(child.communicate(), 100)
    assert child.returncode == 0, out.decode()
    return out.decode()


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
async def test_shell_blocks(stack: RunningStack, tmp_path: Path, number: int) -> None:
    script = blocks("sh")[number].replace("localhost:8080", stack.addresses["http"])
    out = await run(stack, tmp_path, "bash", "-euo", "pipefail", "-c", script)
    if "curl -i" in script:
        assert "202 Accepted" in out
    if "picture.png" in script:
        assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
        assert "event: completed" in out
    if "/v1/limits" in script:
        assert '"enterprise"' in out
        assert '"usage"' in out


@pytest.mark.parametrize("number", range(len(blocks("python"))))
async def test_python_blocks(stack: RunningStack, tmp_path: Path, number: int) -> None:
    program = blocks("python")[number].replace("localhost:8080", stack.addresses["http"])
    (tmp_path / "program.py").write_text(program)
    out = await run(stack, tmp_path, str(ROOT / ".venv/bin/python"), "program.py")
    assert out.split()[-1] == "completed"
