"""Which models are loaded before their jobs come, where, and who leaves for them. Pure.

A load is worth the seconds that a job would wait for it, times how likely it is that one comes; those that leave cost
the same of theirs. It is done when it brings clearly more than it costs, one at a time on a device:

    a model that is pinned to a worker           always
    one that the next job there has to wait for  shortly before its row is free
    one that jobs wait for and nobody has        where models can leave that nobody waits for
    one that jobs wait for at those who have it  elsewhere too, when that wait is longer than the load and the wait there
    one that is only likely to be asked for      on an idle device; where memory is spare, when it is nearly certain

No model leaves that draws or that is pinned there, and none that jobs wait for but in the second case: there one would
have to leave a moment later anyway. It is the one whose jobs come last.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from libs.fleet.record import WorkerRecord

HORIZON_S = 120.0  # for which a preloaded model should pay
LEAST_GAIN_S = 1.0
LEAST_SHARE = 0.25  # of the load; nearly equal models must not push each other out in turn
SOON = 2.0  # loads before a row is free: what is next there may come
LIKELY = 0.9  # to be asked for: what comes beside work for less mostly leaves again before it is used


@dataclass(frozen=True, slots=True)
class Device:
    """A worker that stays. `busy` are the models of its jobs; `spare_bytes` of memory for weights are free."""

    record: WorkerRecord
    spare_bytes: float
    free_rows: int
    wait_s: float = 0.0  # until a row is free
    busy: Collection[str] = ()
    pinned: Collection[str] = ()
    loading: bool = False  # a load of ours is under way
    next_cold: str = ""  # the model of the job that is next there when a row is free, if nobody has it

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return not self.busy


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is wanted. `queued_s` are seconds of work by model that jobs wait for; `next_cold` is needed first.

    `turns` says how much work is served before the first job of a model that jobs wait for; asked only when needed.
    """

    queued_s: Mapping[str, float]
    likelihood: Callable[[str], float]  # that somebody asks for a model within HORIZON_S
    load_s: Callable[[str, WorkerRecord], float]
    bytes_of: Mapping[str, float]
    expected: Collection[str] = ()  # models that may be asked for
    next_cold: str = ""
    turns: Callable[[], Mapping[str, float]] = dict[str, float]

    def chance(self, model: str) -> float:
        """Return how likely the model is to be used."""
        return 1.0 if model in self.queued_s else self.likelihood(model)


@dataclass(frozen=True, slots=True)
class _Spread:
    """Who has the models: how many devices, and how many rows these have together."""

    copies: Mapping[str, int]
    rows: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Load:
    """Bring `model` to a worker; `evict` leave first."""

    worker: WorkerRecord
    model: str
    evict: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Option:
    gain_s: float
    load: Load = field(compare=False)


def plan(devices: Sequence[Device], outlook: Outlook) -> list[Load]:
    """Return the loads to begin now, at most one for each device."""
    open_to = {device.record.worker_id: device for device in devices if not device.loading}
    found: list[Load] = []
    spread = _spread(devices)
    for model in _wanted(devices, outlook, spread):
        options = [_option(model, device, spread, outlook) for device in open_to.values()]
        best = max((option for option in options if option is not None), default=None, key=_worth)
        if best is not None:
            found.append(best.load)
            del open_to[best.load.worker.worker_id]
    return found


def _wanted(devices: Sequence[Device], outlook: Outlook, spread: _Spread) -> list[str]:
    """Return the models that a load could be worth for, the most urgent first."""
    pinned = {model for device in devices for model in device.pinned if model not in device.record.resident}
    models = pinned | set(outlook.queued_s) | set(outlook.expected)
    have = spread.copies
    models = {m for m in models if m in pinned or m not in have or _waits_too_long(m, devices, outlook, spread)}

    def urgency(model: str) -> tuple[bool, bool, float, float, str]:
        first, queued_s = model == outlook.next_cold, outlook.queued_s.get(model, 0.0)
        return model not in pinned, not first, -queued_s, -outlook.chance(model), model

    return sorted(models, key=urgency)


