from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.blobs.store import check_key
from libs.blobs.uploads import LIFE_S, expires_at, upload_key
from libs.ids import TenantId, UploadId, new_upload_id


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_every_tenant_has_a_place_of_its_own(one: str, other: str) -> None:
    upload_id = new_upload_id(1.0)
    key = check_key(upload_key(TenantId(one), upload_id))
    assert key.startswith("uploads/")
    assert (key == upload_key(TenantId(other), upload_id)) == (one == other)


@given(st.integers(0, 2**48 - 1))
def test_an_id_says_until_when_it_is_good(milliseconds: int) -> None:
    assert expires_at(new_upload_id(milliseconds / 1000)) == pytest.approx(milliseconds / 1000 + LIFE_S, abs=0.002)


@pytest.mark.parametrize("wrong", ["", "upl_", "upl_01JD", "upl_01JD000000000000000000000l", "upl_" + "0" * 27])
def test_what_is_no_upload_has_no_end(wrong: str) -> None:
    with pytest.raises(ValueError, match="ULID"):
        expires_at(UploadId(wrong))
