"""`python -m services.ratelimiter`."""

from __future__ import annotations

from libs.rpc import process
from services.ratelimiter.app import main
from services.ratelimiter.settings import Settings

if __name__ == "__main__":
    process.run("ratelimiter", Settings, main)
