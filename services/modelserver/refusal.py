"""Why a model folder is not served; the reason is shown to callers and to whoever runs the platform."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Unusable(Exception):
    """A model folder that is listed but not served; the message says what is wrong with it."""


def read_json(file: Path, shown: str) -> dict[str, Any]:
    """Return the JSON object in a file; raises Unusable, calling the file `shown`."""
    try:
        document = json.loads(file.read_text())
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise Unusable(f"a file is missing: {shown}" if missing else f"{shown} cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise Unusable(f"{shown} is not valid JSON: {error}") from error
    if not isinstance(document, dict):
        raise Unusable(f"{shown} is not a JSON object")
    return document
