"""Which calls share the next forward, and what is done when it fails.

The group that has waited longest for a forward goes next; into it come the calls with its key, those that waited
longest first, as many rows as pay (batch table) and fit (memory). When memory does not suffice after all: give back
what is cached, halve the batch, at last halve a call's own rows; what fails alone fails its request alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from libs.generation.batch_key import BatchKey
from services.modelserver.engine import packing
from services.modelserver.engine.batch_table import TableKey
from services.modelserver.engine.faults import LACKING, as_failure, no_memory
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.packing import Packet
from services.modelserver.engine.pipeline_run import PipelineRun
from services.modelserver.engine.protocol import BadPictures, DeviceLost, OutOfMemory, Request
from services.modelserver.engine.reasons import Reason
from services.modelserver.engine.warm_up import warm_up
from services.modelserver.options import ModelOptions

STRICT_ROWS = 8  # of every forward of a model that must not see its neighbours
MOST_ROWS = 64  # in one forward, however much they would pay
_FORGET_AFTER = 200  # forwards
_RAN_AWAY = "the numbers ran away while drawing"

Prepare = Callable[[PipelineRun], None]


@dataclass(slots=True, eq=False)
class Asked:
    """A run that waits for a forward, with its call in packable form where it has one."""

    run: PipelineRun
    packed: Packet | None

    @property
    def group(self) -> object:
        """What calls of one forward have in common; a call that must run alone has only itself."""
        return self.packed.key if self.packed is not None else id(self.run)


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What a run's call came to."""

    run: PipelineRun
    value: Any = None
    error: Exception | None = None


