"""An archive in this process that speaks as much DICOMweb as `restore pull` and `push` ask for."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pydicom
import pytest
from pydicom.dataset import Dataset

BOUNDARY = "image-boundary"
PAGE = 3
"""Results of a search that are given at a time."""


@dataclass
class Shelf:
    """images: by UID; faults: HTTP statuses to answer first; refused: UIDs not taken; asked: what was retrieved;
    heads: the Authorization heads that came; offsets: whether searches know them.
    """

    images: dict[str, Dataset] = field(default_factory=dict)
    faults: list[int] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    heads: list[str | None] = field(default_factory=list)
    offsets: bool = True
    url: str = ""
    server: Any = None

    def put(self, images: list[Dataset]) -> None:
        self.images |= {str(image.SOPInstanceUID): image for image in images}


class Answering(BaseHTTPRequestHandler):
    shelf: Shelf

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""

    def do_GET(self) -> None:
        if self._failed():
            return
        parts = urlsplit(self.path)
        words, query = parts.path.strip("/").split("/")[1:], parse_qs(parts.query)
        named = dict(zip(words[::2], words[1::2], strict=False))
        images = [
            image for image in self.shelf.images.values()
            if named.get("studies", image.StudyInstanceUID) == image.StudyInstanceUID
            and named.get("series", image.SeriesInstanceUID) == image.SeriesInstanceUID
            and named.get("instances", image.SOPInstanceUID) == image.SOPInstanceUID
            and all(query.get(tag, [image.get(tag)])[0] == image.get(tag)
                    for tag in ("StudyInstanceUID", "SeriesInstanceUID"))
        ]  # fmt: skip
        if len(words) == 6:
            self._give(images)
        else:
            self._list(images, words[-1], int(query.get("offset", ["0"])[0]))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._failed():
            return
        image = pydicom.dcmread(BytesIO(body[body.index(b"\r\n\r\n") + 4 : body.rindex(b"\r\n--")]))
        uid, answer = str(image.SOPInstanceUID), Dataset()
        item = Dataset()
        item.ReferencedSOPInstanceUID = uid
        if uid in self.shelf.refused:
            item.FailureReason = 0x0110
            answer.FailedSOPSequence = [item]
        else:
            self.shelf.put([image])
            answer.ReferencedSOPSequence = [item]
        self._answer(200, "application/dicom+json", json.dumps(answer.to_json_dict()).encode())

    def _failed(self) -> bool:
        self.shelf.heads.append(self.headers.get("Authorization"))
        if not self.shelf.faults:
            return False
        status = self.shelf.faults.pop(0)
        if status == 302:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
        else:
            self._answer(status, "text/plain", b"Doe^Jane")
        return True

    def _give(self, images: list[Dataset]) -> None:
        if not images:
            self._answer(404, "text/plain", b"")
            return
        self.shelf.asked.append(str(images[0].SOPInstanceUID))
        buffer = BytesIO()
        images[0].save_as(buffer, enforce_file_format=True)
        head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
        self._answer(200, kind, head + buffer.getvalue() + f"\r\n--{BOUNDARY}--".encode())

    def _list(self, images: list[Dataset], what: str, offset: int) -> None:
        level = {
            "studies": "StudyInstanceUID",
            "series": "SeriesInstanceUID",
            "instances": "SOPInstanceUID",
        }[what]
        rows = {}
        for image in images:
            row = Dataset()
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
                setattr(row, keyword, image[keyword].value)
                if keyword == level:
                    break
            rows[image[level].value] = row.to_json_dict()
        start = offset if self.shelf.offsets else 0
        page = list(rows.values())[start:][: PAGE if self.shelf.offsets else None]
        self._answer(200, "application/dicom+json", json.dumps(page).encode())

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """An archive that holds nothing yet; no credentials of this machine go there."""
    pytest.importorskip("dicomweb_client")
    monkeypatch.setenv("NETRC", "/nonexistent")
    for name in ("USER", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"RESTORE_DICOMWEB_{name}", raising=False)
    monkeypatch.setattr("restore.serving.dicomweb.archive.PAUSE_S", 0.001)
    held = Shelf()
    handler = type("Handler", (Answering,), {"shelf": held})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        held.server = server
        held.url = f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
