"""Finding, naming and versioning of model folders, and what darkroom.toml may say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libs.generation.model import ModelDefaults, ModelLimits
from services.modelserver.digests import FileDigests
from services.modelserver.models import scan
from tests.unit.services.modelserver.model_folders import SomeClasses, write_model


def _scan(tmp_path, *places: Path):
    return scan(places or [tmp_path / "models"], FileDigests(tmp_path / "run" / "digests"), SomeClasses())


def _described(tmp_path, text: str):
    (write_model(tmp_path / "models" / "m") / "darkroom.toml").write_text(text)
    (folder,) = _scan(tmp_path)
    return folder


def test_every_subfolder_with_an_index_is_a_model_and_so_is_a_folder_that_holds_one(tmp_path):
    write_model(tmp_path / "models" / "b")
    write_model(tmp_path / "models" / "a")
    (tmp_path / "models" / "notes").mkdir()
    alone = write_model(tmp_path / "elsewhere" / "alone")
    found = _scan(tmp_path, tmp_path / "models", alone, tmp_path / "nowhere")
    assert [folder.model.id for folder in found] == ["a", "alone", "b"]
    assert all(folder.model.usable for folder in found)


def test_the_first_of_two_folders_of_one_name_is_served(tmp_path):
    first, second = write_model(tmp_path / "x" / "m"), write_model(tmp_path / "y" / "m")
    assert [folder.path for folder in _scan(tmp_path, first, second)] == [first]


def test_a_name_that_is_no_id_is_listed_with_the_reason(tmp_path):
    write_model(tmp_path / "models" / "My Model")
    (folder,) = _scan(tmp_path)
    assert "lower case" in folder.model.unusable_reason


def test_a_version_is_a_digest_of_names_and_contents_but_not_of_the_description(tmp_path):
    model = write_model(tmp_path / "models" / "m")

    def version():
        (folder,) = _scan(tmp_path)
        return folder.model.version

    first = version()
    assert len(first) == 12
    assert int(first, 16) >= 0
    (model / "darkroom.toml").write_text('aliases = ["default"]')
    (model / ".cache").mkdir()
    (model / ".cache" / "x").write_text("hidden")
    assert version() == first
    (model / "vae" / "config.json").write_text('{"sample_size": 32}')
    changed = version()
    assert changed != first
    (model / "README.md").write_text("notes")
    assert version() != changed


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    write_model(tmp_path / "models" / "m")
    (before,) = _scan(tmp_path)
    remembered = json.loads((tmp_path / "run" / "digests").read_text())
    assert len(remembered) == 9

    def unread(*_args):
        raise AssertionError("hashed again")

    monkeypatch.setattr("services.modelserver.digests.hashlib.file_digest", unread)
    (after,) = _scan(tmp_path)
    assert after.model.version == before.model.version
    (tmp_path / "models" / "m" / "vae" / "config.json").write_text("{}")
    with pytest.raises(AssertionError, match="hashed again"):
        _scan(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"/x": 3}'])
def test_a_memory_of_digests_that_is_broken_is_made_anew(tmp_path, text):
    write_model(tmp_path / "models" / "m")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "digests").write_text(text)
    (folder,) = _scan(tmp_path)
    assert folder.model.usable


def test_sizes_and_samplers_follow_from_the_model_without_a_description(tmp_path):
    write_model(tmp_path / "models" / "m")
    (folder,) = _scan(tmp_path)
    model = folder.model
    assert (model.defaults.width, model.defaults.height, model.defaults.sampler) == (512, 512, "euler")
    assert (model.limits.max_size, model.limits.size_step) == (1024, 8)
    assert model.limits.samplers == ("euler", "euler_a", "ddim", "dpmpp_2m", "unipc", "lcm")


def test_a_description_fills_in_what_it_says(tmp_path):
    folder = _described(
        tmp_path,
        """
        aliases = ["default", "nice"]
        [defaults]
        width = 128
        height = 64
        steps = 8
        guidance_scale = 2
        sampler = "ddim"
        [limits]
        min_size = 64
        max_size = 128
        size_step = 8
        max_pixels = 16384
        max_steps = 30
        max_images = 2
        max_guidance_scale = 9
        samplers = ["ddim"]
        [options]
        dtype = "float16"
        """,
    )
    assert folder.model.usable
    assert folder.model.aliases == ("default", "nice")
    assert folder.model.defaults == ModelDefaults(128, 64, 8, 2.0, "ddim", 0.8)
    assert folder.model.limits == ModelLimits(64, 128, 8, 16384, 30, 2, 9.0, ("ddim",))
    assert folder.options.dtype == "float16"


def test_the_default_model_is_listed_first(tmp_path):
    write_model(tmp_path / "models" / "a")
    (write_model(tmp_path / "models" / "z") / "darkroom.toml").write_text('aliases = ["default"]')
    assert [folder.model.id for folder in _scan(tmp_path)] == ["z", "a"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("aliases = [", "darkroom.toml is broken"),
        ("colour = 1", "colour is unknown"),
        ("[defaults]\nwith = 1", "defaults.with is unknown"),
        ("[limits]\nmax = 1", "limits.max is unknown"),
        ("[options]\ncustom_pipeline = 'x'", "options.custom_pipeline is unknown"),
        ("defaults = 3", "defaults must be a table"),
        ("aliases = 'x'", "aliases must be a list"),
        ("aliases = ['Has Space']", "aliases must be a list"),
        ("[defaults]\nwidth = '128'", "defaults.width must be a whole number"),
        ("[defaults]\nsteps = true", "defaults.steps must be a whole number"),
        ("[defaults]\nsteps = 2.5", "defaults.steps must be a whole number"),
        ("[defaults]\nguidance_scale = -1", "defaults.guidance_scale must be a number from 0"),
        ("[defaults]\nsampler = 3", "defaults.sampler must be a text"),
        ("[limits]\nsamplers = []", "limits.samplers must be a list"),
        ("[limits]\nsamplers = ['magic']", "limits.samplers does not fit"),
        ("[limits]\nsize_step = 0", "limits.size_step does not fit"),
        ("[limits]\nmax_images = 0", "limits.max_images does not fit"),
        ("[defaults]\nwidth = 100", "defaults.width does not fit"),
        ("[defaults]\nsteps = 0", "defaults.steps does not fit"),
        ("[options]\ndtype = 'int8'", "options.dtype does not fit"),
    ],
)
def test_a_wrong_description_is_named_word_by_word(tmp_path, text, words):
    assert words in _described(tmp_path, text).model.unusable_reason


def test_a_linked_component_counts_like_its_own_files(tmp_path):
    shared, folder = tmp_path / "shared", write_model(tmp_path / "models" / "m")
    (folder / "unet").rename(shared)
    (folder / "unet").symlink_to(shared, target_is_directory=True)
    (folder / "vae" / "round").symlink_to(folder, target_is_directory=True)
    (before,) = _scan(tmp_path)
    assert before.model.usable
    (shared / "config.json").write_text('{"sample_size": 32}')
    (after,) = _scan(tmp_path)
    assert after.model.version != before.model.version
    (shared / "old.ckpt").write_bytes(b"x")
    (refused,) = _scan(tmp_path)
    assert "unet/old.ckpt" in refused.model.unusable_reason


def test_a_folder_that_nobody_may_look_into_does_not_keep_the_others_from_serving(tmp_path, monkeypatch):
    for name in ("lost+found", "m"):
        write_model(tmp_path / "models" / name)
    is_file = Path.is_file

    def refusing(path):  # as the system does for all but root
        if path.parent.name == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refusing)
    assert [folder.model.id for folder in _scan(tmp_path)] == ["m"]