def _option(model: str, device: Device, spread: _Spread, outlook: Outlook) -> _Option | None:
    """Return what loading a model on a device would bring; None: it is not done."""
    record = device.record
    if model not in record.models or model in record.resident:
        return None
    load_s = outlook.load_s(model, record)
    if model in device.pinned:
        gain_s = float("inf")
    elif model in spread.copies and not _replica_pays(model, device, spread, outlook, load_s):
        return None
    else:
        gain_s = outlook.chance(model) * load_s
    leaving = _who_leaves(model, device, outlook)
    guessed = model not in outlook.queued_s and model not in device.pinned
    if leaving is None or (guessed and not device.idle and (leaving or outlook.chance(model) < LIKELY)):
        return None
    if model not in outlook.queued_s:  # else somebody will have to leave for it anyway
        gain_s -= sum(_loss_s(each, device, spread, outlook) for each in leaving)
    if gain_s <= max(LEAST_GAIN_S, LEAST_SHARE * load_s):
        return None
    return _Option(gain_s, Load(record, model, leaving))


def _who_leaves(model: str, device: Device, outlook: Outlook) -> tuple[str, ...] | None:
    """Return who makes room for a model, the least likely ones first; None when there is no room to be had."""
    stays = {*device.busy, *device.pinned}
    free = sorted((m for m in device.record.resident if m not in stays), key=lambda m: (outlook.likelihood(m), m))
    unasked = [m for m in free if m not in outlook.queued_s]
    leaving = _enough(unasked, model, device, outlook)
    if leaving is None and model == device.next_cold and device.wait_s <= SOON * outlook.load_s(model, device.record):
        turns = outlook.turns()
        asked = sorted((m for m in free if m in outlook.queued_s), key=lambda m: -turns.get(m, math.inf))
        leaving = _enough([*unasked, *asked], model, device, outlook)
    return leaving


def _enough(in_order: Iterable[str], model: str, device: Device, outlook: Outlook) -> tuple[str, ...] | None:
    """Return the first of them that make enough room together, none in vain; None when all of them do not."""
    short = outlook.bytes_of.get(model, 0.0) - device.spare_bytes
    leaving: list[str] = []
    for each in in_order:
        if short <= 0:
            break
        leaving.append(each)
        short -= outlook.bytes_of.get(each, 0.0)
    for each in leaving[::-1]:
        if short + outlook.bytes_of.get(each, 0.0) <= 0:
            leaving.remove(each)
            short += outlook.bytes_of.get(each, 0.0)
    return tuple(leaving) if short <= 0 else None


def _loss_s(model: str, device: Device, spread: _Spread, outlook: Outlook) -> float:
    elsewhere = spread.copies.get(model, 0) - (model in device.record.resident)
    return 0.0 if elsewhere else outlook.chance(model) * outlook.load_s(model, device.record)


def _spread(devices: Iterable[Device]) -> _Spread:
    copies: Counter[str] = Counter()
    rows: Counter[str] = Counter()
    for device in devices:
        copies.update(device.record.resident)
        for model in device.record.resident:
            rows[model] += device.record.rows
    return _Spread(copies, rows)


def _waits_too_long(model: str, devices: Sequence[Device], outlook: Outlook, spread: _Spread) -> bool:
    return model in outlook.queued_s and any(
        _replica_pays(model, device, spread, outlook, outlook.load_s(model, device.record))
        for device in devices
        if model in device.record.models and model not in device.record.resident
    )


def _replica_pays(model: str, device: Device, spread: _Spread, outlook: Outlook, load_s: float) -> bool:
    """Return whether its jobs wait longer for those that have it than for one more that must load it."""
    wait_s = outlook.queued_s.get(model, 0.0) / max(1, spread.rows.get(model, 0))
    return wait_s > load_s + device.wait_s


def _worth(option: _Option) -> tuple[float, int, str]:
    """Return what makes one device better for a model than another: what it brings, then who loses least."""
    return option.gain_s, -len(option.load.evict), option.load.worker.worker_id
