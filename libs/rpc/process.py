"""The frame of every process: settings, log, traces and metrics in; one coroutine; everything flushed at the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import uvloop

from libs import settings
from libs.secret_files import SecretMissing
from libs.telemetry import logs, metrics, tracing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSettings:
    """What every process takes from the environment."""

    data: Path
    """Folder of everything this platform keeps on this machine."""
    listen: str = field(default="127.0.0.1:0", metadata={"check": settings.is_address})
    """host:port of the gRPC listener."""
    metrics_listen: str = field(default="", metadata={"check": settings.is_address_or_empty})
    """host:port of the Prometheus listener; empty switches it off."""
    secrets: Path = Path()
    """Folder of tokens and signing keys; by default `secrets` in the data folder."""
    mtls: str = ""
    """Folder of certificates, with which services then know each other instead of by the mesh token; `on`: `tls` in the
    folder of secrets; empty or `off`: tokens."""
    log_level: str = field(default="info", metadata={"check": settings.one_of("debug", "info", "warning", "error")})
    """Least severity that is logged."""
    log_format: str = field(default="json", metadata={"check": settings.one_of("json", "text")})
    """`json` or `text`."""
    drain_s: float = field(default=10.0, metadata={"check": settings.is_positive})
    """Seconds that running work has to finish after a stop signal."""

    @property
    def secrets_folder(self) -> Path:
        """The folder of tokens and signing keys."""
        return self.secrets if self.secrets != Path() else self.data / "secrets"


P = TypeVar("P", bound=ProcessSettings)


def run(service: str, kind: type[P], main: Callable[[P], Awaitable[None]]) -> None:
    """Run the process `service`: read its settings and secrets or exit 2, then run `main` until it returns."""
    values = settings.load_or_exit(kind, os.environ)
    logs.start(service, values.log_level, values.log_format)
    logger.info("starting", extra={"settings": settings.describe(values)})
    stop_tracing = tracing.start(service, os.environ)
    stop_metrics = metrics.start(service, values.metrics_listen, os.environ)

    async def body() -> None:
        await main(values)

    gc.freeze()  # what was imported stays: the collector would walk over it for 50 ms again and again
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(body())
    except SecretMissing as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from None
    finally:
        stop_metrics()
        stop_tracing()
