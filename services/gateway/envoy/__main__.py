"""Print Envoy's configuration as YAML: `python -m services.gateway.envoy --gateway HOST:PORT …`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from services.gateway.envoy import bursts, tls, tokens
from services.gateway.envoy.bootstrap import Edge, render
from services.gateway.envoy.tls import Tls


def main(arguments: list[str] | None = None) -> int:
    """Print the configuration for the addresses in `arguments`; with TLS, write what belongs beside it."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        limits, secured = bursts.parse(given.bursts), _tls(given)
        jwt = tokens.parse(given.jwt_issuer, given.jwt_audience, given.jwt_jwks)
    except ValueError as error:
        parser.error(str(error))
    edge = Edge(
        given.listen,
        given.admin,
        given.gateway,
        given.ratelimiter,
        given.otlp,
        limits,
        given.trusted_hops,
        secured,
        jwt,
    )
    for name, secret in tls.secrets(secured).items():
        (Path(given.secrets) / name).write_text(yaml.safe_dump(secret.to_dict(), sort_keys=False, width=120))
    sys.stdout.write("# Rendered by `python -m services.gateway.envoy`; do not edit.\n")
    yaml.safe_dump(_whole(render(edge).to_dict()), sys.stdout, sort_keys=False, width=120)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.gateway.envoy", description=__doc__)
    parser.add_argument("--listen", default="0.0.0.0:8080", help="address of the door")
    parser.add_argument("--admin", default="127.0.0.1:9901", help="address of Envoy's own admin pages")
    parser.add_argument("--gateway", default="gateway:8081", help="address of the gateway")
    parser.add_argument("--ratelimiter", default="ratelimiter:8082", help="address of the rate limiter")
    parser.add_argument("--otlp", default="", help="address of an OTLP collector; tracing is off without it")
    parser.add_argument("--bursts", default="", help=f"bounds of one address: {bursts.FORM}")
    parser.add_argument("--trusted-hops", type=int, default=0, help="proxies before the door that are believed")
    parser.add_argument("--mesh-certificates", default="", help="folder of tls.crt, tls.key, ca.crt for mTLS inside")
    parser.add_argument("--door-certificate", default="", help="file; without it the door is plain")
    parser.add_argument("--door-key", default="", help="file of its key")
    parser.add_argument("--door-clients", default="", help="file of the authority whose certificates callers must show")
    parser.add_argument("--secrets", default="", help="folder to write what TLS needs beside the configuration")
    parser.add_argument("--jwt-issuer", default="", help="whose tokens are taken; none without it")
    parser.add_argument("--jwt-audience", default="", help="audience that a token must be for")
    parser.add_argument("--jwt-jwks", default="", help="file or https URL of the issuer's keys")
    return parser


def _tls(given: argparse.Namespace) -> Tls:
    return Tls(given.secrets, given.mesh_certificates, given.door_certificate, given.door_key, given.door_clients)


def _whole(value: object) -> object:
    """Write whole numbers as such: a Struct holds floats only, and Envoy reads `14.0` in YAML as a string."""
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


if __name__ == "__main__":
    sys.exit(main())
