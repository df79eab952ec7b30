"""Measured seconds and peak memory of every kind of pass, and what follows from them. Pure; no torch.

A pass is one forward of the denoiser or one decode; its kind is a TableKey. Seconds are of the wall, from start to
end of the pass; bytes are the most device memory in use during it above what was in use before. The table is kept on
disk and belongs to one device and one build of the engine: numbers of another one are not believed.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.generation.rows import bucket_of
from services.modelserver.engine.batch_curve import Curve, Size

logger = logging.getLogger(__name__)

PAYING = 0.05  # of throughput that a doubling of the rows must bring in a worker: 0.15 lost a tenth of it on CPUs
_FORMAT = 1
_MOST_KEYS = 1024  # the ones not measured for longest are forgotten


class BadTable(Exception):
    """A stored table that cannot be read, or that is of another device, build or format."""


@dataclass(frozen=True, slots=True)
class TableKey:
    """One kind of pass."""

    model: str  # `id@version`
    stage: str  # `denoise` or `decode`
    bucket: str  # size of the pictures in pixels, `512x768`, with frames `512x768x16`

    @classmethod
    def of(cls, model: str, stage: str, width: int, height: int, frames: int | None) -> TableKey:
        """Return the key of passes for pictures of this size in pixels, or clips of so many frames."""
        return cls(model, stage, bucket_of(width, height, frames))

    @property
    def pixels(self) -> int:
        """Pixels of one row, 0 for a bucket that is not a size."""
        sides = self.bucket.split("x")
        return math.prod(map(int, sides)) if all(side.isascii() and side.isdecimal() for side in sides) else 0


class BatchTable:
    """Learns from `record` and answers for every kind of pass. Every thread may call it."""

    def __init__(self, device: str, *, gain: float = 0.15, build: str = "") -> None:
        """Begin empty. Rows are added while each doubling raises the throughput by the share `gain`."""
        self._device, self._build, self._gain = device, build, gain
        self._curves: dict[TableKey, Curve] = {}  # the one measured last at the end
        self._version = 0
        self._lock = threading.RLock()

    @property
    def version(self) -> int:
        """Counts changes that others should hear of: a new size, an estimate that moved by 5 %, another answer."""
        return self._version

    def record(self, key: TableKey, rows: int, seconds: float, peak_bytes: int = 0) -> None:
        """Take a pass that went well: `rows` rows in `seconds`. 0 peak bytes: not measured. A nonsense time is left."""
        if rows < 1 or not 0 < seconds < math.inf:
            return
        with self._lock:
            curve = self._curves.pop(key, None) or Curve(self._gain)
            while len(self._curves) >= _MOST_KEYS:
                del self._curves[next(iter(self._curves))]
            self._curves[key] = curve
            self._version += curve.record(rows, seconds, max(0, peak_bytes))

    def seconds(self, key: TableKey, rows: int) -> float | None:
        """Return the seconds of a pass with `rows` rows: measured, or between or beyond what was; None when unknown."""
        with self._lock:
            curve = self._curves.get(key)
            return curve.seconds(max(1, rows)) if curve else None

    def best_rows(self, key: TableKey, most: int) -> int:
        """Return how many rows the next pass should have, 1 to `most`: what pays, or what is worth a try.

        A size of pictures that was never drawn begins with what pays at the next smaller one of the same model, or
        with `most` when there is none.
        """
        with self._lock:
            curve = self._curves.get(key)
            return curve.best_rows(max(1, most)) if curve else self._guess(key, max(1, most))

    def room(self, key: TableKey, most: int) -> int:
        """Return how many rows are worth having at hand, 1 to `most`: for admitting, and for telling others.

        Never less than pays, and more when more is to be tried; unlike `best_rows` it does not dip for a pass.
        """
        with self._lock:
            curve = self._curves.get(key)
            return curve.room(max(1, most)) if curve else self._guess(key, max(1, most))

    def known(self, model: str, stage: str) -> list[TableKey]:
        """Return the sizes of pictures that were measured for `model` (`id@version`), the one measured last first."""
        with self._lock:
            return [key for key in reversed(self._curves) if (key.model, key.stage) == (model, stage)]

    def peak_bytes(self, key: TableKey, rows: int) -> int | None:
        """Return the most memory of a pass: measured, between, or in proportion to rows and pixels beyond what was.

        None when nothing was measured for this model and stage.
        """
        with self._lock:
            curve = self._curves.get(key)
            measured = curve.peak_bytes(max(1, rows)) if curve else None
            return measured if measured is not None else self._peak_by_pixels(key, max(1, rows))

    def most_rows_within(self, key: TableKey, free_bytes: int, most: int) -> int:
        """Return how many rows, 0 to `most`, fit into `free_bytes`; `most` when nothing is known."""
        with self._lock:
            fitting, beyond = 0, max(0, most) + 1
            while beyond - fitting > 1:
                middle = (fitting + beyond) // 2
                peak = self.peak_bytes(key, middle)
                if peak is None:
                    return max(0, most)
                fitting, beyond = (middle, beyond) if peak <= free_bytes else (fitting, middle)
            return fitting

    def largest_size(self, model: str, rows: int, free_bytes: int) -> str | None:
        """Return the bucket with most pixels that fits, of those measured for `model` (`id@version`).

        `rows` are of the denoiser; every other stage can take pictures one by one. None when none fits or is known.
        """
        with self._lock:
            peaks: dict[str, int] = {}
            pixels: dict[str, int] = {}
            for key in self._curves:
                peak = self.peak_bytes(key, rows if key.stage == "denoise" else 1) if key.model == model else None
                if peak is not None and key.pixels:
                    peaks[key.bucket] = max(peak, peaks.get(key.bucket, 0))
                    pixels[key.bucket] = key.pixels
            fitting = [bucket for bucket, peak in peaks.items() if peak <= free_bytes]
            return max(fitting, key=lambda bucket: pixels[bucket], default=None)

    def to_json(self) -> str:
        """Return the stored form."""
        with self._lock:
            document = {
                "format": _FORMAT,
                "device": self._device,
                "build": self._build,
                "version": self._version,
                "curves": [_curve_to_json(key, curve) for key, curve in self._curves.items()],
            }
        return json.dumps(document, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, device: str, *, gain: float = 0.15, build: str = "") -> BatchTable:
        """Read a stored form; raises BadTable when it is broken or not of this device, build and format."""
        try:
            stored = json.loads(text)
            found = (stored["format"], stored["device"], stored["build"])
            if found != (_FORMAT, device, build):
                raise BadTable(f"it is of format {found[0]}, device {found[1]!r}, build {found[2]!r}")
            table = cls(device, gain=gain, build=build)
            for curve in stored["curves"][-_MOST_KEYS:]:
                table._curves[_key_from_json(curve)] = _curve_from_json(curve, gain)
            table._version = _whole(stored["version"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadTable(f"it cannot be read: {error!r}") from error
        return table

    def save(self, path: Path) -> None:
        """Write it whole or not at all; blocks. Raises OSError."""
        fresh = path.with_name(f"{path.name}.new")
        with fresh.open("w") as file:
            file.write(self.to_json())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path, device: str, *, gain: float = 0.15, build: str = "") -> BatchTable:
        """Return the table of a file, an empty one when there is none; a broken or foreign file is set aside. Blocks."""
        try:
            return cls.from_json(path.read_text(), device, gain=gain, build=build)
        except FileNotFoundError:
            pass
        except (OSError, ValueError, BadTable) as error:
            aside = path.with_name(f"{path.name}.aside")
            logger.warning("batch table set aside", extra={"path": str(aside), "cause": str(error)})
            _move(path, aside)
        return cls(device, gain=gain, build=build)

    def _alike(self, key: TableKey) -> list[TableKey]:
        return [known for known in self._curves if (known.model, known.stage) == (key.model, key.stage)]

    def _guess(self, key: TableKey, most: int) -> int:
        smaller = [known for known in self._alike(key) if 0 < known.pixels < key.pixels]
        if not smaller:
            return most
        return min(most, self._curves[max(smaller, key=lambda known: known.pixels)].settled)

    def _peak_by_pixels(self, key: TableKey, rows: int) -> int | None:
        """Return what another size of pictures says, in proportion; from a larger one its own, which is safe."""
        guesses = []
        for known in self._alike(key):
            peak = self._curves[known].peak_bytes(rows)
            if peak is not None and known.pixels and key.pixels:
                share = max(1.0, key.pixels / known.pixels)
                guesses.append((abs(math.log(key.pixels / known.pixels)), math.ceil(peak * share)))
        return min(guesses)[1] if guesses else None


def _curve_to_json(key: TableKey, curve: Curve) -> dict[str, Any]:
    sizes = [[size.rows, size.seconds, size.samples, size.peak_bytes] for size in curve.sizes]
    return {"model": key.model, "stage": key.stage, "bucket": key.bucket, "settled": curve.settled, "sizes": sizes}


def _key_from_json(stored: Mapping[str, Any]) -> TableKey:
    key = TableKey(stored["model"], stored["stage"], stored["bucket"])
    if not all(isinstance(part, str) for part in (key.model, key.stage, key.bucket)):
        raise TypeError("a key is not a text")
    return key


def _curve_from_json(stored: Mapping[str, Any], gain: float) -> Curve:
    sizes = []
    for rows, seconds, samples, peak_bytes in stored["sizes"]:
        if isinstance(seconds, bool) or not isinstance(seconds, float | int) or not 0 < seconds < math.inf:
            raise ValueError(f"{seconds!r} is no time in seconds")
        counts = _whole(rows, 1), _whole(samples, 1), _whole(peak_bytes)
        sizes.append(Size(counts[0], float(seconds), counts[1], counts[2]))
    if not sizes:
        raise ValueError("a curve has no sizes")
    curve = Curve(gain, settled=_whole(stored["settled"], 1))
    curve.restore(tuple(sizes))
    return curve


def _whole(value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{value!r} is not a whole number from {least}")
    return value


def _move(path: Path, aside: Path) -> None:
    try:
        path.replace(aside)
    except OSError as error:
        logger.warning("batch table cannot be set aside", extra={"path": str(path), "cause": str(error)})
