"""`python -m services.gateway`: the process."""

from __future__ import annotations

from libs.rpc import process
from services.gateway.app import main
from services.gateway.settings import Settings

if __name__ == "__main__":
    process.run("gateway", Settings, main)
