"""The tiny pipelines are fit to prove something: their pictures hang on everything that a packed forward could mix up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.contract.engine.families import FAMILIES
from tests.contract.engine.harness import Wish

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_is_neither_flat_nor_indifferent(one_thread, folders, solos, family):
    wish = Wish(family, task="image" if family == "svd" else "text", steps=12)
    others = [replace(wish, seed=1), replace(wish, steps=11), replace(wish, guidance=6.0)]
    others += [] if family == "svd" else [replace(wish, prompt="a blue square at night")]
    folder = folders[family]
    picture, *different = (solos.draw(folder, each.spec(folder), 0, each.picture()).picture for each in (wish, *others))
    assert picture.std() > 20
    for other in different:
        assert np.abs(picture.astype(int) - other.astype(int)).max() > 5
