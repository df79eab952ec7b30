"""A certificate authority of one's own, for a mesh and its door: make it, issue, look, renew.

    FOLDER/ca/tls.crt, tls.key                      the authority; its key is needed for issuing only
    FOLDER/gateway/tls.crt, tls.key, ca.crt         one folder a role, as a Kubernetes secret of type tls has them
    FOLDER/door/…                                   what Envoy shows to the world
    FOLDER/clients/NAME/…                           callers at a door that asks for certificates

Files are readable by their owner only and replaced whole. Whoever uses them reads them again when they change, so a
renewal needs no restart (`libs.rpc.identity`).
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from libs import roles
from libs.roles import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE
from libs.secret_files import write_private

logger = logging.getLogger(__name__)

AUTHORITY, DOOR, CLIENTS = "ca", "door", "clients"
DOOR_HOSTS = ("localhost", "127.0.0.1", "::1")
LIFE = timedelta(days=90)
RENEW_BEFORE = timedelta(days=30)

_AUTHORITY_LIFE = timedelta(days=3650)
_BACK_DATED = timedelta(minutes=5)  # clocks of a mesh differ a little
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class CertificateProblem(Exception):
    """There is no authority, or one already, or a name that cannot be; the message says what to do."""


class NotRenewed(CertificateProblem):
    """Some certificates cannot be renewed, and the message says which and why; `renewed` are the others."""

    def __init__(self, told: str, renewed: Sequence[Certificate]) -> None:
        super().__init__(told)
        self.renewed = renewed


@dataclass(frozen=True, slots=True)
class Certificate:
    """What stands in one certificate. `name` is its folder below that of the authority."""

    name: str
    identity: str
    hosts: tuple[str, ...]
    begins: datetime
    ends: datetime

    def is_due(self, now: datetime, within: timedelta = RENEW_BEFORE) -> bool:
        """Return whether it ends soon, or has ended; one that lives but shortly is due in its last third."""
        return self.ends - now <= min(within, (self.ends - self.begins) / 3)


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a certificate is to say."""

    name: str
    identity: str
    hosts: tuple[str, ...]
    answers: bool
    calls: bool


def init(folder: Path, now: datetime, door_hosts: Iterable[str] = ()) -> None:
    """Make an authority, a certificate for every role and one for the door. Raises CertificateProblem."""
    if _certificate_file(folder, AUTHORITY).exists():
        raise CertificateProblem(f"{folder} has an authority already; `darkroom certs show` lists what it issued")
    _make_authority(folder, now)
    for role in roles.EVERY:
        issue(folder, role, now)
    issue(folder, DOOR, now, hosts=tuple(door_hosts))


def ensure(folder: Path, now: datetime) -> None:
    """Make what is absent and renew what ends soon; for a stack that keeps its own authority."""
    if not _certificate_file(folder, AUTHORITY).exists():
        init(folder, now)
    held = {found.name for found in find(folder)}
    for name in (*roles.EVERY, DOOR):
        if name not in held:
            issue(folder, name, now)
    try:
        renew(folder, now)
    except NotRenewed as error:  # one that the stack may not even use; what does use it says so when it has ended
        logger.error("certificates cannot be renewed: %s", error)


