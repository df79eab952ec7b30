"""Numbers as Markdown, and the machine that they belong to."""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Iterable, Sequence

import diffusers
import pynvml
import torch

from services.modelserver.engine.device import Device

UNKNOWN = "–"


def print_table(title: str, header: str, rows: Iterable[Sequence[object]]) -> None:
    """Print a title and a table; `header` has its columns between bars."""
    columns = [column.strip() for column in header.split("|")]
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    print(flush=True)


def machine(device: Device, *, tiny: bool) -> str:
    """Return on what and when it was measured."""
    day = datetime.datetime.now(datetime.UTC).date()
    made_with = f"torch {torch.__version__}, diffusers {diffusers.__version__}, Python {platform.python_version()}"
    name = f"{platform.machine()} CPU"
    if device.is_cuda:
        gigabytes = device.info.memory_bytes / 1e9
        name = f"{torch.cuda.get_device_name(device.torch)}, {gigabytes:.0f} GB, driver {_driver()}"
    told = "\n\nTiny models: this shows that the commands work, not how fast anything is." if tiny else ""
    return f"{day}, {name}, {made_with}{told}"


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def gigabytes(size: float) -> str:
    """Return bytes in 10^9 bytes."""
    return f"{size / 1e9:.2f}" if size else UNKNOWN


def _driver() -> str:
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return "unknown"
