"""`python -m services.modelserver`: one device of this machine, settings from DARKROOM_* variables."""

from __future__ import annotations

import os
import sys

from libs.rpc.process import run
from services.modelserver.app import main
from services.modelserver.settings import ModelServerSettings


def serve() -> None:
    """Run the process; once the device is lost its libraries, asked to tidy up, may hang, so they are not asked."""
    try:
        run("modelserver", ModelServerSettings, main)
    except SystemExit as leaving:
        if leaving.code != 1:
            raise
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    serve()