class Batcher:
    """Picks and runs forwards. `splits` counts batches that did not fit into memory."""

    def __init__(self, outfit: Outfit) -> None:
        self._device, self._table = outfit.device, outfit.table
        self._unbatched, self._occupancy = outfit.unbatched, outfit.occupancy
        self._warms_up, self._lacks_memory = outfit.warms_up, outfit.lacks_memory
        self._most_by_key: dict[BatchKey, int] = {}  # learned from batches that did not fit
        self._went_well = 0
        self.splits = 0
        self.rows_run = 0
        self.forwards = 0
        self.seconds = 0.0

    def ask(self, run: PipelineRun) -> Asked:
        """Return a run's call ready to be chosen."""
        assert run.call is not None
        version = run.request.folder.model.pinned
        packed = packing.packet(run.call, run.call.module, version, run.adapters, run.topologies)
        run.rows = packed.rows if packed is not None else packing.rows_of(run.call)
        return Asked(run, packed)

    def choose(self, asked: Sequence[Asked]) -> list[Asked]:
        """Return the calls of the next forward."""
        first = min(asked, key=lambda each: each.run.served)
        group = sorted((each for each in asked if each.group == first.group), key=lambda each: each.run.served)
        self._count_others(first, asked)
        if first.packed is None:
            return [first]
        self._know(first.run, first.packed)
        paying, fitting = self._paying(first.run.request), self._fits(first.run.request, first.packed.key)
        reason = Reason.DOES_NOT_PAY if paying <= fitting else Reason.NO_MEMORY
        chosen: list[Asked] = []
        rows = 0
        for each in group:
            assert each.packed is not None
            if chosen and rows + each.packed.rows > min(paying, fitting):
                self._unbatched.count(reason, each.packed.rows)
                continue
            chosen.append(each)
            rows += each.packed.rows
        return chosen

    def room(self, request: Request) -> int:
        """Return how many rows may draw side by side, with this request among them."""
        return self.room_at(request.folder.options, table_key_of(request, "denoise"))

    def room_at(self, options: ModelOptions, key: TableKey) -> int:
        """Return how many rows of a model may draw side by side at one size of pictures."""
        wanted = rows_allowed(options)
        room = wanted if options.strict else self._table.room(key, wanted)
        return max(1, min(room, self._fitting(options, key, None)))

    def _know(self, run: PipelineRun, packed: Packet) -> None:
        """Measure what was never measured, where that is wanted."""
        key = table_key_of(run.request, "denoise")
        if self._warms_up and not run.request.folder.options.strict and self._table.seconds(key, 1) is None:
            assert run.call is not None
            warm_up(self._device, self._table, key, run.call.module, packed, rows_allowed(run.request.folder.options))

    def _paying(self, request: Request) -> int:
        wanted = rows_allowed(request.folder.options)
        strict = request.folder.options.strict  # its forwards all have as many rows, used or idle
        return wanted if strict else self._table.best_rows(table_key_of(request, "denoise"), wanted)

    def _fits(self, request: Request, key: BatchKey) -> int:
        return self._fitting(request.folder.options, table_key_of(request, "denoise"), key)

    def _fitting(self, options: ModelOptions, kind: TableKey, key: BatchKey | None) -> int:
        wanted = rows_allowed(options)
        if self._table.peak_bytes(kind, wanted) is None:
            return max(1, min(wanted, self._learned(key)))
        predicted = self._table.most_rows_within(kind, self._device.free_bytes(), wanted)
        return max(1, min(predicted, self._learned(key)))

    def _unlearn(self, chosen: Sequence[Asked]) -> None:
        """After a number of forwards that went well, try twice the rows that once lacked memory."""
        key = chosen[0].packed.key if chosen[0].packed is not None else None
        if key is None or key not in self._most_by_key:
            return
        self._went_well += 1
        if self._went_well >= _FORGET_AFTER:
            self._went_well = 0
            self._most_by_key[key] *= 2

    def _learned(self, key: BatchKey | None) -> int:
        """Return how many rows did not lack memory when last tried."""
        return MOST_ROWS if key is None else self._most_by_key.get(key, MOST_ROWS)

    def forward(self, chosen: Sequence[Asked], prepare: Prepare) -> list[Answered]:
        """Run the calls together. `prepare` sets the adapters of the group."""
        began_s = self._device.now()
        self._device.begin_peak()
        answered = self._attempt(list(chosen), prepare)
        if any(isinstance(each.error, DeviceLost) for each in answered):
            return answered
        seconds = self._device.now() - began_s
        rows = sum(each.run.rows for each in chosen)
        if all(each.error is None for each in answered):
            self._unlearn(chosen)
            self._table.record(
                table_key_of(chosen[0].run.request, "denoise"), rows, seconds, self._device.peak_growth_bytes()
            )
        self._occupancy.count(rows)
        self.forwards, self.rows_run, self.seconds = self.forwards + 1, self.rows_run + rows, self.seconds + seconds
        for each in chosen:
            each.run.served = self._device.now()
            share_ms = 1000 * seconds * each.run.rows / rows
            for part in each.run.parts:
                part.gpu_ms += share_ms / len(each.run.parts)
        return answered

    def _attempt(self, chosen: list[Asked], prepare: Prepare) -> list[Answered]:
        first = chosen[0]
        try:
            prepare(first.run)
            if len(chosen) == 1 and first.packed is not None and first.run.rows > self._learned(first.packed.key):
                return [self._by_halves(first.run, first.packed, OutOfMemory(LACKING))]
            values = self._run(chosen)
            finite = packing.finite(values)
            self._device.wait()
        except Exception as error:  # noqa: BLE001 – whatever a model raises belongs to the requests in this forward
            return self._after(error, chosen, prepare)
        return [
            Answered(each.run, value) if is_finite else Answered(each.run, error=BadPictures(_RAN_AWAY))
            for each, value, is_finite in zip(chosen, values, finite, strict=True)
        ]

    def _run(self, chosen: list[Asked]) -> list[Any]:
        first = chosen[0]
        assert first.run.call is not None
        self._need_memory(first.run, sum(each.run.rows for each in chosen))
        if first.packed is None:
            return [first.run.call.run()]
        packets = [each.packed for each in chosen if each.packed is not None]
        pad_to = _padded(first.run.request, sum(packed.rows for packed in packets))
        return packing.forward(first.run.call.module, packets, pad_to=pad_to)

    def _after(self, error: Exception, chosen: list[Asked], prepare: Prepare) -> list[Answered]:
        """Make the batch smaller until only what is at fault fails."""
        failure = as_failure(error)
        if isinstance(failure, DeviceLost):
            return [Answered(each.run, error=failure) for each in chosen]
        lacking = isinstance(failure, OutOfMemory)
        if lacking:
            self.splits += 1
            self._device.release()
        if len(chosen) > 1:
            middle = len(chosen) // 2
            if lacking and chosen[0].packed is not None:
                self._most_by_key[chosen[0].packed.key] = max(1, sum(each.run.rows for each in chosen) // 2)
            return self._attempt(chosen[:middle], prepare) + self._attempt(chosen[middle:], prepare)
        if lacking and chosen[0].packed is not None:
            self._most_by_key[chosen[0].packed.key] = max(1, chosen[0].run.rows // 2)
            return [self._by_halves(chosen[0].run, chosen[0].packed, failure)]
        return [Answered(chosen[0].run, error=failure)]

    def _by_halves(self, run: PipelineRun, packed: Packet, failure: Exception) -> Answered:
        """Run one call's rows in two forwards, and those again in two."""
        try:
            assert run.call is not None
            return Answered(run, packing.joined(self._halved(run, run.call.module, packed, failure)))
        except Exception as error:  # noqa: BLE001 – as above
            return Answered(run, error=as_failure(error))

    def _halved(self, run: PipelineRun, module: Any, packed: Packet, failure: Exception) -> list[Any]:
        parts = packing.halves(packed)
        if parts is None:
            raise failure
        values = []
        for part in parts:
            try:
                self._need_memory(run, part.rows)
                values += packing.forward(module, [part])
            except Exception as error:
                if not isinstance(as_failure(error), OutOfMemory):
                    raise
                self._device.release()
                values.append(packing.joined(self._halved(run, module, part, as_failure(error))))
        return values

    def _need_memory(self, run: PipelineRun, rows: int) -> None:
        if self._lacks_memory(run.request, rows):
            raise no_memory()

    def _count_others(self, first: Asked, asked: Sequence[Asked]) -> None:
        for each in asked:
            if each.group != first.group:
                self._unbatched.count(_difference(first, each), each.run.rows)
        if len(asked) == 1:
            self._unbatched.count(Reason.ALONE, first.run.rows)


def rows_allowed(options: ModelOptions) -> int:
    """Return how many rows a forward may have, whatever pays and fits."""
    return options.most_rows or (STRICT_ROWS if options.strict else MOST_ROWS)


def _padded(request: Request, rows: int) -> int:
    """Return how many rows a forward is filled up to."""
    options = request.folder.options
    if options.strict:
        return rows_allowed(request.folder.options)
    return next((bucket for bucket in packing.BUCKETS if bucket >= rows), rows) if options.compile else 0


def table_key_of(request: Request, stage: str) -> TableKey:
    """Return where the times of a request's forwards or decodes stand."""
    spec = request.spec
    return TableKey.of(request.folder.model.pinned, stage, spec.width, spec.height, spec.frames)


def _difference(one: Asked, other: Asked) -> Reason:
    if one.packed is None or other.packed is None:
        return Reason.CANNOT_SHARE
    a, b = one.packed.key, other.packed.key
    if a.version != b.version:
        return Reason.OTHER_MODEL
    if a.latent != b.latent:
        return Reason.OTHER_SIZE
    return Reason.OTHER_ADAPTERS if a.adapters != b.adapters else Reason.OTHER_TOPOLOGY
