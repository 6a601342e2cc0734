"""Listen for clients of the MRD streaming protocol; each is served in a thread of its own.

Called by `restore serve mrd`. Touches its port, and a private folder that is gone when the server is.
"""

from __future__ import annotations

import socket
import tempfile
import threading
from pathlib import Path
from typing import Self

import torch

from restore.errors import ConfigError
from restore.serving.mrd_server.connection import Connection, Limits
from restore.serving.mrd_server.images import Values
from restore.serving.mrd_server.session import Tell, Worker, converse, refuse

LIMITS = Limits()

LISTEN_S = 0.1
"""Between two looks at whether the server is to end."""


class MRDServer:
    """Listens from its construction on; a context. `address`: where. Raises ConfigError for a port that is not free."""

    def __init__(
        self, host: str, port: int, device: torch.device, tell: Tell, *, limits: Limits = LIMITS,
        values: Values = "float",
    ) -> None:  # fmt: skip
        self._limits, self._tell = limits, tell
        self._ended = threading.Event()
        self._places = threading.Semaphore(limits.connections)
        self._threads: list[threading.Thread] = []
        try:
            self._socket = socket.create_server((host, port))
        except OSError as cause:
            raise ConfigError(
                f"cannot listen on {host}, port {port} ({cause.strerror or cause}); choose another --host or --port"
            ) from cause
        self._socket.settimeout(LISTEN_S)
        self._folder = tempfile.TemporaryDirectory(
            prefix="restore-mrd-", ignore_cleanup_errors=True
        )
        self._worker = Worker(device, Path(self._folder.name), threading.Lock(), values)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, the one that the system gave where 0 was asked for."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def serve(self, most: int = 0) -> None:
        """Serve until `end` is called, or so many connections were served; 0 for no end."""
        number = 0
        while not self._ended.is_set() and (number < most or not most):
            try:
                peer, _ = self._socket.accept()
            except TimeoutError:
                continue
            number += 1
            thread = threading.Thread(target=self._one, args=(peer, number), daemon=True)
            self._threads = [t for t in self._threads if t.is_alive()] + [thread]
            thread.start()
        if not self._ended.is_set():
            for thread in self._threads:
                thread.join()

    def end(self) -> None:
        """Take no further connections."""
        self._ended.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._socket.close()
        self._folder.cleanup()

    def _one(self, peer: socket.socket, number: int) -> None:
        connection = Connection(peer, self._limits)

        def tell(line: str) -> None:
            self._tell(f"connection {number}: {line}")

        if not self._places.acquire(blocking=False):
            refuse(
                connection, f"{self._limits.connections} connections are served: try later", tell
            )
            connection.finish()
            return
        try:
            converse(connection, self._worker, tell)
        finally:
            self._places.release()
