"""Which tests share a worker of pytest-xdist, with `--dist loadgroup`: those that share what is slow to start.

By their folder. xdist's own mark does this by changing node ids, which pytest 9.2 does not let it do any more: the
tests are spread as if nothing were marked (pytest-xdist#1386).
"""

from __future__ import annotations

import pytest
from xdist.remote import Producer  # type: ignore[import-untyped]
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

FOLDERS = ("tests/e2e/", "tests/integration/services/door/")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    """Return who gives tests to workers."""
    return _Sharing(config, log) if config.getoption("dist") == "loadgroup" else None


class _Sharing(LoadScopeScheduling):
    """Gives all tests of a folder to one worker, and every other test to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in FOLDERS if nodeid.startswith(folder)), nodeid)
