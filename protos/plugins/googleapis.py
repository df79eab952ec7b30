"""Copy the google/api and google/rpc protos that ours import from the installed wheel, so that buf needs no registry."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from google.api import http_pb2

FILES = (
    "api/annotations.proto",
    "api/http.proto",
    "api/httpbody.proto",
    "rpc/status.proto",
    "rpc/error_details.proto",
)


def copy(target: Path) -> None:
    """Put the files below `target/google`."""
    source = Path(http_pb2.__file__).parents[1]
    for name in FILES:
        path = target / "google" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, path)


if __name__ == "__main__":
    copy(Path(sys.argv[1]))
