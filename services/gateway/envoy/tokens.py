"""Tokens of an identity provider: Envoy checks them, the rate limiter decides whom they stand for.

A token with a good signature, the issuer, the audience and an end is taken away here; its claims go to the rate
limiter as metadata, which nothing outside can set. One that is not good stays where it is and its fault goes along, so
that the caller is refused there, in our words and with the headers of the limits. A token in the URL is not looked at.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from envoy_data_plane.envoy.config.core.v3 import DataSource, HttpUri, TransportSocket
from envoy_data_plane.envoy.config.route.v3 import RouteMatch
from envoy_data_plane.envoy.extensions.filters.http.jwt_authn.v3 import (
    JwksAsyncFetch,
    JwtAuthentication,
    JwtHeader,
    JwtProvider,
    JwtRequirement,
    JwtRequirementOrList,
    RemoteJwks,
    RequirementRule,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Empty

from services.gateway.envoy import key_file, tls

METADATA = "envoy.filters.http.jwt_authn"
CLAIMS, FAULT = "claims", "fault"
_PROVIDER = "issuer"
_SKEW_S = 30
_FETCH_S, _KEPT_S, _FILE_KEPT_S = 5, 300, 2
_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Whose tokens are taken: `jwks` is the path of a file, or the URL, of the issuer's keys."""

    issuer: str
    audience: str
    jwks: str

    @property
    def remote(self) -> tuple[str, int, bool] | None:
        """Host and port of the keys and whether they come by TLS; None when they are in a file."""
        parts = urlsplit(self.jwks)
        if parts.scheme not in ("http", "https"):
            return None
        secure = parts.scheme == "https"
        return parts.hostname or "", parts.port or (443 if secure else 80), secure


def parse(issuer: str, audience: str, jwks: str) -> Tokens | None:
    """Return what the settings say; None when they are empty. Raises ValueError with what is wrong."""
    given = {"issuer": issuer, "audience": audience, "JWKS": jwks}
    missing = [name for name, value in given.items() if not value]
    if len(missing) == len(given):
        return None
    if missing:
        raise ValueError(f"tokens need issuer, audience and JWKS together; there is no {' and no '.join(missing)}")
    tokens = Tokens(issuer, audience, jwks)
    problem = _problem(tokens)
    if problem:
        raise ValueError(problem)
    return tokens


def authentication(tokens: Tokens, cluster: str) -> JwtAuthentication:
    """Return the filter; `cluster` is the place of keys that are not in a file."""
    provider = JwtProvider(
        issuer=tokens.issuer,
        audiences=[tokens.audience],
        require_expiration=True,
        clock_skew_seconds=_SKEW_S,
        from_headers=[JwtHeader(name="authorization", value_prefix=prefix) for prefix in ("Bearer ", "bearer ")],
        payload_in_metadata=CLAIMS,
        failed_status_in_metadata=FAULT,
    )
    url, kept_s = (tokens.jwks, _KEPT_S) if tokens.remote else (key_file.URL, _FILE_KEPT_S)
    provider.remote_jwks = RemoteJwks(
        http_uri=HttpUri(uri=url, cluster=cluster, timeout=timedelta(seconds=_FETCH_S)),
        cache_duration=timedelta(seconds=kept_s),
    )
    if tokens.remote:  # ahead of the need; the main thread, which does it, has no way to a listener inside
        provider.remote_jwks.async_fetch = JwksAsyncFetch(fast_listener=True)
    either = [JwtRequirement(provider_name=_PROVIDER), JwtRequirement(allow_missing_or_failed=Empty())]
    rule = RequirementRule(
        match=RouteMatch(prefix="/"),
        requires=JwtRequirement(requires_any=JwtRequirementOrList(requirements=either)),
    )
    return JwtAuthentication(providers={_PROVIDER: provider}, rules=[rule])


def authenticated(host: str) -> TransportSocket:
    """Return the TLS of the connection to `host`, which shows a certificate of an authority that Envoy's machine trusts."""
    name = SubjectAltNameMatcher(san_type=SubjectAltNameMatcherSanType.DNS, matcher=StringMatcher(exact=host))
    trusted = CertificateValidationContext(
        trusted_ca=DataSource(filename=_AUTHORITIES), match_typed_subject_alt_names=[name]
    )
    return tls.socket(UpstreamTlsContext(sni=host, common_tls_context=CommonTlsContext(validation_context=trusted)))


def _problem(tokens: Tokens) -> str | None:
    if tokens.remote is None:
        return None if Path(tokens.jwks).is_file() else f"there is no file {tokens.jwks} with the issuer's keys"
    host, _, secure = tokens.remote
    if not host:
        return f"{tokens.jwks} names no host"
    if not secure and not _is_here(host):
        return "keys must come by https, or anybody on the way could replace them; http is for this machine only"
    return None


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
