"""Clips come out of the whole mesh: a video model that nobody loaded beforehand, from words and from a picture."""

from __future__ import annotations

import io
from pathlib import Path

import av
import httpx
from PIL import Image

from libs.testing.stack import RunningStack
from services.modelserver.settings import SHIPPED_MODELS
from tests.contract.engine.families import save_family
from tests.e2e.conftest import StartStack, http_client


async def drawn(client: httpx.AsyncClient, **fields: object) -> tuple[str, bytes]:
    """Return the media type and the bytes of a clip, fetched through its link."""
    answer = await client.post("/v1/jobs", json=fields, headers={"prefer": "wait=60"}, timeout=70)
    assert (answer.status_code, answer.json()["state"]) == (200, "SUCCEEDED"), answer.text
    (image,) = answer.json()["images"]
    assert (image["width"], image["height"]) == (32, 32)
    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as nobody:
        linked = await nobody.get(image["url"])
    assert linked.headers["content-type"] == image["content_type"]
    return image["content_type"], linked.content


async def test_clips_from_words_and_from_a_picture(start_stack: StartStack, tmp_path: Path) -> None:
    for family in ("animatediff", "svd"):
        save_family(family, tmp_path / "models" / family)
    stack: RunningStack = start_stack(DARKROOM_MODELS=f"{SHIPPED_MODELS}:{tmp_path / 'models'}")
    async with http_client(stack) as client:
        kind, data = await drawn(client, model="animatediff", prompt="a cat", seed=1, fps=5)
        with av.open(io.BytesIO(data)) as container:
            stream = container.streams.video[0]
            frames = list(container.decode(stream))
            assert (kind, stream.average_rate, stream.codec_context.name) == ("video/mp4", 5, "h264")
        assert (len(frames), frames[0].width, frames[0].height) == (4, 32, 32)

        kept = io.BytesIO()
        Image.new("RGB", (64, 48), "teal").save(kept, "JPEG")
        upload = (await client.post("/v1/uploads", content=kept.getvalue())).json()["id"]
        kind, data = await drawn(client, model="svd", input_image=upload, seed=1, output_format="webp")
        with Image.open(io.BytesIO(data)) as moving:
            assert (kind, moving.n_frames, moving.size) == ("image/webp", 3, (32, 32))
