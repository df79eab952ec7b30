"""A real PostgreSQL for tests: the one that `make run` brings along for several schedulers."""

from __future__ import annotations

from libs.devstack.postgres import PostgresServer

__all__ = ["PostgresServer"]
