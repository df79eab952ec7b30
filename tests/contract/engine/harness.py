"""Engines with tiny models of every family, workloads of many requests that come, rest and go, and their solo runs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from libs.generation.spec import GenerationSpec, SpecRequest, resolve
from services.modelserver.digests import FileDigests
from services.modelserver.engine.batch_table import BatchTable, TableKey
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.outfit import make_outfit
from services.modelserver.engine.protocol import Cancelled, Mask, Pixels, Request, Tier
from services.modelserver.engine.quiet import quiet_libraries
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.models import ModelFolder, scan
from tests.contract.engine.families import FAMILIES, save_family
from tests.contract.engine.solo import Solos
from tests.contract.engine.step_driver import Said

_PATIENCE_S, _MOST_TURNS = 30.0, 20_000
_UPLOAD = "upl_" + "0" * 26
TOLERANCE = 1e-4  # of latents, relative to the largest one where that is more than 1


class PackingTable(BatchTable):
    """Finds that every row pays, so that what shares a forward does not hang on the speed of this machine."""

    def best_rows(self, key: TableKey, most: int) -> int:
        return most

    def room(self, key: TableKey, most: int) -> int:
        return most


def scanned(path: Path, digests: Path) -> ModelFolder:
    """Return a folder as a worker finds it; it must be usable."""
    (found,) = scan([path], FileDigests(digests), LibraryClasses())
    assert found.model.usable, found.model.unusable_reason
    return found


class Folders(Mapping[str, ModelFolder]):
    """Tiny pipelines as a worker finds them, by family; each is written when it is first asked for.

    `options` are lines of the section `options` of their descriptions.
    """

    def __init__(self, place: Path, options: str = "") -> None:
        quiet_libraries()
        self._place, self._options = place, options
        self._found: dict[str, ModelFolder] = {}

    def __getitem__(self, family: str) -> ModelFolder:
        if family not in self._found:
            folder = save_family(family, self._place / family)
            with (folder / "darkroom.toml").open("a") as description:
                description.write(f"[options]\n{self._options}\n")
            self._found[family] = scanned(folder, self._place / "digests.json")
        return self._found[family]

    def __iter__(self) -> Iterator[str]:
        return iter(FAMILIES)

    def __len__(self) -> int:
        return len(FAMILIES)


def folders_of(names: Iterable[str], place: Path) -> dict[str, ModelFolder]:
    """Write pipelines of these families and return them, by family."""
    folders = Folders(place)
    return {name: folders[name] for name in names}


class Stage:
    """An engine that packs all it can, what it shows of finished latents, and whoever waits for it.

    With `weight_bytes`, no more than these are on the device, and none in the host's memory.
    """

    def __init__(self, *, weight_bytes: int = 0, **options: Any) -> None:
        self.latents: dict[str, torch.Tensor] = {}
        self._admitted = 0
        table = PackingTable("cpu")
        outfit = make_outfit(Device("cpu", threads=1), table, on_latents=self._keep, **options)
        if weight_bytes:
            outfit.budget_bytes, outfit.host_budget_bytes = weight_bytes, 0
        self.engine = StepwiseEngine(outfit)
        self._woken = threading.Event()
        self.engine.on_wake(self._woken.set)

    def turn(self) -> bool:
        """Let it do one pass, or wait until it has something to do; False when nothing is left to do."""
        self._woken.clear()
        if self.engine.tick():
            return True
        load = self.engine.load()
        if not load.drawing and not load.waiting:
            return False
        assert self._woken.wait(_PATIENCE_S), f"it has work, and neither ticks nor wakes: {load}"
        return True

    def finish_all(self) -> None:
        """Let it work until nothing is left to do."""
        for _ in range(_MOST_TURNS):
            if not self.turn():
                return
        raise AssertionError("too many turns")

    def finish(self, *said: Said) -> None:
        """Let it work until all of these are over."""
        for _ in range(_MOST_TURNS):
            if all(one.over for one in said):
                return
            assert self.turn(), "nothing is left to do, and not all are over"
        raise AssertionError("too many turns")

    def admit(self, folder: ModelFolder, wish: Wish, **more: Any) -> tuple[str, Wish, Said]:
        """Hand a request in; returns what `check` wants to know about it."""
        self._admitted += 1
        request_id, said = f"a{self._admitted}", Said()
        self.engine.admit(wish.request(request_id, folder, **more), said)
        return request_id, wish, said

    def pipe(self, folder: ModelFolder) -> Any:
        """Bring a model onto the device and return its pipeline, for tests that break a part of it."""
        self.engine.warm(folder, Tier.VRAM)
        while (model := self.engine._residency.on_device(folder.model.pinned)) is None:
            self._woken.clear()
            assert self.engine.tick() or self._woken.wait(_PATIENCE_S), "the model does not come"
        return model.pipe

    def _keep(self, request_id: str, latents: torch.Tensor) -> None:
        self.latents[request_id] = latents.detach().clone()


@dataclass(frozen=True, slots=True)
class Wish:
    """A request, and when it joins, rests and leaves. Turns are the engine's; steps those it has told.

    `leaves_at` and `rests_at` are steps: 0 is as soon as it has joined.
    """

    family: str
    task: str = "text"
    sampler: str = ""
    steps: int = 3
    guidance: float = 4.0
    seed: int = 0
    images: int = 1
    size: tuple[int, int] = (32, 32)
    prompt: str = "a red circle"
    negative: str = ""
    strength: float | None = None
    joins_at: int = 0
    leaves_at: int | None = None
    rests_at: int | None = None
    rest: int = 3
    rests_for_ever: bool = False  # it is cancelled instead of going on
    evicts_at: int | None = None  # a turn at which its model is told to leave
    preview: bool = False

    def request(self, request_id: str, folder: ModelFolder, **more: Any) -> Request:
        """Return what the engine is given."""
        image, mask = self.picture(), self.mask()
        return Request(request_id, folder, self.spec(folder), image, mask, **more)

    def spec(self, folder: ModelFolder) -> GenerationSpec:
        """Return the checked request."""
        asked = SpecRequest(
            prompt=self.prompt, negative_prompt=self.negative, width=self.size[0], height=self.size[1],
            images=self.images, steps=self.steps, guidance_scale=self.guidance, seed=self.seed, sampler=self.sampler,
            strength=self.strength, preview=self.preview, input_image="" if self.task == "text" else _UPLOAD,
            mask_image=_UPLOAD if self.task == "inpaint" else "",
        )  # fmt: skip
        return resolve(asked, folder.model, fresh_seed=0)

    def picture(self) -> Pixels | None:
        """Return a picture of rough patches."""
        if self.task == "text":
            return None
        width, height = self.size
        patches = np.random.default_rng(7).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        return patches.repeat(8, axis=0).repeat(8, axis=1)

    def mask(self) -> Mask | None:
        """Return a mask of the right lower part."""
        if self.task != "inpaint":
            return None
        mask = np.zeros((self.size[1], self.size[0]), dtype=np.uint8)
        mask[8:, 12:] = 255
        return mask


@dataclass(slots=True)
class _Playing:
    id: str
    wish: Wish
    said: Said = field(default_factory=Said)
    joined: bool = False
    left: bool = False
    rested: bool = False
    resumes_at: int | None = None


def play(stage: Stage, folders: Mapping[str, ModelFolder], wishes: Sequence[Wish]) -> dict[str, tuple[Wish, Said]]:
    """Let a workload happen to its end; returns what was said of each request that was not cancelled, by id.

    Cancelled ones are checked here. Whatever happens, the engine is left empty.
    """
    cast = [_Playing(f"r{number}", wish) for number, wish in enumerate(wishes)]
    stage.latents.clear()
    try:
        for turn in range(_MOST_TURNS):
            for each in cast:
                _act(stage, folders, each, turn)
            if all(each.said.over for each in cast):
                break
            stage.turn()
    finally:
        for each in cast:
            if not each.said.over:
                stage.engine.cancel(each.id)
    load = stage.engine.load()
    assert (load.drawing, load.waiting, load.parked, load.rows) == (0, 0, 0, 0)
    for each in cast:
        if each.left:
            (end,) = each.said.ends
            assert isinstance(end, Cancelled)
    return {each.id: (each.wish, each.said) for each in cast if not each.left}


def _act(stage: Stage, folders: Mapping[str, ModelFolder], each: _Playing, turn: int) -> None:
    wish, engine = each.wish, stage.engine
    if wish.evicts_at == turn:
        engine.evict(folders[wish.family].model.pinned)
    if not each.joined:
        if turn >= wish.joins_at:
            each.joined = True
            engine.admit(wish.request(each.id, folders[wish.family]), each.said)
        return
    done = len(each.said.steps)
    if each.resumes_at is not None and turn >= each.resumes_at:
        each.resumes_at = None
        each.left = wish.rests_for_ever
        assert engine.cancel(each.id) if wish.rests_for_ever else engine.resume(each.id)
    if each.said.over:
        return
    if wish.leaves_at is not None and done >= wish.leaves_at and not each.left:
        each.left = engine.cancel(each.id)
        each.resumes_at = None
    elif wish.rests_at is not None and done >= wish.rests_at and not each.rested:
        each.rested = engine.park(each.id)
        each.resumes_at = turn + wish.rest if each.rested else None


def check(
    stage: Stage, folders: Mapping[str, ModelFolder], solos: Solos, request_id: str, wish: Wish, said: Said
) -> None:
    """Check that a request ended as it would have ended alone."""
    folder = folders[wish.family]
    spec = wish.spec(folder)
    pictures = said.pictures
    assert len(pictures) == spec.images
    for index, picture in enumerate(pictures):
        solo = solos.draw(folder, spec, index, wish.picture(), wish.mask())
        assert said.steps == [(step, solo.steps[-1]) for step in solo.steps]
        assert_same_latents(stage.latents[request_id][index], solo.latents[0])
        assert_same_pixels(picture, solo.picture)
    assert not said.after_the_end


def assert_same_latents(ours: torch.Tensor, expected: torch.Tensor) -> None:
    """Within what sums in another order may differ by."""
    assert ours.shape == expected.shape
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    assert float((ours - expected).abs().max()) <= allowed


def assert_same_pixels(ours: Pixels, expected: Pixels) -> None:
    """Within one level of 255."""
    assert ours.shape == expected.shape
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 1