def issue(folder: Path, name: str, now: datetime, *, hosts: Sequence[str] = (), life: timedelta = LIFE) -> Certificate:
    """Write a key and a certificate for a role, `door` or `clients/NAME`. Raises CertificateProblem."""
    wish = _wish(name, tuple(hosts))
    authority, authority_key = _authority(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _signed(
        _leaf(wish, key.public_key(), now, min(now + life, _ends(authority))), authority, authority_key
    )
    _write(folder / name, key, certificate, authority)
    return _told(name, certificate)


def renew(folder: Path, now: datetime, within: timedelta = RENEW_BEFORE) -> list[Certificate]:
    """Issue anew what ends within that time, for the hosts it had and as long as it had; return those.

    Raises CertificateProblem when nothing can be issued, and NotRenewed at the end when some could not be: those of
    another release may have a name or a host that is not allowed any more.
    """
    due = [found for found in find(folder) if found.is_due(now, within) and found.name != AUTHORITY]
    if due:
        _authority(folder)
    renewed: list[Certificate] = []
    problems: list[str] = []
    for one in due:
        try:
            renewed.append(issue(folder, one.name, now, hosts=one.hosts, life=one.ends - one.begins - _BACK_DATED))
        except CertificateProblem as error:
            problems.append(f"{one.name}: {error}")
    if problems:
        told = f"{'; '.join(problems)}. Issue them anew with `darkroom certs issue`, or remove their folders"
        raise NotRenewed(told, renewed)
    return renewed


def find(folder: Path) -> list[Certificate]:
    """Return every certificate in the folder, the authority's first. Raises CertificateProblem."""
    places = [*folder.glob(f"*/{CERTIFICATE_FILE}"), *folder.glob(f"{CLIENTS}/*/{CERTIFICATE_FILE}")]
    names = sorted((str(place.parent.relative_to(folder)) for place in places), key=lambda n: (n != AUTHORITY, n))
    return [_told(name, _read(_certificate_file(folder, name))) for name in names]


def _wish(name: str, hosts: tuple[str, ...]) -> _Wish:
    """Services go by their name, whatever the address that they are called at: it is the one DNS name they carry.

    Nobody else may carry it: whoever called that service would believe them.
    """
    taken = [host for host in hosts if host.lower().rstrip(".") in roles.SERVICES and host != name]
    if taken:
        raise CertificateProblem(f"{taken[0]} is what a service of the mesh goes by; name another host for {name}")
    if name in roles.SERVICES:
        return _Wish(name, roles.identity(name), (name, *(host for host in hosts if host != name)), True, True)
    if name in roles.EVERY:
        return _Wish(name, roles.identity(name), hosts, False, True)
    if name == DOOR:
        return _Wish(name, roles.client_identity(DOOR), hosts or DOOR_HOSTS, True, False)
    parent, _, client = name.partition("/")
    if parent == CLIENTS and _NAME.fullmatch(client):
        return _Wish(client, roles.client_identity(client), hosts, False, True)
    known = ", ".join((*roles.EVERY, DOOR))
    raise CertificateProblem(f"{name} is no part of a mesh: name one of {known}, or {CLIENTS}/NAME for a caller")


def _make_authority(folder: Path, now: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _subject("Darkroom development authority")
    builder = (
        _dated(key.public_key(), now, now + _AUTHORITY_LIFE)
        .subject_name(name)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    _write(folder / AUTHORITY, key, builder.sign(key, hashes.SHA256()), None)


def _leaf(wish: _Wish, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime) -> x509.CertificateBuilder:
    both = ((wish.answers, ExtendedKeyUsageOID.SERVER_AUTH), (wish.calls, ExtendedKeyUsageOID.CLIENT_AUTH))
    names = [x509.UniformResourceIdentifier(wish.identity), *(_host(host) for host in wish.hosts)]
    return (
        _dated(key, now, ends)
        .subject_name(_subject(wish.name))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use for wanted, use in both if wanted]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )


def _signed(
    builder: x509.CertificateBuilder, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    return builder.issuer_name(authority.subject).add_extension(by, critical=False).sign(key, hashes.SHA256())


def _dated(key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACK_DATED)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise CertificateProblem(f"{host} is neither a host name in plain letters nor an IP address") from None


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    certificate, place = _read(_certificate_file(folder, AUTHORITY)), folder / AUTHORITY / KEY_FILE
    try:
        key = serialization.load_pem_private_key(place.read_bytes(), password=None)
    except OSError as error:
        raise CertificateProblem(f"cannot read {place}: {error.strerror}; without it nothing can be issued") from error
    except (ValueError, TypeError):
        raise CertificateProblem(f"{place} is no private key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise CertificateProblem(f"{place} does not belong to {certificate.subject.rfc4514_string()}")
    return certificate, key


def _read(place: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(place.read_bytes())
    except OSError as error:
        told = f"cannot read {place}: {error.strerror}; `darkroom certs init` makes an authority"
        raise CertificateProblem(told) from error
    except ValueError:
        raise CertificateProblem(f"{place} is no certificate; remove its folder and issue it again") from None


def _write(
    folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, authority: x509.Certificate | None
) -> None:
    """Write the certificate last: who sees that it changed finds what belongs to it."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    unlocked = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, unlocked)
    if authority is not None:
        write_private(folder / AUTHORITY_FILE, _pem(authority))
    write_private(folder / KEY_FILE, secret.decode())
    write_private(folder / CERTIFICATE_FILE, _pem(certificate))


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _told(name: str, certificate: x509.Certificate) -> Certificate:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = x509.SubjectAlternativeName([])
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    hosts = (*names.get_values_for_type(x509.DNSName), *addresses)
    return Certificate(name, next(iter(uris), ""), hosts, certificate.not_valid_before_utc, _ends(certificate))


def _ends(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_after_utc


def _certificate_file(folder: Path, name: str) -> Path:
    return folder / name / CERTIFICATE_FILE
