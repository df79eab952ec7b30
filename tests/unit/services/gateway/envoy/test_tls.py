"""What Envoy is told about certificates."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.gateway.envoy.__main__ import main
from services.gateway.envoy.tls import Tls, secrets


@pytest.mark.parametrize(
    "wrong",
    [
        {"certificate": "a"},
        {"key": "a", "secrets": "s"},
        {"clients": "a", "secrets": "s"},
        {"mesh": "a"},
        {"certificate": "a", "key": "b"},
    ],
)
def test_half_of_what_it_needs_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="needs"):
        Tls(**wrong)


def test_each_certificate_is_a_file_of_its_own_whose_folder_is_watched() -> None:
    told = secrets(Tls("s", "/m", "/d/tls.crt", "/d/tls.key", "/c/ca.crt"))
    assert set(told) == {"mesh-certificate.yaml", "mesh-authority.yaml", "door-certificate.yaml", "door-clients.yaml"}
    [own] = told["mesh-certificate.yaml"].to_dict()["resources"]
    assert own["tlsCertificate"] == {
        "certificateChain": {"filename": "/m/tls.crt"},
        "privateKey": {"filename": "/m/tls.key"},
        "watchedDirectory": {"path": "/m"},
    }
    assert secrets(Tls()) == {}


def test_the_printed_configuration_is_secured_as_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mesh = ["--mesh-certificates", "/m", "--secrets", str(tmp_path)]
    assert main([*mesh, "--door-certificate", "/d/tls.crt", "--door-key", "/d/tls.key"]) == 0
    told = yaml.safe_load(capsys.readouterr().out)["staticResources"]
    for cluster in told["clusters"]:
        socket = cluster["transportSocket"]["typedConfig"]
        believed = socket["commonTlsContext"]["combinedValidationContext"]["defaultValidationContext"]
        [name] = believed["matchTypedSubjectAltNames"]
        assert name == {"sanType": "URI", "matcher": {"exact": f"spiffe://darkroom/{cluster['name']}"}}
    [chain] = told["listeners"][0]["filterChains"]
    door = chain["transportSocket"]["typedConfig"]
    assert door["commonTlsContext"]["tlsParams"] == {"tlsMinimumProtocolVersion": "TLSv1_2"}
    assert not door.get("requireClientCertificate")
    assert {path.name for path in tmp_path.iterdir()} == {
        "mesh-certificate.yaml",
        "mesh-authority.yaml",
        "door-certificate.yaml",
    }


def test_without_certificates_nothing_is_secured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "transportSocket" not in capsys.readouterr().out
