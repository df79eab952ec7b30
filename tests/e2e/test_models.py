"""Model folders that cannot be trusted are listed with the reason; the others serve."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import StartStack, http_client

SHIPPED = Path(__file__).parents[2] / "services" / "modelserver" / "default_model" / "shapes"


def folder(models: Path, name: str) -> Path:
    """Copy the shipped model under another name."""
    return Path(shutil.copytree(SHIPPED, models / name))


@pytest.mark.timeout(180)
async def test_unusable_folders_are_listed_and_the_others_serve(start_stack: StartStack, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder(models, "good")
    pickled = folder(models, "pickled")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").rename(pickled / "unet" / "diffusion_pytorch_model.bin")
    (folder(models, "missing") / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    index = folder(models, "custom") / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": ["pipeline", "MyPipeline"]}))

    stack = await asyncio.to_thread(start_stack, DARKROOM_MODELS=str(models))
    async with http_client(stack) as client:
        listed = {model["id"]: model for model in (await client.get("/v1/models")).json()["data"]}
        assert {name for name, model in listed.items() if model["usable"]} == {"good"}
        assert "diffusion_pytorch_model.bin" in listed["pickled"]["unusable_reason"]
        assert "vae" in listed["missing"]["unusable_reason"]
        assert "custom" in listed["custom"]["unusable_reason"].lower()
        body = {"prompt": "a red circle", "steps": 2}
        refused = await client.post("/v1/jobs", json={**body, "model": "pickled"})
        assert refused.status_code == 400
        assert refused.json()["details"][0]["reason"] == "MODEL_UNUSABLE"
        wait = {"prefer": "wait=60"}
        served = await client.post("/v1/jobs", json={**body, "model": "good"}, headers=wait, timeout=90)
        assert served.json()["state"] == "SUCCEEDED"
