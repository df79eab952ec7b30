"""The commands of `make bench/gpu`, tried with tiny models on a CPU; no number they print is judged here."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import statistics
from unittest import mock

import diffusers
import pytest
import torch

from services.modelserver.engine.device import Device
from services.modelserver.engine.protocol import OutOfMemory
from tests.bench.gpu import sized_models
from tests.bench.gpu.__main__ import NO_DEVICE, main
from tests.bench.gpu.load import OVERLOAD, poisson
from tests.bench.gpu.report import quantile
from tests.bench.gpu.stand import SMALL, Stand
from tests.bench.gpu.table import curve


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # swaps collect garbage, and would go through all that the libraries made at import each time
    yield
    gc.unfreeze()
    torch.set_num_threads(before)


def tables(printed: str) -> dict[str, list[dict[str, str]]]:
    """Return the tables of some Markdown by their titles; rows by the names of their columns."""
    found: dict[str, list[dict[str, str]]] = {}
    for block in printed.split("\n\n\n"):
        *_, title, table = block.strip().rsplit("\n\n", 1)
        header, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines())
        found[title.strip().splitlines()[-1]] = [dict(zip(header, row, strict=True)) for row in rows]
    return found


def measured(capsys, tmp_path, part: str) -> dict[str, list[dict[str, str]]]:
    assert main(["--device", "cpu", "--tiny", "--part", part, "--place", str(tmp_path)]) == 0
    return tables(capsys.readouterr().out)


def test_the_batch_table_has_every_stage_of_every_model_and_size(capsys, tmp_path):
    printed = measured(capsys, tmp_path, "table")
    assert len(printed) == 2 * len(SMALL.sizes) * 2
    for title, rows in printed.items():
        most = SMALL.most_rows if "denoise" in title else SMALL.most_decoded
        assert [int(row["rows"]) for row in rows] == [2**n for n in range(int(math.log2(most)) + 1)]
        assert all(float(row["seconds"]) > 0 for row in rows)


def test_each_way_serves_the_same_requests_under_load(capsys, tmp_path):
    printed = measured(capsys, tmp_path, "load")
    assert len(printed) == len(SMALL.sizes)
    for title, rows in printed.items():
        assert f"{OVERLOAD} ×" in title
        assert [row["way"].rstrip("0123456789") for row in rows] == [
            "engine", "bare, one at a time", "bare, static batches of up to "
        ]  # fmt: skip
        for row in rows:
            assert 0 < float(row["p50 s"]) <= float(row["p95 s"])
            assert float(row["pictures/s"]) > 0
            assert float(row["all at once, pictures/s"]) > 0


def test_models_are_swapped_from_disk_and_from_memory_and_no_file_is_left(capsys, tmp_path):
    swaps, disturbance = measured(capsys, tmp_path, "swap").values()
    came = [(row["model"], row["to the device from"]) for row in swaps]
    assert sorted(came) == sorted((m, way) for m in ("sdxl", "flux") for way in ("disk", "files in cache", "ram"))
    was_read = {row["to the device from"]: row["of them reading"] != "–" for row in swaps}
    assert was_read == {"disk": True, "files in cache": True, "ram": False}
    assert [int(row["steps"]) > 0 for row in disturbance][:2] == [True, True]
    assert not list(tmp_path.iterdir())


def test_one_model_alone_is_swapped_with_itself(capsys, tmp_path):
    words = ["--device", "cpu", "--tiny", "--part", "swap", "--model", "flux", "--place", str(tmp_path)]
    assert main(words) == 0
    swaps, _ = tables(capsys.readouterr().out).values()
    assert [(row["model"], row["to the device from"]) for row in swaps] == [
        ("flux", "disk"), ("flux", "files in cache"), ("flux", "ram")
    ]  # fmt: skip


def test_checkpoints_and_previews_are_compared_with_drawing_without(capsys, tmp_path):
    ((_, checkpoints),) = measured(capsys, tmp_path, "checkpoint").items()
    ((_, previews),) = measured(capsys, tmp_path, "preview").items()
    assert [row["drawn"] for row in checkpoints] == [row["drawn"] for row in previews]
    assert len(checkpoints) == 4
    assert all(float(row["kB each"]) > 0 for row in checkpoints)
    assert all(int(row["previews"]) > 0 for row in previews)


def test_without_a_gpu_it_says_so_and_ends(capsys):
    with mock.patch.object(torch.cuda, "is_available", return_value=False):
        assert main([]) == NO_DEVICE
    assert capsys.readouterr().err.count(".") == 1
    assert main(["--device", "cpu"]) == NO_DEVICE, "models of real size are not for a CPU"


@pytest.mark.parametrize(
    ("kind", "config", "parameters"),
    [
        (diffusers.UNet2DConditionModel, sized_models.SDXL_UNET, 2_567_463_684),
        (diffusers.FluxTransformer2DModel, sized_models.FLUX_TRANSFORMER, 11_901_408_320),
        (diffusers.AutoencoderKL, sized_models.SDXL_VAE, 83_653_863),
        (diffusers.AutoencoderKL, sized_models.FLUX_VAE, 83_819_683),
    ],
)
def test_configurations_are_of_the_released_size(kind, config, parameters):
    with torch.device("meta"):
        module = kind(**config)
    assert sum(weights.numel() for weights in module.parameters()) == parameters


SMALLER = {"num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
           "axes_dims_rope": (4, 6, 6)}  # fmt: skip


def test_a_model_that_is_made_in_place_draws():
    vae = {"block_out_channels": (32,) * 4, "layers_per_block": 1}
    with contextlib.ExitStack() as smaller:
        smaller.enter_context(mock.patch.dict(sized_models.FLUX_TRANSFORMER, SMALLER))
        smaller.enter_context(mock.patch.dict(sized_models.FLUX_VAE, vae))
        pipe = sized_models.flux(torch.device("cpu"), torch.float32)
    assert not any(weights.is_meta for weights in pipe.transformer.parameters())
    drawn = pipe("a red circle", width=32, height=32, num_inference_steps=1, output_type="np").images
    assert drawn.shape == (1, 32, 32, 3)
    assert drawn.std() > 0


def test_a_pass_that_does_not_fit_ends_the_curve(tmp_path, capsys):
    stand = Stand(Device("cpu", threads=1), (), SMALL, tmp_path)

    def forward(rows: int) -> None:
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert [each.rows for each in curve(stand, forward, 8, lambda *_: None)] == [1, 2]
    assert OutOfMemory.__name__ in capsys.readouterr().out


def test_arrivals_are_the_same_for_a_seed_and_as_many_a_second_as_wanted():
    moments = poisson(4000, 2.5, seed=1)
    assert moments == poisson(4000, 2.5, seed=1) != poisson(4000, 2.5, seed=2)
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert statistics.mean(gaps) == pytest.approx(1 / 2.5, rel=0.1)
    assert statistics.stdev(gaps) == pytest.approx(1 / 2.5, rel=0.1), "of a Poisson process as long as the mean"


def test_quantiles_are_values_that_were_measured():
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.0, 0.5, 0.95, 1.0)] == [1.0, 2.0, 4.0, 4.0]
