"""Lists of networks: taken as a whole, followed while they change."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.testing.clock import ManualClock
from services.ratelimiter.abuse import networks
from services.ratelimiter.abuse.networks import BadNetworks
from services.ratelimiter.abuse.reputation import Reputation, complaint

TEXT = "# machines\n198.51.100.0/24\n203.0.113.7  # one of them\n\n2001:db8::/32\n"


@pytest.mark.parametrize(
    ("address", "listed"),
    [
        ("198.51.100.9", True),
        ("::ffff:198.51.100.9", True),
        ("198.51.101.9", False),
        ("203.0.113.7", True),
        ("203.0.113.8", False),
        ("2001:db8:1::5%eth0", True),
        ("2001:db9::", False),
        ("unknown", False),
        ("", False),
    ],
)
def test_an_address_is_in_a_list_or_not(address: str, listed: bool):
    assert networks.parse({"a": TEXT}).holds(address) is listed


addresses = st.ip_addresses()


@given(st.lists(st.tuples(addresses, st.integers(0, 32)), max_size=8), addresses)
def test_it_says_what_ipaddress_says(given_networks, address):
    known = [ipaddress.ip_network(f"{one}/{length}", strict=False) for one, length in given_networks]
    expected = any(address.version == network.version and address in network for network in known)
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is None:
        assert networks.parse({"a": "\n".join(map(str, known))}).holds(str(address)) is expected


def test_every_line_that_is_wrong_is_named():
    with pytest.raises(BadNetworks) as caught:
        networks.parse({"a.txt": "10.0.0.1/8\n10.0.0.0/8\nnonsense", "b.txt": "300.1.1.1"})
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["a.txt:1", "a.txt:3", "b.txt:1"]


def test_a_setting_with_a_file_that_is_not_there_is_refused(tmp_path: Path):
    assert "absent" in str(complaint((str(tmp_path / "absent"),)))
    assert complaint(()) is None


async def test_a_change_is_taken_whole_or_not_at_all(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("198.51.100.0/24")
    other.write_text("")
    reputation = Reputation((str(one), str(other)), ManualClock())
    one.write_text("")
    other.write_text("203.0.113.0/24\nnonsense")
    for _ in range(2):
        await reputation.look()
        assert (reputation.lists("198.51.100.1"), reputation.lists("203.0.113.1")) == (True, False)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "other:2" in reputation.wrong
    other.write_text("203.0.113.0/24")
    await reputation.look()
    assert (reputation.lists("198.51.100.1"), reputation.lists("203.0.113.1")) == (False, True)
    assert reputation.wrong == ""
