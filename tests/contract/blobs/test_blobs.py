"""The promises of `BlobStore`, checked on every adapter; the object store also with S3's attributes."""

from __future__ import annotations

import asyncio
import hashlib

import pytest
from obstore.store import MemoryStore

from libs.blobs.memory import MemoryBlobs
from libs.blobs.objects import ObjectBlobs
from libs.blobs.opening import open_blobs
from libs.blobs.store import BlobStore, checkpoint_folder, checkpoint_key, image_key
from libs.errors import NotFound, Unavailable
from libs.ids import JobId

DATA = bytes(range(256)) * 300
KEY = image_key(hashlib.sha256(DATA).hexdigest())


@pytest.fixture(params=["memory", "folder", "attributes"])
def blobs(request, tmp_path) -> BlobStore:
    if request.param == "folder":
        return open_blobs(tmp_path / "new" / "blobs")
    return MemoryBlobs() if request.param == "memory" else ObjectBlobs(MemoryStore(), attributes=True)


async def _read(blobs: BlobStore, key: str, chunk_bytes: int = 10_000) -> bytes:
    return b"".join([chunk async for chunk in blobs.get_stream(key, chunk_bytes)])


async def test_what_was_put_is_read_whole(blobs):
    await blobs.put(KEY, DATA, "image/png")
    assert await _read(blobs, KEY) == DATA
    assert await blobs.head(KEY) == len(DATA)
    assert await blobs.exists(KEY)


async def test_the_first_writer_wins_and_the_others_are_fine(blobs):
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(blobs.put(KEY, DATA, "image/png"))
    await blobs.put(KEY, b"other", "image/png")
    assert await _read(blobs, KEY) == DATA


async def test_missing_is_not_found_and_deleting_it_is_fine(blobs):
    await blobs.delete(KEY)
    assert not await blobs.exists(KEY)
    for call in (blobs.head(KEY), _read(blobs, KEY)):
        with pytest.raises(NotFound) as caught:
            await call
        assert caught.value.reason == "IMAGE_NOT_FOUND"


async def test_deleted_is_gone_and_can_come_back(blobs):
    await blobs.put(KEY, DATA, "image/png")
    await blobs.delete(KEY)
    assert not await blobs.exists(KEY)
    await blobs.put(KEY, DATA, "image/png")
    assert await blobs.exists(KEY)


async def test_an_empty_object_has_no_chunks(blobs):
    await blobs.put("images/empty", b"", "image/png")
    assert await _read(blobs, "images/empty") == b""


async def test_a_folder_lists_all_that_is_below_it_and_nothing_beside_it(blobs):
    assert await _listed(blobs, "checkpoints") == set()
    mine = {checkpoint_key(JobId("job_1"), 1, step) for step in range(1, 1100)}  # more than a page of S3
    others = {checkpoint_key(JobId("job_11"), 1, 1), "checkpoints/job_2/1-1", KEY}
    for key in mine | others:
        await blobs.put(key, b"x", "application/octet-stream")
    assert await _listed(blobs, checkpoint_folder(JobId("job_1"))) == mine
    assert await _listed(blobs, "checkpoints") == mine | others - {KEY}
    for key in mine:
        await blobs.delete(key)
    assert await _listed(blobs, checkpoint_folder(JobId("job_1"))) == set()
    with pytest.raises(ValueError, match="not the name of an object"):
        await _listed(blobs, "checkpoints/")


async def _listed(blobs: BlobStore, folder: str) -> set[str]:
    return {key async for key in blobs.list_keys(folder)}


async def test_a_folder_that_is_empty_again_is_gone(tmp_path):
    blobs = open_blobs(tmp_path / "blobs")
    key = checkpoint_key(JobId("job_1"), 1, 1)
    await blobs.put(key, DATA, "application/octet-stream")
    await blobs.delete(key)
    assert list((tmp_path / "blobs").iterdir()) == []
    await blobs.put(key, DATA, "application/octet-stream")
    assert await _read(blobs, key) == DATA


@pytest.mark.parametrize("key", ["", "/etc/passwd", "images/../x", "images/.hidden", "images//x", "images/a b"])
async def test_a_key_that_leads_elsewhere_is_refused(blobs, key):
    for call in (blobs.put(key, b"x", "image/png"), blobs.head(key), blobs.delete(key), blobs.exists(key)):
        with pytest.raises(ValueError, match="not the name of an object"):
            await call


async def test_pictures_are_named_by_their_hash_only():
    assert image_key("0" * 64) == "images/" + "0" * 64
    for wrong in ("", "0" * 63, "G" * 64, "../" + "0" * 61):
        with pytest.raises(ValueError, match="64 hex digits"):
            image_key(wrong)


async def test_a_store_that_fails_is_unavailable(tmp_path):
    blobs = open_blobs(tmp_path / "blobs")
    (tmp_path / "blobs" / "images").write_text("a file where a folder should be")
    with pytest.raises(Unavailable) as caught:
        await blobs.put(KEY, DATA, "image/png")
    assert caught.value.metadata == {"part": "blobs"}


async def test_a_store_that_does_not_answer_is_unavailable_after_the_deadline(tmp_path):
    blobs = ObjectBlobs(MemoryStore(), attributes=True, deadline_s=0.0)
    with pytest.raises(Unavailable):
        await blobs.put(KEY, DATA, "image/png")


def test_another_scheme_is_refused():
    with pytest.raises(ValueError, match="not gs://"):
        open_blobs("gs://bucket")
