"""A picture goes in, another comes out: drawn over, drawn under a mask, and nobody else's."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from libs.testing.stack import RunningStack
from services.modelserver.default_model.training.judge import held_out_prompts
from tests.e2e.test_first_picture import run_cli

PROMPT = held_out_prompts(seed=3, singles=0, relations=1)[0].prompt
SHIFT = 24  # pixels downwards: the model by itself puts everything into the middle


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def png(picture: Any) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(picture.astype(np.uint8)).save(kept, "PNG")
    return kept.getvalue()


def apart(one: Any, other: Any) -> float:
    """Mean difference, in levels of 255."""
    return float(np.abs(one - other).mean())


async def drawn(client: httpx.AsyncClient, **fields: Any) -> Any:
    asked = {"prompt": PROMPT, "seed": 7, "cache": "bypass", **fields}
    answer = await client.post("/v1/jobs", json=asked, headers={"prefer": "wait=60"}, timeout=70)
    assert (answer.status_code, answer.json()["state"]) == (200, "SUCCEEDED"), answer.text
    return pixels((await client.get(f"/v1/jobs/{answer.json()['id']}/images/0")).content)


async def uploaded(client: httpx.AsyncClient, picture: Any) -> str:
    answer = await client.post("/v1/uploads", content=png(picture))
    assert (answer.status_code, answer.json()["width"]) == (201, picture.shape[1])
    return str(answer.json()["id"])


async def test_the_default_model_says_that_it_takes_pictures(client: httpx.AsyncClient) -> None:
    model = (await client.get("/v1/models/default")).json()
    assert (model["tasks"], model["output"], model["defaults"]["strength"]) == (
        ["text", "image", "inpaint"],
        "image",
        0.8,
    )


async def test_an_upload_is_its_tenants_alone(client: httpx.AsyncClient, stack: RunningStack) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url, trust_env=False) as nobody:
        theirs = await uploaded(nobody, np.zeros((64, 96, 3)))
        refused = await client.post("/v1/jobs", json={"prompt": PROMPT, "input_image": theirs})
        assert (refused.status_code, refused.json()["details"][0]["reason"]) == (404, "UPLOAD_NOT_FOUND")
        checked = {"prompt": PROMPT, "input_image": theirs, "validate_only": True}
        assert (await nobody.post("/v1/jobs", json=checked)).status_code == 200


async def test_a_weak_drawing_stays_with_the_picture_and_a_strong_one_leaves_it(client: httpx.AsyncClient) -> None:
    alone = await drawn(client)
    moved = np.roll(alone, SHIFT, axis=0)
    upload = await uploaded(client, moved)
    weak = await drawn(client, input_image=upload, strength=0.2)
    strong = await drawn(client, input_image=upload, strength=0.8)
    assert apart(weak, moved) < 0.5 * apart(weak, alone)
    assert apart(strong, alone) < 0.5 * apart(strong, moved)


async def test_only_what_is_white_in_the_mask_is_drawn_anew(client: httpx.AsyncClient) -> None:
    moved = np.roll(await drawn(client), SHIFT, axis=0)
    mask = np.zeros(moved.shape[:2])
    mask[:, 64:] = 255
    fields = {"input_image": await uploaded(client, moved), "mask_image": await uploaded(client, mask)}
    new = await drawn(client, **fields)
    assert apart(new[:, :56], moved[:, :56]) < 4 < 8 < apart(new[:, 72:], moved[:, 72:])


async def test_the_command_line_sends_the_picture_first(
    client: httpx.AsyncClient, stack: RunningStack, tmp_path: Path
) -> None:
    moved = np.roll(await drawn(client), SHIFT, axis=0)
    (tmp_path / "in.png").write_bytes(png(moved))
    given = ("--image", str(tmp_path / "in.png"), "--strength", "0.2", "-o", str(tmp_path / "out.png"), "--seed", "7")
    job = json.loads(await run_cli(stack, "generate", PROMPT, *given, "--json"))
    assert job["spec"]["input_image"].startswith("upl_")
    assert apart(pixels((tmp_path / "out.png").read_bytes()), moved) < 12
