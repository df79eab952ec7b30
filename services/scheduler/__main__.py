"""`python -m services.scheduler`."""

from __future__ import annotations

from libs.rpc import process
from services.scheduler.app import main
from services.scheduler.settings import Settings

if __name__ == "__main__":
    process.run("scheduler", Settings, main)
