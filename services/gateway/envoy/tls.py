"""TLS at the door and towards the services, with certificates that Envoy reads again when their files are replaced.

Only what comes as a secret of its own is read again, so each is a file beside the configuration (`secrets`), which
names the files of the certificate and the folder to watch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from betterproto2 import Message
from envoy_data_plane.envoy.config.core.v3 import (
    ApiVersion,
    ConfigSource,
    DataSource,
    PathConfigSource,
    TransportSocket,
    WatchedDirectory,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
    CertificateValidationContext,
    CommonTlsContext,
    CommonTlsContextCombinedCertificateValidationContext,
    DownstreamTlsContext,
    SdsSecretConfig,
    Secret,
    SubjectAltNameMatcher,
    SubjectAltNameMatcherSanType,
    TlsCertificate,
    TlsParameters,
    TlsParametersTlsProtocol,
    UpstreamTlsContext,
)
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryResponse
from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
from envoy_data_plane.google.protobuf import Any

from libs import roles

_OWN, _MESH, _DOOR, _CLIENTS = "mesh-certificate", "mesh-authority", "door-certificate", "door-clients"


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths as Envoy sees them; what is empty is off.

    `mesh` is a folder with tls.crt, tls.key and ca.crt of Envoy's own, `clients` the authority whose certificates the
    door asks callers for, `secrets` the folder of the files that `secrets` renders.
    """

    secrets: str = ""
    mesh: str = ""
    certificate: str = ""
    key: str = ""
    clients: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError when parts of it are missing."""
        if bool(self.certificate) != bool(self.key) or (self.clients and not self.certificate):
            raise ValueError("a door with TLS needs a certificate and its key")
        if (self.mesh or self.certificate) and not self.secrets:
            raise ValueError("TLS needs a folder for the files that say where the certificates are")


PLAIN = Tls()


def upstream(tls: Tls, role: str) -> TransportSocket | None:
    """Return how a process of that role is connected to: it must show that it is one."""
    if not tls.mesh:
        return None
    identity = SubjectAltNameMatcher(
        san_type=SubjectAltNameMatcherSanType.URI, matcher=StringMatcher(exact=roles.identity(role))
    )
    believed = CommonTlsContextCombinedCertificateValidationContext(
        default_validation_context=CertificateValidationContext(match_typed_subject_alt_names=[identity]),
        validation_context_sds_secret_config=_secret(tls, _MESH),
    )
    common = CommonTlsContext(
        tls_params=_params(),
        tls_certificate_sds_secret_configs=[_secret(tls, _OWN)],
        combined_validation_context=believed,
        alpn_protocols=["h2"],
    )
    return socket(UpstreamTlsContext(common_tls_context=common, sni=role))


def downstream(tls: Tls) -> TransportSocket | None:
    """Return how callers connect to the door."""
    if not tls.certificate:
        return None
    common = CommonTlsContext(
        tls_params=_params(),
        tls_certificate_sds_secret_configs=[_secret(tls, _DOOR)],
        alpn_protocols=["h2", "http/1.1"],
    )
    if tls.clients:
        common.validation_context_sds_secret_config = _secret(tls, _CLIENTS)
    return socket(DownstreamTlsContext(common_tls_context=common, require_client_certificate=bool(tls.clients)))


def secrets(tls: Tls) -> Mapping[str, DiscoveryResponse]:
    """Return the files that belong into `tls.secrets`, by name."""
    found: list[Secret] = []
    if tls.mesh:
        folder = PurePosixPath(tls.mesh)
        found.append(_certificate(_OWN, folder / roles.CERTIFICATE_FILE, folder / roles.KEY_FILE))
        found.append(_authority(_MESH, folder / roles.AUTHORITY_FILE))
    if tls.certificate:
        found.append(_certificate(_DOOR, PurePosixPath(tls.certificate), PurePosixPath(tls.key)))
    if tls.clients:
        found.append(_authority(_CLIENTS, PurePosixPath(tls.clients)))
    return {f"{secret.name}.yaml": DiscoveryResponse(resources=[Any.pack(secret)]) for secret in found}


def _certificate(name: str, certificate: PurePosixPath, key: PurePosixPath) -> Secret:
    pair = TlsCertificate(
        certificate_chain=DataSource(filename=str(certificate)),
        private_key=DataSource(filename=str(key)),
        watched_directory=WatchedDirectory(path=str(certificate.parent)),
    )
    return Secret(name=name, tls_certificate=pair)


def _authority(name: str, file: PurePosixPath) -> Secret:
    believed = CertificateValidationContext(
        trusted_ca=DataSource(filename=str(file)), watched_directory=WatchedDirectory(path=str(file.parent))
    )
    return Secret(name=name, validation_context=believed)


def _secret(tls: Tls, name: str) -> SdsSecretConfig:
    source = PathConfigSource(path=str(PurePosixPath(tls.secrets) / f"{name}.yaml"))
    return SdsSecretConfig(
        name=name, sds_config=ConfigSource(path_config_source=source, resource_api_version=ApiVersion.V3)
    )


def _params() -> TlsParameters:
    return TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2)


def socket(context: Message) -> TransportSocket:
    """Return the TLS of a connection on either side."""
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=Any.pack(context))
