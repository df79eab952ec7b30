"""Part `table`: seconds and memory of a pass by its rows, and how many of them pay."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from services.modelserver.engine import packing
from services.modelserver.engine.arguments import call_arguments
from services.modelserver.engine.batch_table import BatchTable, TableKey
from services.modelserver.engine.batcher import table_key_of
from services.modelserver.engine.calls import first_call
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.loading import denoiser_of
from services.modelserver.engine.packing import Packet
from services.modelserver.engine.protocol import DeviceLost, Request
from tests.bench.gpu.report import gigabytes, print_table
from tests.bench.gpu.sized_models import SizedModel
from tests.bench.gpu.stand import Stand, spec_maker, unwritten


@dataclass(frozen=True, slots=True)
class Pass:
    """What a pass with so many rows took."""

    rows: int
    seconds: float
    peak_bytes: int  # above what was in use before; 0: not told


@torch.no_grad()
def measure(stand: Stand) -> None:
    """Print the table of each model at each size, of its denoiser and of its decoder."""
    for model in stand.models:
        pipe = model.build(stand.device.torch, stand.device.dtype(""))
        for size in stand.scale.sizes:
            _of_size(stand, model, pipe, size)
        del pipe
        stand.device.release()


def _of_size(stand: Stand, model: SizedModel, pipe: Any, size: int) -> None:
    folder = unwritten(model)
    request = Request("r", folder, spec_maker(folder, size, 2, guidance_scale=model.bare)(0))
    packed = first_packet(pipe, request)
    latents = torch.randn(1, pipe.vae.config.latent_channels, *(2 * [size // pipe.vae_scale_factor]))
    latents = latents.to(stand.device.torch, pipe.vae.dtype)
    denoiser = getattr(pipe, denoiser_of(pipe))
    stages: dict[str, tuple[Callable[[int], object], int]] = {
        "denoise": (lambda rows: packing.forward(denoiser, [packed] * rows), stand.scale.most_rows),
        "decode": (lambda rows: pipe.vae.decode(torch.cat([latents] * rows))[0], stand.scale.most_decoded),
    }
    for stage, (forward, most) in stages.items():
        table = BatchTable(stand.device.info.id)
        key = table_key_of(request, stage)
        passes = curve(stand, forward, most, partial(table.record, key))
        _print(f"{model.title}, {size} × {size}, {stage}", passes, table, key)


def first_packet(pipe: Any, request: Request) -> Packet:
    """Return what a pipeline first asks its denoiser for: one row, for a request without guidance of two."""

    call = first_call(pipe, denoiser_of(pipe), lambda clone: clone(**call_arguments(clone, [request], lambda *_: {})))
    packed = packing.packet(call, call.module, request.folder.model.pinned, ())
    assert packed is not None, "this denoiser's rows are not packed"
    assert packed.rows == 1, packed.rows
    return packed


def curve(
    stand: Stand, forward: Callable[[int], object], most: int, record: Callable[[int, float, int], None]
) -> list[Pass]:
    """Return passes of 1, 2, 4, … rows until memory, a kernel's limits or time do not suffice; medians of several."""
    passes: list[Pass] = []
    rows = 1
    while rows <= most and (not passes or passes[-1].seconds <= stand.scale.longest_pass_s):
        try:
            _timed(stand, forward, rows)  # the first one pays for what is made only once
            samples = [_timed(stand, forward, rows) for _ in range(stand.scale.repeats)]
        except (RuntimeError, MemoryError) as error:
            if not passes or isinstance(as_failure(error), DeviceLost):
                raise
            print(f"No more than {passes[-1].rows} rows: {type(as_failure(error)).__name__}.")
            stand.device.release()
            break
        for seconds, peak_bytes in samples:
            record(rows, seconds, peak_bytes)
        passes.append(Pass(rows, statistics.median(seconds for seconds, _ in samples), max(p for _, p in samples)))
        rows *= 2
    return passes


def _timed(stand: Stand, forward: Callable[[int], object], rows: int) -> tuple[float, int]:
    device = stand.device
    device.wait()
    device.begin_peak()
    began_s = device.now()
    forward(rows)
    device.wait()
    return device.now() - began_s, device.peak_growth_bytes()


def _print(title: str, passes: list[Pass], table: BatchTable, key: TableKey) -> None:
    first = passes[0]
    rows = [
        (
            each.rows,
            f"{each.seconds:.4f}",
            f"{each.rows / each.seconds:.2f}",
            f"{each.rows * first.seconds / each.seconds:.2f} ×",
            gigabytes(each.peak_bytes),
        )
        for each in passes
    ]
    pays = table.best_rows(key, passes[-1].rows)
    print_table(f"{title}: {pays} rows pay", "rows | seconds | rows/s | against one row | peak GB beside weights", rows)
