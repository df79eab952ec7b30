"""A second stack made of a backup of one that runs, as if that had lost its disk."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from libs.testing import waiting
from libs.testing.stack import RunningStack
from tests.e2e.conftest import StartStack, http_client

PROMPT = "a red circle left of a blue square"
WITHIN_S = 90.0


async def darkroom(data: Path, *arguments: str) -> str:
    """Run a command on a data folder; return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("darkroom")), *("--data", str(data), *arguments),
        env=inherited, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(WITHIN_S):
        told, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    return told.decode()


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_jobs_pictures_and_keys_come_back(stack: RunningStack, start_stack: StartStack, tmp_path: Path) -> None:
    lost = stack
    key = (await darkroom(lost.folder.root, "keys", "create", "acme", "--tier", "pro")).strip()
    async with http_client(lost) as client:
        client.headers["authorization"] = f"Bearer {key}"
        asked = {"prompt": PROMPT, "seed": 5, "steps": 4}
        done = (await client.post("/v1/jobs", json=asked, headers={"prefer": "wait=30"})).json()
        picture = (await client.get(f"/v1/jobs/{done['id']}/images/0")).content
        assert picture.startswith(b"\x89PNG")
        begun = (await client.post("/v1/jobs", json={**asked, "seed": 6, "steps": 40})).json()["id"]
        await darkroom(lost.folder.root, "backup", str(tmp_path / "backup"))

    # `start_stack` takes this folder for its first.
    await darkroom(tmp_path / "stack-0", "restore", str(tmp_path / "backup"))
    again = await asyncio.to_thread(start_stack)
    assert (again.folder.root, again.key) == (tmp_path / "stack-0", lost.key)
    await assert_all_is_there(again, key, done, picture)
    await assert_drawn(again, key, begun)


async def assert_all_is_there(stack: RunningStack, key: str, done: dict[str, object], picture: bytes) -> None:
    async with http_client(stack) as client:
        client.headers["authorization"] = f"Bearer {key}"
        found = (await client.get(f"/v1/jobs/{done['id']}")).json()
        assert (found["state"], found["images"][0]["sha256"]) == ("SUCCEEDED", done["images"][0]["sha256"])  # type: ignore[index]
        assert (await client.get(f"/v1/jobs/{done['id']}/images/0")).content == picture
        link = urlsplit(done["images"][0]["url"])  # type: ignore[index]
        client.headers.pop("authorization")
        signed = await client.get(f"{link.path}?{link.query}")
        assert (signed.status_code, signed.content) == (200, picture)


async def assert_drawn(stack: RunningStack, key: str, job_id: str) -> None:
    """What was not done when the backup was made is drawn by whoever has it now."""
    async with http_client(stack) as client:
        client.headers["authorization"] = f"Bearer {key}"

        async def is_done() -> bool:
            return bool((await client.get(f"/v1/jobs/{job_id}")).json()["state"] == "SUCCEEDED")

        await waiting.until(is_done, WITHIN_S)
