"""`python -m services.modelserver`: one device of this machine, settings from DARKROOM_* variables."""

from __future__ import annotations

import os
import sys

from libs.rpc.process import run
from services.modelserver.app import main
from services.modelserver.settings import ModelServerSettings

if __name__ == "__main__":
    try:
        run("modelserver", ModelServerSettings, main)
    except SystemExit as leaving:
        if leaving.code != 1:
            raise
        # The device was lost: its libraries, asked to tidy up, may hang or crash, and there is nothing left to tidy.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
