"""Measuring a size of pictures when it is first drawn: the same rows once, twice, four times … in one forward.

So the batch table knows how many rows pay before others wait to share the pass, and kernels are chosen or compiled for
the sizes of batches before they are needed. What is measured stays in the table's file; it is done once a device.
"""

from __future__ import annotations

import logging
from typing import Any

from services.modelserver.engine import packing
from services.modelserver.engine.batch_table import PAYING, BatchTable, TableKey
from services.modelserver.engine.device import Device
from services.modelserver.engine.faults import as_failure
from services.modelserver.engine.packing import Packet
from services.modelserver.engine.protocol import OutOfMemory

logger = logging.getLogger(__name__)

_ROUNDS = 3
_LONGEST_S = 2.0  # of one forward or one round; someone waits for the first picture


def warm_up(device: Device, table: BatchTable, key: TableKey, module: Any, packed: Packet, most: int) -> None:
    """Fill the table for `key` with forwards of up to `most` rows. Memory that lacks ends it; so does what fails.

    Every size has its turn, round after round: a machine that is busy for a second slows one round, not one size.
    """
    shortest_s: dict[int, float] = {}  # by rows; whatever disturbs a forward makes it longer
    try:
        for _ in range(_ROUNDS):
            _round(device, table, key, module, packed, most, shortest_s)
            if sum(shortest_s.values()) > _LONGEST_S:
                break
    except Exception as error:  # noqa: BLE001 – the request itself tells what is wrong, when it is drawn
        if isinstance(as_failure(error), OutOfMemory):
            device.release()
        extra = {"model": key.model, "rows": max(shortest_s, default=0), "error": type(error).__name__}
        logger.info("warm-up broken off", extra=extra)


def _round(
    device: Device,
    table: BatchTable,
    key: TableKey,
    module: Any,
    packed: Packet,
    most: int,
    shortest_s: dict[int, float],
) -> None:
    """Measure every size once, as long as doubling the rows brings something."""
    rows, rate = packed.rows, 0.0
    while rows <= most and rows <= table.most_rows_within(key, device.free_bytes(), most):
        if rows not in shortest_s:
            _timed(device, module, packed, rows // packed.rows)  # it pays for what is made only once
        seconds, peak_bytes = _timed(device, module, packed, rows // packed.rows)
        table.record(key, rows, seconds, peak_bytes)
        shortest_s[rows] = min(seconds, shortest_s.get(rows, seconds))
        if rows / shortest_s[rows] < (1 + PAYING) * rate or seconds > _LONGEST_S:
            return
        rate, rows = rows / shortest_s[rows], 2 * rows


def _timed(device: Device, module: Any, packed: Packet, times: int) -> tuple[float, int]:
    device.wait()
    device.begin_peak()
    began_s = device.now()
    packing.forward(module, [packed] * times, pad_to=times * packed.rows)
    device.wait()
    return device.now() - began_s, device.peak_growth_bytes()
