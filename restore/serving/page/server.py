"""Serve the page to a browser on this machine, and nothing to anybody else.

Called by `restore view`. Listens on the loopback alone; the address holds a secret, without which there is nothing;
names of files are looked up among those of the page and never joined to a path; a request for another host's name is
refused, so that no foreign page reaches this one. Writes into its own folder, which is gone when the server is.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from restore.datasets.atomic import name_suffix
from restore.errors import ConfigError, InputError, expected
from restore.report.render import LIVE_POLICY, write_report
from restore.report.study import Study

HOST = "127.0.0.1"
IDLE_S = 60.0
PIECE = 1 << 20
LONGEST_NAME = 200
KINDS = {
    ".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
    ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip
HEADERS = {
    "Content-Security-Policy": f"{LIVE_POLICY}; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}  # fmt: skip
COMPARE = "compare"
"""Where the page sends a second volume."""

Compare = Callable[[Path, str], Study]
"""Makes the study of a second volume, given its file and the name that it had; raises RestoreError."""


class PageServer:
    """A context; listens from its construction on. `url`: with the secret. Raises ConfigError for a port that is not
    free, and what writing the page raises."""

    def __init__(self, study: Study, compare: Compare, port: int, largest: int) -> None:
        """largest: bytes of a volume that is dropped."""
        self._compare, self.largest = compare, largest
        self.secret = secrets.token_urlsafe(24)
        self._busy = threading.Lock()
        try:
            self._http = _Http(self, port)
        except OSError as cause:
            raise ConfigError(
                f"cannot listen on {HOST}, port {port} ({cause.strerror or cause}); choose another --port"
            ) from cause
        self._room = tempfile.TemporaryDirectory(prefix="restore-view-", ignore_cleanup_errors=True)
        self._count = 0
        self.files = self._written(study)

    @property
    def hosts(self) -> tuple[str, ...]:
        """What a browser on this machine calls us."""
        port = self._http.server_address[1]
        return f"{HOST}:{port}", f"localhost:{port}"

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.hosts[0]}/{self.secret}/"

    def serve(self) -> None:
        """Answer until `end` is called from another thread, or an interrupt."""
        self._http.serve_forever(poll_interval=0.1)

    def end(self) -> None:
        """Let `serve` return."""
        self._http.shutdown()

    def compared(self, body: Callable[[int], bytes], length: int, name: str) -> None:
        """Take a second volume and show both. body(n): at most n further bytes. Raises RestoreError."""
        suffix = name_suffix(Path(name)) if "." in name else ""
        with self._busy, tempfile.TemporaryDirectory(dir=self._room.name) as folder:
            # Only its end is the sender's: readers look at contents, and some at the end of a name.
            path = Path(folder) / f"second{suffix if suffix.replace('.', '').isalnum() else ''}"
            with path.open("wb") as stream:
                while length > 0:
                    piece = body(min(length, PIECE))
                    if not piece:
                        raise InputError(name, "did not come whole", "drop it again")
                    stream.write(piece)
                    length -= len(piece)
            self.files = self._written(self._compare(path, name))

    def _written(self, study: Study) -> dict[str, Path]:
        """Write a page; its files by the names in addresses. The page before it goes."""
        room = Path(self._room.name)
        self._count += 1
        folder = room / f"page-{self._count}"
        write_report(study, folder, live=True)
        shutil.rmtree(room / f"page-{self._count - 1}", ignore_errors=True)
        return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.server_close()
        self._room.cleanup()


class _Http(ThreadingHTTPServer):
    """The requests to one page, each in a thread of its own."""

    daemon_threads = True

    def __init__(self, page: PageServer, port: int) -> None:
        self.page = page
        super().__init__((HOST, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    """One request."""

    timeout = IDLE_S
    server: _Http

    def do_GET(self) -> None:
        name = self._asked()
        file = None if name is None else self.server.page.files.get(name or "index.html")
        if file is None:
            return self._say(HTTPStatus.NOT_FOUND, "there is nothing here")
        try:
            body = file.read_bytes()
        except FileNotFoundError:  # a new page has just replaced it
            return self._say(HTTPStatus.NOT_FOUND, "the page was renewed: load it again")
        self._send(HTTPStatus.OK, body, KINDS.get(file.suffix, "application/octet-stream"))

    def do_POST(self) -> None:
        if self._asked() != COMPARE or self.headers.get("Origin") not in _origins(self.server.page):
            return self._say(HTTPStatus.NOT_FOUND, "there is nothing here")
        told = self.headers.get("Content-Length", "")
        if not told.isdecimal():
            return self._say(HTTPStatus.LENGTH_REQUIRED, "a length is missing")
        if int(told) > self.server.page.largest:
            self._discard(int(told))
            most = f"{self.server.page.largest / 2**30:.3g} GB"
            return self._say(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"larger than {most}; --largest allows more",
            )
        name = _printable(unquote(self.headers.get("X-Name", "volume")))
        try:
            self.server.page.compared(self.rfile.read, int(told), name)
        except Exception as error:  # the boundary: one file's fault is not the page's
            return self._say(HTTPStatus.UNPROCESSABLE_ENTITY, _sentence(error, name))
        self._send(HTTPStatus.OK, b"", KINDS[".txt"])

    def _discard(self, length: int) -> None:
        """Read what is not wanted: a browser that is cut off while it sends never shows the answer."""
        end = time.monotonic() + IDLE_S
        while length > 0 and time.monotonic() < end:
            piece = self.rfile.read(min(length, PIECE))
            length = length - len(piece) if piece else 0

    def _asked(self) -> str | None:
        """The part of the address behind the secret; None without it, or for another host."""
        known = self.headers.get("Host") in self.server.page.hosts
        secret, found, name = self.path.removeprefix("/").partition("/")
        return name if known and found and secrets.compare_digest(
            secret.encode(), self.server.page.secret.encode()
        ) else None  # fmt: skip

    def _say(self, status: HTTPStatus, sentence: str) -> None:
        self._send(status, sentence.encode(), KINDS[".txt"])

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        return "restore"

    def log_message(self, *_: object) -> None:
        """Nothing: names of files are people's."""


def _origins(server: PageServer) -> tuple[str, ...]:
    return tuple(f"http://{host}" for host in server.hosts)


def _printable(name: str) -> str:
    """The last part of a name, short and on one line."""
    last = name.replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in last if c.isprintable())[-LONGEST_NAME:] or "volume"


def _sentence(error: Exception, name: str) -> str:
    """What the page is told, with the name that the person knows."""
    if isinstance(error, InputError):
        return f"{name}: {error.why}" + (f" ({error.hint})" if error.hint else "")
    told = expected(error)
    said = told[1] if told else f"unexpected {type(error).__name__}, a fault of the program"
    return f"{name}: {said}"
