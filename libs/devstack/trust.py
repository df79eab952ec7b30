"""By what the processes of a stack know each other, and how its door is secured.

With DARKROOM_MTLS=on, or a door with TLS and no certificate of its own, the stack has an authority in `secrets/tls`: it
makes what is absent at the start and renews what ends soon while it runs. Named files are other people's: they are used
and never written.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from libs import certificates, roles
from libs.certificates import DOOR, CertificateProblem, NotRenewed
from libs.clock import Clock
from libs.devstack.settings import StackSettings
from libs.roles import AUTHORITY_FILE, CERTIFICATE_FILE, KEY_FILE
from libs.rpc import mesh
from libs.rpc.identity import ON, Identity, folder_of, own_folder
from libs.rpc.mesh import Mesh

DOOR_PLAIN, DOOR_TLS, DOOR_MTLS = "off", "tls", "mtls"
_LOOK_EVERY_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Trust:
    """What the settings say about certificates; `secrets` is the stack's folder of tokens and keys."""

    settings: StackSettings
    secrets: Path

    @property
    def mesh(self) -> Path | None:
        """The folder of the mesh's certificates; None where it goes by token."""
        return folder_of(self.settings.mtls, self.secrets)

    @property
    def scheme(self) -> str:
        """`http` or `https`, of the door."""
        return "http" if self.settings.door_tls == DOOR_PLAIN else "https"

    @property
    def own(self) -> Path | None:
        """The folder of the authority that this stack looks after; None where it needs none."""
        return self._own if self.settings.mtls == ON or self._door_is_ours or self._callers_are_ours else None

    def prepare(self, now: datetime) -> None:
        """Make what is absent and look at what is named; raises CertificateProblem."""
        self._check_named()
        if self.own is not None:
            self.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
            certificates.ensure(self.own, now)

    def operator(self) -> Mesh:
        """Return how the supervisor takes part; raises SecretMissing."""
        return mesh.join(self.settings.mtls, self.secrets, roles.OPERATOR, has_operators=True)

    def envoy_flags(self, secrets: Path) -> tuple[str, ...]:
        """Return arguments for the renderer, which puts more files into `secrets`. Raises SecretMissing."""
        flags: list[str] = []
        if self.mesh is not None:
            flags += ["--mesh-certificates", str(Identity(self.mesh, roles.ENVOY).folder)]
        if self.scheme == "https":
            flags += ["--door-certificate", str(self._door_certificate), "--door-key", str(self._door_key)]
        if self.settings.door_tls == DOOR_MTLS:
            named = self.settings.door_ca
            flags += ["--door-clients", str(Path(named).absolute() if named else self._own / DOOR / AUTHORITY_FILE)]
        return (*flags, "--secrets", str(secrets)) if flags else ()

    def told(self) -> dict[str, str]:
        """Return what clients on this machine have to know, for `run/addresses.json`."""
        found = {"scheme": self.scheme}
        if self.mesh is not None:
            found["mtls"] = str(self.mesh.absolute())
        if self._door_is_ours:
            found["door-ca"] = str(self._own / DOOR / AUTHORITY_FILE)
        if self._callers_are_ours:
            found["door-client"] = str(self._own / roles.OPERATOR)
        return found

    def _check_named(self) -> None:
        """Envoy would start without what it cannot read, and answer nobody."""
        certificate, key, authority = self.settings.door_cert, self.settings.door_key, self.settings.door_ca
        if bool(certificate) != bool(key):
            raise CertificateProblem("DARKROOM_DOOR_CERT and DARKROOM_DOOR_KEY belong together: set both, or none")
        if certificate and self.settings.door_tls == DOOR_PLAIN:
            raise CertificateProblem("DARKROOM_DOOR_CERT is set and DARKROOM_DOOR_TLS is off: set it to tls or mtls")
        if authority and self.settings.door_tls != DOOR_MTLS:
            raise CertificateProblem("DARKROOM_DOOR_CA is set and callers are not asked: set DARKROOM_DOOR_TLS=mtls")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            if certificate:
                context.load_cert_chain(certificate, key, password="")
            if authority:
                context.load_verify_locations(authority)
        except OSError as error:  # ssl.SSLError is one
            named = " and ".join(name for name in (certificate, key, authority) if name)
            raise CertificateProblem(f"the door cannot use {named}: {error.strerror or error}") from error

    @property
    def _own(self) -> Path:
        return own_folder(self.secrets).absolute()

    @property
    def _door_is_ours(self) -> bool:
        return self.settings.door_tls != DOOR_PLAIN and not self.settings.door_cert

    @property
    def _callers_are_ours(self) -> bool:
        return self.settings.door_tls == DOOR_MTLS and not self.settings.door_ca

    @property
    def _door_certificate(self) -> Path:
        named = self.settings.door_cert
        return Path(named).absolute() if named else self._own / DOOR / CERTIFICATE_FILE

    @property
    def _door_key(self) -> Path:
        named = self.settings.door_key
        return Path(named).absolute() if named else self._own / DOOR / KEY_FILE


async def keep_renewed(folder: Path | None, clock: Clock, say: Callable[[str], None]) -> None:
    """Renew what ends soon in an authority's folder, if there is one, until cancelled; all processes take it."""
    while folder is not None:
        await clock.sleep(_LOOK_EVERY_S)
        try:
            renewed = await asyncio.to_thread(certificates.renew, folder, datetime.fromtimestamp(clock.now(), UTC))
        except NotRenewed as error:
            say(f"certificates cannot be renewed: {error}")
            renewed = [*error.renewed]
        except (CertificateProblem, OSError) as error:
            say(f"certificates cannot be renewed: {error}")
            continue
        for one in renewed:
            say(f"the certificate of {one.name} is renewed until {one.ends:%Y-%m-%d}")
