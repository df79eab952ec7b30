"""From the setting DARKROOM_BLOBS to a store: `s3://bucket/prefix`, or a folder."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from obstore.store import LocalStore, S3Store

from libs.blobs.objects import ObjectBlobs
from libs.blobs.store import DEADLINE_S

_S3_RETRIES = 2


def open_blobs(place: str | Path, *, deadline_s: float = DEADLINE_S) -> ObjectBlobs:
    """Return the store at `place`; a folder is made when it is absent.

    Credentials, region and endpoint of S3 come from the usual AWS_* variables. Raises ValueError for another scheme
    and OSError when the folder cannot be made.
    """
    scheme, separator, _ = str(place).partition("://")
    if separator and scheme != "s3":
        raise ValueError(f"pictures are kept in a folder or under s3://, not {scheme}://")
    if separator:
        s3 = S3Store.from_url(
            str(place),
            client_options={"timeout": timedelta(seconds=deadline_s), "connect_timeout": timedelta(seconds=5)},
            retry_config={"max_retries": _S3_RETRIES},
        )
        return ObjectBlobs(s3, attributes=True, deadline_s=deadline_s)
    folder = Path(place).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return ObjectBlobs(LocalStore(folder, automatic_cleanup=True), attributes=False, deadline_s=deadline_s)
