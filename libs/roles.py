"""Who takes part in a mesh, by the names that stand in certificates, and the files in which those lie."""

from __future__ import annotations

GATEWAY, SCHEDULER, RATELIMITER, MODELSERVER = "gateway", "scheduler", "ratelimiter", "modelserver"
ENVOY = "envoy"
OPERATOR = "operator"  # `darkroom`, and the supervisor of a stack

SERVICES = (GATEWAY, SCHEDULER, RATELIMITER, MODELSERVER)  # they answer calls; the others only make them
EVERY = (*SERVICES, ENVOY, OPERATOR)

CERTIFICATE_FILE, KEY_FILE, AUTHORITY_FILE = "tls.crt", "tls.key", "ca.crt"  # as in Kubernetes secrets of type tls

_DOMAIN = "spiffe://darkroom/"


def identity(role: str) -> str:
    """Return the URI that a certificate of this role carries."""
    return _DOMAIN + role


def client_identity(name: str) -> str:
    """Return the URI of a caller at the door, which is of no role inside."""
    return f"{_DOMAIN}client/{name}"
