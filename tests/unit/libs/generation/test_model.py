from __future__ import annotations

import pytest

from libs.errors import NotFound, PreconditionFailed
from libs.generation.model import Model, find_model

MODELS = (
    Model("shapes", "abc", "P", aliases=("default", "small")),
    Model("small", "def", "P"),
    Model("broken", "ghi", "P", unusable_reason="weights are missing"),
)


@pytest.mark.parametrize(
    ("name", "pinned"),
    [
        ("", "shapes@abc"),
        ("shapes", "shapes@abc"),
        ("default", "shapes@abc"),
        ("small", "small@def"),
        ("shapes@abc", "shapes@abc"),
    ],
)
def test_names_that_lead_to_a_model(name: str, pinned: str) -> None:
    assert find_model(name, MODELS, "shapes").pinned == pinned


def test_an_unknown_name_hears_the_known_ones() -> None:
    with pytest.raises(NotFound) as caught:
        find_model("shape", MODELS, "shapes")
    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert caught.value.metadata["did_you_mean"] == "shapes, small"


def test_a_retired_version_hears_its_successor() -> None:
    with pytest.raises(PreconditionFailed) as caught:
        find_model("shapes@old", MODELS, "shapes")
    assert (caught.value.reason, caught.value.metadata["successor"]) == ("VERSION_RETIRED", "shapes@abc")


def test_an_unusable_model_says_why() -> None:
    with pytest.raises(PreconditionFailed, match="weights are missing") as caught:
        find_model("broken", MODELS, "shapes")
    assert caught.value.reason == "MODEL_UNUSABLE"


def test_an_unknown_name_is_told_the_nearest_few() -> None:
    many = [Model(f"model-{number:03}", "1", "P") for number in range(1000)]
    with pytest.raises(NotFound) as caught:
        find_model("model-0777", many, "")
    near = caught.value.metadata["did_you_mean"].split(", ")
    assert "model-077" in near
    assert len(near) == 5
    assert len(caught.value.message) < 200
