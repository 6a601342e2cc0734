"""One client's socket: exactly as many bytes as were asked for, within limits of size and time.

Used by `session`; touches its socket alone.
"""

from __future__ import annotations

import dataclasses
import socket
import time
from contextlib import suppress

from restore.errors import RestoreError

PIECE = 1 << 20
"""Bytes asked of the system at once: what a peer merely announces takes no memory."""

LINGER_S = 5.0
"""After the last message, for a client that is still sending: closed at once, it would never read the answer."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """bytes: that one connection may send. idle_s: that a peer may be silent, or not read. total_s: of one connection,
    its reconstruction included. connections: at a time."""

    bytes: int = 8 << 30
    idle_s: float = 300.0
    total_s: float = 3600.0
    connections: int = 4


class Gone(RestoreError):
    """The peer has closed the connection, or it broke."""

    exit_code = 4


class OverLimit(RestoreError):
    """A connection has taken more time or bytes than it may."""

    exit_code = 4


class Connection:
    """See the module. Every method raises Gone and OverLimit."""

    def __init__(self, peer: socket.socket, limits: Limits) -> None:
        self._peer, self._limits = peer, limits
        self._end = time.monotonic() + limits.total_s
        self._read = 0

    def read(self, count: int) -> bytes:
        """The next bytes, all of them."""
        self._read += count
        if self._read > self._limits.bytes:
            raise OverLimit(
                f"more than {self._limits.bytes / 2**30:.3g} GB came; --largest allows more"
            )
        found = bytearray()
        while len(found) < count:
            self._wait()
            try:
                piece = self._peer.recv(min(count - len(found), PIECE))
            except TimeoutError as cause:
                raise self._late("sent nothing") from cause
            except OSError as cause:
                raise Gone(f"the connection broke ({cause.strerror or cause})") from cause
            if not piece:
                raise Gone("the peer closed the connection before its last message")
            found += piece
        return bytes(found)

    def send(self, message: bytes) -> None:
        """All of a message."""
        self._wait()
        try:
            self._peer.sendall(message)
        except TimeoutError as cause:
            raise self._late("read nothing") from cause
        except OSError as cause:
            raise Gone(f"the peer reads no more ({cause.strerror or cause})") from cause

    def check_time(self) -> None:
        """Raise OverLimit where the time of this connection is over."""
        if time.monotonic() >= self._end:
            raise OverLimit(
                f"the connection took longer than {self._limits.total_s:.0f} s; --time-limit allows more"
            )

    def finish(self) -> None:
        """Say that nothing more will be sent, leave the peer a moment to read, close. Raises nothing."""
        end = time.monotonic() + min(LINGER_S, self._limits.idle_s)
        with suppress(OSError):
            self._peer.shutdown(socket.SHUT_WR)
            while (left := end - time.monotonic()) > 0:
                self._peer.settimeout(left)
                if not self._peer.recv(PIECE):
                    break
        self._peer.close()

    def _wait(self) -> None:
        self.check_time()
        self._peer.settimeout(min(self._limits.idle_s, max(self._end - time.monotonic(), 0.001)))

    def _late(self, what: str) -> OverLimit:
        self.check_time()
        return OverLimit(f"the peer {what} for {self._limits.idle_s:.3g} s")
