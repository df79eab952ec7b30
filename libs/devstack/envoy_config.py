"""Envoy's configuration for this stack: rendered by the gateway's own program, with this stack's addresses."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from libs.devstack.addresses import Addresses
from libs.devstack.process import ProcessFailed
from libs.devstack.settings import StackSettings
from libs.rpc import deadlines

_DEFAULT_OTLP_PORT = 4317


def bounds(settings: StackSettings) -> tuple[str, ...]:
    """Return the renderer's arguments for what one address may send, whose word is taken for it, and whose tokens."""
    tokens = {"issuer": settings.jwt_issuer, "audience": settings.jwt_audience, "jwks": settings.jwt_jwks}
    return (
        *(part for name, value in tokens.items() if value for part in (f"--jwt-{name}", value)),
        *(("--bursts", settings.bursts) if settings.bursts else ()),
        *(("--trusted-hops", str(settings.trusted_hops)) if settings.trusted_hops else ()),
    )


def flags(addresses: Addresses, otlp_endpoint: str, bounded: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the renderer's arguments. `otlp_endpoint` is a URL; Envoy exports to plain http only."""
    given = (
        *("--listen", addresses.http),
        *("--admin", addresses.envoy_admin),
        *("--gateway", addresses.grpc["gateway"]),
        *("--ratelimiter", addresses.grpc["ratelimiter"]),
        *bounded,
    )
    collector = urlsplit(otlp_endpoint if "//" in otlp_endpoint else f"http://{otlp_endpoint}")
    if not collector.hostname or collector.scheme != "http":
        return given
    return (*given, "--otlp", f"{collector.hostname}:{collector.port or _DEFAULT_OTLP_PORT}")


async def render(addresses: Addresses, environ: Mapping[str, str], path: Path, bounded: Sequence[str] = ()) -> None:
    """Write the configuration to `path`; raises ProcessFailed with what the renderer complained of."""
    with path.open("wb") as file:
        rendering = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.gateway.envoy"),
            *flags(addresses, environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""), bounded),
            env=dict(environ),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=asyncio.subprocess.PIPE,
        )
    try:
        async with asyncio.timeout(deadlines.READY_S):
            _, complaint = await rendering.communicate()
    except TimeoutError:
        raise ProcessFailed(f"Envoy's configuration was not rendered in {deadlines.READY_S:.0f} s") from None
    finally:
        if rendering.returncode is None:
            rendering.kill()
            await rendering.wait()
    if rendering.returncode != 0:
        raise ProcessFailed(f"Envoy's configuration could not be rendered:\n{complaint.decode(errors='replace')}")
