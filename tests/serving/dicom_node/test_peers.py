"""Titles and hosts as they are written on the command line, and who they let in."""

from __future__ import annotations

import pytest

from restore.errors import ConfigError
from restore.serving.dicom_node.peers import Allowed, Peer, read_peer


def test_peers_are_read():
    assert read_peer("PACS@host", "--allow") == Peer("PACS", "host")
    assert read_peer("A B@192.0.2.1:104", "--send-to", with_port=True) == Peer(
        "A B", "192.0.2.1", 104
    )
    assert read_peer("PACS@[2001:db8::1]:104", "--send-to", with_port=True).host == "2001:db8::1"


@pytest.mark.parametrize(
    ("text", "with_port"),
    [("PACS", False), ("@host", False), ("PACS@", False), ("A@b:104", False), ("A@b", True), ("A@b:0", True),
     ("A@b:65536", True), ("SEVENTEEN_LETTERS@b", False), ("A\\B@c", False), ("Ä@c", False), (" @c", False)],
)  # fmt: skip
def test_what_is_no_peer_is_refused(text, with_port):
    with pytest.raises(ConfigError, match="--option"):
        read_peer(text, "--option", with_port=with_port)


def test_a_title_counts_from_its_own_host_alone():
    allowed = Allowed([Peer("A", "127.0.0.1"), Peer("B", "192.0.2.1")])
    assert allowed.knows("A ", "127.0.0.1")
    assert allowed.knows("A", "::ffff:127.0.0.1")
    assert not allowed.knows("A", "192.0.2.1")
    assert not allowed.knows("C", "127.0.0.1")
    assert allowed.knows_address("192.0.2.1")
    assert not allowed.knows_address("192.0.2.2")


def test_a_host_without_address_is_refused():
    with pytest.raises(ConfigError, match="no address"):
        Allowed([Peer("A", "no-such-host.invalid")])
