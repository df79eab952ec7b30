"""What only a GPU can tell, with models of real size and random weights; prints Markdown for docs/benchmarks.md.

    make bench/gpu                                          everything, some minutes on one GPU with 80 GB or more
    python -m tests.bench.gpu --part load --part table      parts of it
    python -m tests.bench.gpu --device cpu --tiny           tries the commands, without a GPU, in seconds

Nothing is downloaded. Only the part `swap` writes files, 30 GB, into a folder of its own under `--place`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from services.modelserver.engine.device import Device
from services.modelserver.engine.quiet import quiet_libraries
from tests.bench.gpu import load, overhead, swap, table
from tests.bench.gpu.report import machine
from tests.bench.gpu.sized_models import REAL
from tests.bench.gpu.stand import Stand, open_stand

PARTS: Mapping[str, Callable[[Stand], None]] = {
    "table": table.measure,
    "load": load.measure,
    "swap": swap.measure,
    "checkpoint": overhead.measure_checkpoints,
    "preview": overhead.measure_previews,
}
NO_DEVICE = 2


def main(words: Sequence[str]) -> int:
    """Measure what the command line asks for; returns the exit code."""
    asked = _parser().parse_args(words)
    if not asked.tiny and not (asked.device.startswith("cuda") and torch.cuda.is_available()):
        print("Models of real size are measured on a CUDA GPU only, and there is none here.", file=sys.stderr)
        return NO_DEVICE
    quiet_libraries()
    device = Device(asked.device)
    print(machine(device, tiny=asked.tiny), flush=True)
    stand = open_stand(device, tuple(asked.model or [model.id for model in REAL]), asked.place, tiny=asked.tiny)
    for name in asked.part or PARTS:
        PARTS[name](stand)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description="Measure the engine on a GPU.")
    parser.add_argument("--device", default="cuda:0", help="cuda:N, or cpu together with --tiny")
    parser.add_argument("--tiny", action="store_true", help="tiny models: only try the commands")
    parser.add_argument("--part", action="append", choices=PARTS, help="measure this part; all without it")
    parser.add_argument("--model", action="append", choices=[model.id for model in REAL], help="with this model only")
    parser.add_argument("--place", type=Path, default=Path(tempfile.gettempdir()), help="where models are written")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
