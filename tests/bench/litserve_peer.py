"""The default model behind LitServe with its batching, as its documentation would have it; for `throughput`.

    python -m tests.bench.litserve_peer PORT THREADS

Requests of one batch whose steps and guidance are equal share a call of the pipeline; the others need calls of their
own, because a pipeline takes one number of steps and one guidance scale.
"""

from __future__ import annotations

import logging
import sys
from collections import defaultdict
from typing import Any

import litserve
import torch
from diffusers import DiffusionPipeline

from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.settings import SHIPPED_MODELS

MOST, WAIT_S = 8, 0.05


class Pictures(litserve.LitAPI):
    """Draws; answers with the mean of each picture, so that nobody's encoder is measured."""

    def __init__(self, threads: int) -> None:
        super().__init__(max_batch_size=MOST, batch_timeout=WAIT_S)
        self._threads = threads

    def setup(self, device: str) -> None:
        """Load the model, in the process that draws."""
        quiet_libraries()
        torch.set_num_threads(self._threads)
        folder = next(path.parent for path in SHIPPED_MODELS.glob("*/model_index.json"))
        self._pipe = DiffusionPipeline.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32)
        self._pipe.set_progress_bar_config(disable=True)

    def decode_request(self, request):  # no annotation: it would be read as the schema of the body
        """Take a request as it is."""
        return request

    def predict(self, batch: list[dict[str, Any]]) -> list[float]:
        """Draw a batch."""
        groups = defaultdict(list)
        for index, request in enumerate(batch):
            groups[request["steps"], request["guidance"]].append(index)
        means = [0.0] * len(batch)
        for (steps, guidance), members in groups.items():
            drawn = self._pipe(
                [batch[index]["prompt"] for index in members],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(batch[index]["seed"]) for index in members],
                output_type="np",
            ).images
            for index, image in zip(members, drawn, strict=True):
                means[index] = float(image.mean())
        return means

    def encode_response(self, mean):
        """Answer."""
        return {"mean": mean}


if __name__ == "__main__":
    logging.disable()
    server = litserve.LitServer(Pictures(int(sys.argv[2])), accelerator="cpu", timeout=120)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
