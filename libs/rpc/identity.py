"""The certificate by which a process is known in a mesh, and the authority that it believes.

    FOLDER/ROLE/tls.crt, tls.key, ca.crt      or without ROLE, where the folder holds one role only

Files are read again when they change: servers look at every new connection, channels at every call
(`libs.rpc.renewing`). What cannot be used, because half of it is written, leaves the one before in force.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from libs.roles import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE
from libs.secret_files import SecretMissing

logger = logging.getLogger(__name__)

OFF, ON = "off", "on"
_OWN_FOLDER = "tls"
_PEER_URI = "peer_uri"

Stamp = tuple[tuple[int, int, int], ...]


def own_folder(secrets: Path) -> Path:
    """Return the folder of the authority that a stack keeps for itself, among its secrets."""
    return secrets / _OWN_FOLDER


def folder_of(setting: str, secrets: Path) -> Path | None:
    """Return the folder that DARKROOM_MTLS names: `on` is `tls` among the secrets; None where it is off."""
    if setting in ("", OFF):
        return None
    return own_folder(secrets) if setting == ON else Path(setting).absolute()


def identities_of(context: grpc.aio.ServicerContext[object, object]) -> tuple[str, ...]:
    """Return the identities in the certificate of the caller, as URIs; none without a certificate."""
    return tuple(uri.decode(errors="replace") for uri in context.auth_context().get(_PEER_URI, ()))


@dataclass(frozen=True, slots=True)
class Papers:
    """PEM bytes, and the state of the files that they were read from."""

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes
    stamp: Stamp


class Identity:
    """The papers of one role, always the newest that can be used."""

    def __init__(self, folder: Path, role: str) -> None:
        """Read them; raises SecretMissing, which says what to do."""
        own = folder / role
        self.role = role
        self.folder = own if own.is_dir() else folder
        self._papers = self._first()
        self._looked_at = self._papers.stamp

    def papers(self) -> Papers:
        """Return the papers in force. May be called on any thread."""
        try:
            stamp = self._stamp()
            if stamp == self._looked_at:
                return self._papers
            self._papers = self._read()
            logger.info("a new certificate is in force", extra={"role": self.role})
        except (OSError, ssl.SSLError) as error:
            logger.warning("the certificate cannot be used, the one before stays", extra={"cause": str(error)})
            return self._papers
        self._looked_at = self._papers.stamp
        return self._papers

    def for_channel(self) -> grpc.ChannelCredentials:
        """Return what a channel shows, and whom it believes."""
        papers = self.papers()
        return grpc.ssl_channel_credentials(papers.authority, papers.key, papers.certificate)

    def for_server(self) -> grpc.ServerCredentials:
        """Return what a server shows; it takes connections with a certificate of the authority only."""
        return grpc.dynamic_ssl_server_credentials(self._for_handshake(), self._for_handshake, True)

    def _for_handshake(self) -> grpc.ServerCertificateConfiguration:
        papers = self.papers()
        return grpc.ssl_server_certificate_configuration([(papers.key, papers.certificate)], papers.authority)

    def _first(self) -> Papers:
        try:
            return self._read()
        except OSError as error:  # ssl.SSLError is one
            what = error.strerror if error.filename else error
            told = f"cannot use the certificate of {self.role} in {self.folder}: {what}"
            raise SecretMissing(f"{told}; `darkroom certs issue {self.role}` makes one") from error

    def _read(self) -> Papers:
        """Read all; raises OSError, also for a key of another certificate or files that change meanwhile."""
        stamp = self._stamp()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(self._place(CERTIFICATE_FILE), self._place(KEY_FILE), password="")
        context.load_verify_locations(self._place(AUTHORITY_FILE))
        files = (CERTIFICATE_FILE, KEY_FILE, AUTHORITY_FILE)
        certificate, key, authority = (self._place(name).read_bytes() for name in files)
        found = Papers(certificate, key, authority, stamp)
        if self._stamp() != stamp:
            raise OSError("it changes while it is read")
        return found

    def _stamp(self) -> Stamp:
        states = (self._place(name).stat() for name in (CERTIFICATE_FILE, AUTHORITY_FILE))
        return tuple((state.st_mtime_ns, state.st_ino, state.st_size) for state in states)

    def _place(self, name: str) -> Path:
        return self.folder / name
