from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from libs import certificates, roles
from libs.certificates import CertificateProblem, NotRenewed

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def handshake(server: Path, client: Path, *, name: str) -> None:
    """Let a server and a client with the files of two folders agree; raises ssl.SSLError when they do not."""
    answering, asking = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    answering.verify_mode = ssl.CERT_REQUIRED
    for context, folder in ((answering, server), (asking, client)):
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        context.load_verify_locations(folder / "ca.crt")
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [answering.wrap_bio(there, back, server_side=True), asking.wrap_bio(back, there, server_hostname=name)]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_everybody_in_the_mesh_gets_a_certificate_that_its_owner_only_can_read(tmp_path: Path) -> None:
    certificates.init(tmp_path / "tls", NOW)
    found = {one.name: one for one in certificates.find(tmp_path / "tls")}
    assert set(found) == {"ca", "door", *roles.EVERY}
    assert found["gateway"].identity == "spiffe://darkroom/gateway"
    assert (found["gateway"].hosts, found["envoy"].hosts) == (("gateway",), ())
    assert found["door"].hosts == ("localhost", "127.0.0.1", "::1")
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "tls").rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "tls").iterdir()} == {0o700}


def test_openssl_believes_them_for_what_they_are_made_for_only(tmp_path: Path) -> None:
    certificates.init(tmp_path, datetime.now(UTC))
    handshake(tmp_path / "gateway", tmp_path / "envoy", name="gateway")
    handshake(tmp_path / "scheduler", tmp_path / "gateway", name="scheduler")
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        handshake(tmp_path / "scheduler", tmp_path / "envoy", name="gateway")
    with pytest.raises(ssl.SSLError, match=r"purpose|unsuitable"):
        handshake(tmp_path / "operator", tmp_path / "envoy", name="operator")
    with pytest.raises(ssl.SSLError, match=r"purpose|unsuitable"):
        handshake(tmp_path / "gateway", tmp_path / "door", name="gateway")


def test_a_certificate_of_another_authority_is_not_believed(tmp_path: Path) -> None:
    for name in ("ours", "theirs"):
        certificates.init(tmp_path / name, datetime.now(UTC))
    with pytest.raises(ssl.SSLError, match="verify failed"):
        handshake(tmp_path / "ours" / "gateway", tmp_path / "theirs" / "envoy", name="gateway")


def test_a_second_authority_in_a_folder_is_refused(tmp_path: Path) -> None:
    certificates.init(tmp_path, NOW)
    with pytest.raises(CertificateProblem, match="authority already"):
        certificates.init(tmp_path, NOW)


def test_what_ends_soon_is_renewed_for_the_same_hosts_and_as_long(tmp_path: Path) -> None:
    certificates.init(tmp_path, NOW, ["images.example", "10.1.2.3"])
    certificates.issue(tmp_path, "clients/acme", NOW, life=timedelta(days=400))
    later = NOW + timedelta(days=61)
    before = {one.name: one for one in certificates.find(tmp_path)}
    renewed = {one.name: one for one in certificates.renew(tmp_path, later)}
    assert set(renewed) == {"door", *roles.EVERY}
    assert renewed["door"].hosts == before["door"].hosts == ("images.example", "10.1.2.3")
    assert renewed["door"].ends == later + timedelta(days=90)
    assert certificates.renew(tmp_path, later) == []
    assert certificates.find(tmp_path)[0] == before["ca"]


def test_nothing_outlives_the_authority(tmp_path: Path) -> None:
    certificates.init(tmp_path, NOW)
    made = certificates.issue(tmp_path, "clients/acme", NOW, life=timedelta(days=36500))
    assert made.ends == certificates.find(tmp_path)[0].ends


def test_a_caller_of_the_door_has_no_role_whatever_it_is_called(tmp_path: Path) -> None:
    certificates.init(tmp_path, NOW)
    made = certificates.issue(tmp_path, "clients/gateway", NOW)
    assert (made.identity, made.hosts) == ("spiffe://darkroom/client/gateway", ())


