"""`python -m services.modelserver`: one device of this machine, settings from DARKROOM_* variables."""

from __future__ import annotations

from libs.rpc.process import run
from services.modelserver.app import main
from services.modelserver.settings import ModelServerSettings

if __name__ == "__main__":
    run("modelserver", ModelServerSettings, main)
