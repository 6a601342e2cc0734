"""The page that `restore view` serves: what it shows, what it compares, and what it gives to nobody."""

from __future__ import annotations

import dataclasses
import http.client
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.open import read
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Unplaced
from restore.errors import InputError
from restore.serving.page.comparison import on_grid
from restore.serving.page.server import HEADERS, HOST, PageServer

Answer = tuple[int, dict[str, str], bytes]

INTERPOLATED = 1e-4
"""Relative: float32 coordinates of a linear ramp, whose interpolation is exact."""


@pytest.fixture(scope="module")
def server(volumes: Path, serve: Callable) -> Iterator[PageServer]:
    with serve(volumes / "head.nii.gz") as listening:
        yield listening


def asked(
    server: PageServer, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> Answer:
    """Status, headers and body. path: as it is sent, from the secret's slash on unless it begins with //."""
    where = urlsplit(server.url)
    peer = http.client.HTTPConnection(HOST, where.port, timeout=60)
    whole = path[1:] if path.startswith("//") else where.path + path
    sent = {"Host": server.hosts[0], **{k.replace("_", "-"): v for k, v in headers.items()}}
    peer.putrequest(method, whole, skip_host=True)
    if body is not None:
        sent.setdefault("Content-Length", str(len(body)))
    for name, value in sent.items():
        peer.putheader(name, value)
    peer.endheaders(body)
    got = peer.getresponse()
    found = got.status, dict(got.getheaders()), got.read()
    peer.close()
    return found


def dropped(server: PageServer, file: Path, name: str = "", **headers: str) -> Answer:
    own = {"Origin": f"http://{server.hosts[0]}", "X-Name": quote(name or file.name)}
    return asked(server, "compare", "POST", file.read_bytes(), **(own | headers))


def test_the_page_and_all_that_it_names_is_there(server: PageServer) -> None:
    status, headers, body = asked(server, "")
    page = body.decode()
    assert status == 200
    assert HEADERS.items() <= headers.items()
    names = re.findall(r'(?:src|href)="([^"#:]+)"', page)
    assert {"static/stack.js", "static/viewer.js", "static/drop.js"} <= set(names)
    for name in names:
        assert asked(server, name)[0] == 200, name
    assert "connect-src &#39;self&#39;" in page
    assert "head.nii.gz" in page


def test_a_second_volume_is_compared(server: PageServer, volumes: Path) -> None:
    name = "<img src=x onerror=alert(1)>.nii.gz"
    assert dropped(server, volumes / "second.nii.gz", name)[0] == 200
    page = asked(server, "")[2].decode()
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.nii.gz" in page
    assert "|difference|" in page
    assert dropped(server, volumes / "second.nii.gz", "../../etc/passwd")[0] == 200
    assert "passwd" in asked(server, "")[2].decode()


def test_what_cannot_be_compared_is_said_in_words(
    server: PageServer, volumes: Path, tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    before = asked(server, "")[2]
    for file, words in ((text, "notes.txt: a text file"), (volumes / "far.nii.gz", "covers 0.0%")):
        status, _, body = dropped(server, file)
        assert (status, words in body.decode()) == (422, True), body
        assert "restore-view" not in body.decode()
    large = tmp_path / "large.nii"
    large.write_bytes(b"\0" * ((1 << 20) + 1))
    assert dropped(server, large)[0] == 413
    assert asked(server, "")[2] == before


@pytest.mark.parametrize(
    "path",
    [
        "//", "//wrong/", "//wrong/index.html", "../", "..%2f..%2fetc/passwd", "static/../../x", "/etc/passwd",
        "%2e%2e/", "static", "compare", "volumes/", "static//stack.js", "index.html/", "\\..\\x",
    ],
)  # fmt: skip
def test_nothing_else_is_there(server: PageServer, path: str) -> None:
    assert asked(server, path)[0] == 404


def test_other_hosts_and_other_pages_get_nothing(server: PageServer, volumes: Path) -> None:
    """A name that is made to lead here (DNS rebinding), and a form or script of another page."""
    assert asked(server, "", Host="evil.example")[0] == 404
    assert dropped(server, volumes / "second.nii.gz", Origin="http://evil.example")[0] == 404
    assert dropped(server, volumes / "second.nii.gz", Origin="null")[0] == 404
    assert asked(server, "compare", "POST", b"", Origin=f"http://{server.hosts[0]}",
                 Content_Length="many")[0] == 411  # fmt: skip
    assert asked(server, "", "PUT", b"x")[0] == 501
    assert server.hosts[0].startswith("127.0.0.1:")
    assert len(server.secret) >= 32


def test_another_grid_is_interpolated_and_said() -> None:
    """A ramp along x, at half the pitch and shifted: linear interpolation is exact inside."""
    head = head_phantom((4, 10, 12))
    ramp = head.with_data(np.broadcast_to(np.arange(12, dtype=np.float32), head.data.shape).copy())
    fine = head.affine @ np.diag([0.5, 1, 1, 1])
    fine[:3, 3] += 0.25 * head.affine[:3, 0]
    grid = dataclasses.replace(ramp, affine=fine)
    values, notes = on_grid(ramp, grid, "second")
    expected = 0.25 + 0.5 * np.arange(12)
    np.testing.assert_allclose(values[2, 5], expected, rtol=INTERPOLATED)
    assert "interpolated linearly; it covers 100%" in notes[0]


def test_without_a_place_only_equal_shapes_are_compared() -> None:
    head = head_phantom((4, 10, 12))
    bare = dataclasses.replace(head, header=Unplaced())
    assert "voxel by voxel" in on_grid(bare, head, "second")[1][0]
    with pytest.raises(InputError, match="tells no place"):
        on_grid(bare, head_phantom((4, 10, 8)), "second")


def test_the_verb_refuses_in_words(tmp_path: Path, volumes: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["view", str(tmp_path / "none.nii.gz"), "--no-browser"]).exit_code == 3
    (tmp_path / "x.txt").write_text("hello")
    assert run(app, ["view", str(tmp_path / "x.txt"), "--no-browser"]).exit_code == 4
    (tmp_path / "REPORT.txt").write_text("A report")
    report = run(app, ["view", str(tmp_path), "--no-browser"])
    assert (report.exit_code, "open its index.html" in report.stderr) == (4, True)
    far = run(app, ["view", str(volumes / "head.nii.gz"), "--compare", str(volumes / "far.nii.gz")])
    assert (far.exit_code, "covers 0.0%" in far.stderr) == (4, True)
    assert read(volumes / "head.nii.gz").data.shape == (6, 32, 28)