@pytest.mark.parametrize("name", ["door", "clients/acme", "operator", "gateway"])
def test_nobody_goes_by_the_name_of_a_service(tmp_path: Path, name: str) -> None:
    certificates.init(tmp_path, NOW)
    for host in ("scheduler", "Scheduler."):
        with pytest.raises(CertificateProblem, match="what a service of the mesh goes by"):
            certificates.issue(tmp_path, name, NOW, hosts=["images.example", host])


@pytest.mark.parametrize("name", ["gatway", "clients/", "clients/../ca", "ca", "clients/a/b", ""])
def test_names_that_nobody_has_are_refused(tmp_path: Path, name: str) -> None:
    certificates.init(tmp_path, NOW)
    with pytest.raises(CertificateProblem, match="no part of a mesh"):
        certificates.issue(tmp_path, name, NOW)


def test_hosts_must_be_hosts(tmp_path: Path) -> None:
    certificates.init(tmp_path, NOW)
    with pytest.raises(CertificateProblem, match="neither a host name"):
        certificates.issue(tmp_path, "door", NOW, hosts=["bücher.example"])


def test_without_an_authority_or_its_key_nothing_is_issued(tmp_path: Path) -> None:
    with pytest.raises(CertificateProblem, match="certs init"):
        certificates.issue(tmp_path, "door", NOW)
    certificates.init(tmp_path, NOW)
    (tmp_path / "ca" / "tls.key").unlink()
    with pytest.raises(CertificateProblem, match="nothing can be issued"):
        certificates.issue(tmp_path, "door", NOW)


def test_a_key_of_another_authority_is_refused(tmp_path: Path) -> None:
    certificates.init(tmp_path / "a", NOW)
    certificates.init(tmp_path / "b", NOW)
    (tmp_path / "b" / "ca" / "tls.key").replace(tmp_path / "a" / "ca" / "tls.key")
    with pytest.raises(CertificateProblem, match="does not belong"):
        certificates.issue(tmp_path / "a", "door", NOW)


def test_a_stack_gets_what_it_lacks_and_keeps_what_it_has(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, NOW)
    kept = (tmp_path / "gateway" / "tls.crt").read_bytes()
    for file in (tmp_path / "envoy").iterdir():
        file.unlink()
    certificates.ensure(tmp_path, NOW)
    assert (tmp_path / "envoy" / "tls.crt").exists()
    assert (tmp_path / "gateway" / "tls.crt").read_bytes() == kept
    certificates.ensure(tmp_path, NOW + timedelta(days=80))
    assert (tmp_path / "gateway" / "tls.crt").read_bytes() != kept


def of_old(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all that a mesh needs, with a door for a host that has become the name of a service since."""
    certificates.init(folder, NOW)
    with monkeypatch.context() as before:
        before.setattr(roles, "SERVICES", ())
        certificates.issue(folder, "door", NOW, hosts=["images.example", "gateway"])


def test_one_that_cannot_be_renewed_keeps_no_other_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_old(tmp_path, monkeypatch)
    later = NOW + timedelta(days=80)
    with pytest.raises(NotRenewed, match=r"door: gateway is what a service .* name another host") as caught:
        certificates.renew(tmp_path, later)
    assert {one.name for one in caught.value.renewed} == set(roles.EVERY)
    assert {one.name for one in certificates.find(tmp_path) if one.is_due(later)} == {"door"}


def test_a_stack_begins_with_one_that_cannot_be_renewed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    of_old(tmp_path, monkeypatch)
    certificates.ensure(tmp_path, NOW + timedelta(days=80))
    [line] = caplog.records
    assert (line.levelname, "name another host for door" in line.getMessage()) == ("ERROR", True)


def test_without_the_key_of_the_authority_nothing_is_renewed(tmp_path: Path) -> None:
    certificates.init(tmp_path, NOW)
    (tmp_path / "ca" / "tls.key").unlink()
    assert certificates.renew(tmp_path, NOW) == []
    with pytest.raises(CertificateProblem, match="nothing can be issued") as caught:
        certificates.renew(tmp_path, NOW + timedelta(days=80))
    assert not isinstance(caught.value, NotRenewed)
