"""Who may speak with the node, and whom it sends to: application entity titles with their hosts.

Used by the listener, the sender and the command line; looks up the names of hosts.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from restore.errors import ConfigError

LONGEST_TITLE = 16  # characters of an application entity title (DICOM PS3.5, 6.2, AE)
_FORM = re.compile(r"(?P<title>[^@]+)@(?P<host>\[[^\]]+\]|[^:@\s]+)(:(?P<port>\d+))?")


@dataclass(frozen=True)
class Peer:
    """An application entity: title, host name or address, and the port where it listens (0: it is not called)."""

    title: str
    host: str
    port: int = 0

    def __str__(self) -> str:
        return f"{self.title}@{self.host}" + (f":{self.port}" if self.port else "")


def read_title(text: str, where: str) -> str:
    """An application entity title: 1 to 16 printable ASCII characters, no backslash. Raises ConfigError.

    where: the option, for the message.
    """
    title = text.strip()
    fit = title.isascii() and title.isprintable() and "\\" not in title
    if not fit or not 1 <= len(title) <= LONGEST_TITLE:
        raise ConfigError(
            f"{where} '{text}': an AE title has 1 to {LONGEST_TITLE} printable ASCII characters and no backslash"
        )
    return title


def read_peer(text: str, where: str, *, with_port: bool = False) -> Peer:
    """A peer written as TITLE@HOST or TITLE@HOST:PORT; an IPv6 address stands in brackets. Raises ConfigError.

    where: the option, for the message. with_port: whether the port is needed; else none may stand there.
    """
    form = "TITLE@HOST:PORT" if with_port else "TITLE@HOST"
    found = _FORM.fullmatch(text.strip())
    if found is None or (found["port"] is not None) != with_port:
        raise ConfigError(f"{where} '{text}': expected {form}, such as PACS@192.0.2.7")
    port = int(found["port"] or 0)
    if with_port and not 1 <= port <= 65535:
        raise ConfigError(f"{where} '{text}': port {port}, expected 1 to 65535")
    return Peer(read_title(found["title"], where), found["host"].strip("[]"), port)


class Allowed:
    """The list of peers that may call: each title from the addresses of its host alone."""

    def __init__(self, peers: Sequence[Peer]) -> None:
        """Look up the hosts. Raises ConfigError for a host that has no address."""
        self._addresses: dict[str, set[str]] = {}
        for peer in peers:
            self._addresses.setdefault(peer.title, set()).update(_addresses_of(peer))

    @property
    def titles(self) -> list[str]:
        """Titles of all peers."""
        return sorted(self._addresses)

    def knows_address(self, address: str) -> bool:
        """Whether any peer may call from there."""
        return any(_plain(address) in known for known in self._addresses.values())

    def knows(self, title: str, address: str) -> bool:
        """Whether the peer of this title may call from there."""
        return _plain(address) in self._addresses.get(title.strip(), ())


def _addresses_of(peer: Peer) -> set[str]:
    try:
        found = socket.getaddrinfo(peer.host, None, type=socket.SOCK_STREAM)
    except OSError as cause:
        raise ConfigError(
            f"{peer}: the host has no address here ({cause.strerror or cause}); give its address instead"
        ) from cause
    return {_plain(str(entry[4][0])) for entry in found}


def _plain(address: str) -> str:
    """An address in one form, IPv4 also where it comes as IPv6."""
    bare = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(bare, "ipv4_mapped", None)
    return str(mapped or bare)
