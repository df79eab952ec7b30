"""What the fleet can draw, from what each worker described. Pure.

A worker's description is remembered when it goes, so its models stay listed and jobs for them are taken and wait.
A model is forgotten when a worker comes back without it and no other has it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.fleet.record import WorkerRecord
from libs.generation.cost import CostTable
from libs.generation.model import TEXT, Model, ModelDefaults, ModelLimits
from libs.ids import WorkerId


@dataclass(frozen=True, slots=True)
class Catalog:
    """Models, the default one first, and prices. `version` grows with every change of either."""

    version: int = 0
    models: tuple[Model, ...] = ()
    prices: CostTable = field(default_factory=CostTable)
    default_model: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many living workers can run each model, and which models are loaded somewhere."""

    able: Counter[str] = field(default_factory=Counter)
    in_vram: set[str] = field(default_factory=set)
    in_ram: set[str] = field(default_factory=set)


Descriptions = Mapping[WorkerId, Sequence[Model]]


def merge(before: Catalog, described: Descriptions, alive: Mapping[WorkerId, WorkerRecord]) -> Catalog:
    """Return the catalog of what is described now; `before` itself when nothing changed."""
    candidates: dict[str, list[Model]] = {}
    tally = tally_of(alive)
    for models in _each_once(described):
        for model in models:
            candidates.setdefault(model.id, []).append(_as_alive(model, tally))
    chosen = {
        model_id: _with_common_loras(max(models, key=_standing), models) for model_id, models in candidates.items()
    }
    default = _default(before, described, chosen)
    listed = tuple(sorted(chosen.values(), key=lambda model: (model.id != default, model.id)))
    after = Catalog(before.version, listed, before.prices, default)
    return before if after == before else dataclasses.replace(after, version=before.version + 1)


def forget_replaced(described: Descriptions, alive: Mapping[WorkerId, WorkerRecord]) -> dict[WorkerId, Sequence[Model]]:
    """Drop descriptions of workers that are gone and whose models others that are alive describe too."""
    present = {worker_id: models for worker_id, models in described.items() if worker_id in alive}
    if len(present) == len(described):
        return present
    offered = {model.pinned for models in _each_once(present) for model in models}
    return {
        worker_id: models
        for worker_id, models in described.items()
        if worker_id in alive or any(model.pinned not in offered for model in models)
    }


def alike(described: Descriptions, models: Sequence[Model]) -> Sequence[Model]:
    """Return what another worker said if it is the same, else `models`: a fleet of equals has one description."""
    return next((known for known in _each_once(described) if list(known) == list(models)), models)


def to_document(catalog: Catalog, described: Descriptions) -> dict[str, Any]:
    """Return what is kept in the store; the prices are kept by themselves."""
    once = _each_once(described)
    number = {id(models): index for index, models in enumerate(once)}
    return {
        "version": catalog.version,
        "default_model": catalog.default_model,
        "costs": {},  # older schedulers read it
        "descriptions": [[dataclasses.asdict(model) for model in models] for models in once],
        "described": {worker: number[id(models)] for worker, models in described.items()},
    }


def from_document(document: Mapping[str, Any]) -> tuple[Catalog, dict[WorkerId, Sequence[Model]]]:
    """Return a kept catalog, its models without workers, and the descriptions it came from."""
    once = [[_model(model) for model in models] for models in document.get("descriptions", ())]
    described: dict[WorkerId, Sequence[Model]] = {
        WorkerId(worker): once[said] if isinstance(said, int) else [_model(model) for model in said]
        for worker, said in document["described"].items()  # in older ones each worker has its own
    }
    before = Catalog(document["version"], default_model=document["default_model"])
    return merge(before, described, {}), described


def _each_once(described: Descriptions) -> list[Sequence[Model]]:
    """Return each description once, by the first worker that gave it."""
    return list({id(described[worker_id]): described[worker_id] for worker_id in sorted(described)}.values())


def tally_of(alive: Mapping[WorkerId, WorkerRecord]) -> Tally:
    """Return what living workers can run."""
    tally = Tally()
    kinds = Counter((record.models, record.resident, record.device == "cpu") for record in alive.values())  # few differ
    for (models, resident, on_cpu), workers in kinds.items():
        tally.able.update(dict.fromkeys(models, workers))
        (tally.in_ram if on_cpu else tally.in_vram).update({*resident} & {*models})
    return tally


def _as_alive(model: Model, tally: Tally) -> Model:
    pinned = model.pinned
    residency = "vram" if pinned in tally.in_vram else "ram" if pinned in tally.in_ram else "disk"
    return dataclasses.replace(model, workers=tally.able[pinned], residency=residency)


def _standing(model: Model) -> tuple[bool, int, str]:
    """Order versions of one model: usable, then with most workers; the digest decides, so that it is stable."""
    return model.usable, model.workers, model.version


def _with_common_loras(chosen: Model, described: Sequence[Model]) -> Model:
    """Keep the adapters that every worker with this version has: a job may go to any of them."""
    others = [set(model.loras) for model in described if model.version == chosen.version]
    return dataclasses.replace(chosen, loras=tuple(name for name in chosen.loras if all(name in own for own in others)))


def _default(before: Catalog, described: Descriptions, chosen: Mapping[str, Model]) -> str:
    """Keep the default while it is usable; else the first usable model of the first worker."""
    if before.default_model in chosen and chosen[before.default_model].usable:
        return before.default_model
    firsts = (model.id for models in _each_once(described) for model in models)
    return next((model_id for model_id in firsts if chosen[model_id].usable), "")


def _model(document: Mapping[str, Any]) -> Model:
    limits, defaults = dict(document["limits"]), document["defaults"]
    limits["samplers"] = tuple(limits["samplers"])
    plain = {**document, "aliases": tuple(document["aliases"]), "loras": tuple(document.get("loras", ()))}
    plain["tasks"] = tuple(document.get("tasks", (TEXT,)))
    return Model(**{**plain, "limits": ModelLimits(**limits), "defaults": ModelDefaults(**defaults)})
