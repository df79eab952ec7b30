"""How a no-op job of another queue says that it ran: a byte at the end of a file that its workers share."""

from __future__ import annotations

import os

BROKER, FILE = "BENCH_BROKER", "BENCH_RAN"


def opened() -> int:
    """Return a descriptor of the file that the environment names."""
    return os.open(os.environ.get(FILE, os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def ran(descriptor: int) -> None:
    """Say that one more job ran."""
    os.write(descriptor, b".")
