"""Real pipelines that come, leave and come back draw what they drew, on a device with memory of its own and without."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from services.modelserver.digests import FileDigests
from services.modelserver.engine.adapters import Adapters
from services.modelserver.engine.batch_table import BatchTable
from services.modelserver.engine.classes import LibraryClasses
from services.modelserver.engine.device import Device
from services.modelserver.engine.loading import LoadedModel, load_model
from services.modelserver.engine.outfit import Outfit
from services.modelserver.engine.protocol import ModelBroken, Tier
from services.modelserver.engine.residency import LoadFailed, Residency
from services.modelserver.engine.stepwise import StepwiseEngine
from services.modelserver.engine.weight_estimate import estimated_bytes
from services.modelserver.models import ModelFolder, scan
from tests.contract.engine.families import save_family
from tests.contract.engine.harness import Wish, assert_same_pixels, folders_of
from tests.contract.engine.solo import Solos
from tests.contract.engine.step_driver import Driver
from tests.contract.engine.tiny_lora import save_lora
from tests.unit.services.modelserver.engine.resident_models import OwnMemory

PATIENCE_S = 60.0
FAMILIES = ("sd15", "sdxl", "flux")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return folders_of(FAMILIES, tmp_path_factory.mktemp("families"))


@pytest.fixture(scope="module")
def lora_folder(tmp_path_factory):
    path = save_family("sd15", tmp_path_factory.mktemp("lora") / "painter", seed=3)
    pipe = DiffusionPipeline.from_pretrained(str(path), local_files_only=True)
    save_lora(pipe, path / "loras" / "ink.safetensors", 1)
    (folder,) = scan([path], FileDigests(path.parent / "digests"), LibraryClasses())
    return folder


def room_for_one(folders: dict[str, ModelFolder]) -> int:
    return int(1.02 * max(estimated_bytes(folder, 4) for folder in folders.values()))


class Place:
    """A Residency of real models, with room on the device for the largest of them."""

    def __init__(self, folders: dict[str, ModelFolder], *, own_memory: bool) -> None:
        self.loads: list[str] = []
        self.now_s = 0.0
        self.budget = room_for_one(folders)
        self._woken = threading.Event()
        self.residency = Residency(
            Device("cpu", threads=1), self.budget, 10 * self.budget, self._load, clock=lambda: self.now_s, idle_s=0.0,
            wake=self._woken.set,
        )  # fmt: skip
        if own_memory:
            self.residency.use_memory(OwnMemory())

    def _load(self, folder: ModelFolder, dtype: torch.dtype, tell: Callable[[float], None]) -> LoadedModel:
        self.loads.append(folder.model.id)
        return load_model(folder, dtype, tell)

    def until(self, come: Callable[[], bool]) -> list[object]:
        changes: list[object] = []
        while True:
            self._woken.clear()
            changes += self.residency.advance(())
            if come():
                return changes
            assert self._woken.wait(PATIENCE_S), self.residency.tiers()

    def brought(self, folder: ModelFolder) -> LoadedModel:
        self.now_s += 60.0  # whoever came before has had its turn
        self.residency.want(folder)
        self.until(lambda: self.residency.on_device(folder.model.pinned) is not None)
        model = self.residency.on_device(folder.model.pinned)
        assert model is not None
        return model


def drawn(model) -> np.ndarray:
    noise = torch.Generator("cpu").manual_seed(5)
    with torch.inference_mode():
        return model.pipe(
            "a red circle", width=32, height=32, num_inference_steps=2, generator=noise, output_type="np"
        ).images


@pytest.mark.parametrize("own_memory", [True, False])
def test_pictures_are_the_same_before_and_after_a_swap_and_an_eviction(folders, own_memory):
    place = Place(folders, own_memory=own_memory)
    before = {name: drawn(place.brought(folder)) for name, folder in folders.items()}
    assert len(place.residency.tiers()) == (3 if own_memory else 1)
    for name in (*FAMILIES, *reversed(FAMILIES)):
        assert np.array_equal(drawn(place.brought(folders[name])), before[name])
    if own_memory:
        assert sorted(place.loads) == sorted(FAMILIES), "coming back from the host reads no files"
    assert place.residency.evict(folders["sd15"].model.pinned, busy=())
    assert np.array_equal(drawn(place.brought(folders["sd15"])), before["sd15"])
    place.residency.close()


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_model_will_take_is_known_before_it_is_read(folders, name):
    expected = estimated_bytes(folders[name], 4)
    actual = load_model(folders[name], torch.float32, lambda share: None).weight_bytes
    assert expected <= actual <= 1.02 * expected  # buffers that no file holds come on top


def test_adapters_go_where_their_model_goes(folders, lora_folder):
    place = Place({**folders, "lora": lora_folder}, own_memory=True)
    model = place.brought(lora_folder)
    plain = drawn(model)
    (lora,) = lora_folder.loras
    adapters = Adapters(model)
    adapters.use(((lora.name, 1.0),))
    changed = drawn(model)
    assert not np.array_equal(plain, changed)
    place.brought(folders["sdxl"])
    assert place.residency.on_device(lora_folder.model.pinned) is None
    assert np.array_equal(drawn(place.brought(lora_folder)), changed)
    adapters.use(())
    assert np.array_equal(drawn(model), plain)
    place.residency.close()


def test_a_model_with_a_broken_file_does_not_come_and_a_mended_one_does(folders, tmp_path):
    shutil.copytree(folders["sd15"].path, tmp_path / "sd15")
    (folder,) = scan([tmp_path / "sd15"], FileDigests(tmp_path / "digests"), LibraryClasses())
    file = folder.path / "unet" / "diffusion_pytorch_model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    place = Place(folders, own_memory=True)
    place.residency.want(folder)
    place.residency.want(folders["flux"])
    (failed, *_) = place.until(lambda: place.residency.on_device(folders["flux"].model.pinned) is not None)
    assert isinstance(failed, LoadFailed)
    assert isinstance(failed.error, ModelBroken)
    file.write_bytes(whole)
    assert place.brought(folder) is not None
    place.residency.close()


@pytest.mark.parametrize("own_memory", [True, False])
def test_an_engine_with_room_for_one_model_draws_for_all(folders, own_memory):
    budget = room_for_one(folders)
    engine = StepwiseEngine(Outfit(Device("cpu", threads=1), BatchTable("cpu"), budget, 10 * budget))
    if own_memory:
        engine._residency.use_memory(OwnMemory())
    driver, solos = Driver(engine), Solos()
    for _ in range(2):
        asked = []
        for seed, name in enumerate([*FAMILIES, *FAMILIES]):
            wish = Wish(name, steps=2, seed=seed)
            asked.append((name, wish, driver.admit(folders[name], wish.spec(folders[name]))[1]))
        driver.finish(*(said for _, _, said in asked))
        for name, wish, said in asked:
            (picture,) = said.pictures
            assert_same_pixels(picture, solos.draw(folders[name], wish.spec(folders[name]), 0).picture)
    engine.warm(folders["sd15"], Tier.VRAM)
    driver.until(lambda: engine.residency().get(folders["sd15"].model.pinned) is Tier.VRAM)
    assert engine.evict(folders["sd15"].model.pinned)
    wish = Wish("sd15", steps=2, seed=1)
    (picture,) = driver.draw(folders["sd15"], wish.spec(folders["sd15"]))
    assert_same_pixels(picture, solos.draw(folders["sd15"], wish.spec(folders["sd15"]), 0).picture)
    engine.close()
