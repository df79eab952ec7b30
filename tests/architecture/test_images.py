"""Light processes stay light: no service but the model server may need torch, diffusers or NVML to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
for name in ("torch", "diffusers", "transformers", "pynvml"):
    sys.modules[name] = None  # importing it raises ImportError
import importlib
importlib.import_module("services.{service}.app")
"""


@pytest.mark.parametrize("service", ["gateway", "scheduler", "ratelimiter"])
def test_starts_without_the_model_servers_packages(service: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(service=service)], capture_output=True, text=True, check=False, timeout=60
    )
    assert child.returncode == 0, child.stderr
