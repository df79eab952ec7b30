"""`python -m libs.devstack`: what `darkroom up` and `make run` do, without the CLI."""

from __future__ import annotations

import asyncio
import os
import sys

from libs.devstack.settings import StackSettings
from libs.devstack.up import up
from libs.settings import load_or_exit

if __name__ == "__main__":
    sys.exit(asyncio.run(up(load_or_exit(StackSettings, os.environ))))
