"""Fetching by name, from a server on the loopback: only what has the right sha256 is kept, and the cache is used."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore.datasets.fetch_table import TABLES, entries, entry_of
from restore.datasets.fetching import CACHE, cache_folder, fetch, folder_of
from restore.errors import InputError, NotFoundError, OutputError, WeightsError
from restore.priors.store import bundled, load_prior, read_card

CONTENT = bytes(range(256)) * 1000


class Server(http.server.ThreadingHTTPServer):
    """Serves a dictionary of names; counts what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []

    def handle_error(self, *request: object) -> None:
        """A client that hangs up is no matter."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(http.server.BaseHTTPRequestHandler):
    """A file, half of one that is announced whole (cut), or not found."""

    server: Server

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked.append(name)
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name == "cut" else content)

    def log_message(self, *words: object) -> None:
        """Silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch) -> None:
    """A cache and a table of one's own, and no proxy between us and the loopback."""
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv(TABLES, str(tmp_path / "table.yaml"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "table.yaml").write_text("", encoding="utf-8")


def entry(
    tmp_path: Path, *files: tuple[str, str, bytes | None], section: str = "data", size: bool = True
):
    """Write a table of one entry "thing"; files: name, address, content for the sha256 (None: of nothing)."""
    listed = []
    for name, url, content in files:
        sha256 = hashlib.sha256(content or b"").hexdigest()
        listed.append({"name": name, "url": url, "sha256": sha256})
        if size and content is not None:
            listed[-1]["bytes"] = len(content)
    table = {section: {"thing": {"what": "a thing", "licence": "CC0", "files": listed}}}
    (tmp_path / "table.yaml").write_text(json.dumps(table), encoding="utf-8")
    return entry_of(section, "thing")


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("size", [True, False])
def test_a_file_comes_once(server, tmp_path, size):
    server.files["a"] = CONTENT
    thing = entry(tmp_path, ("a.bin", server.url("a"), CONTENT), size=size)
    told: list[int] = []
    (path,) = fetch(thing, on_bytes=told.append)
    assert path == tmp_path / "cache" / "data" / "thing" / "a.bin"
    assert path.read_bytes() == CONTENT
    assert (
        (told[-1], max(told)) == (len(CONTENT), len(CONTENT)) if size else max(told) >= len(CONTENT)
    )
    assert fetch(thing) == [path]
    assert server.asked == ["a"]
    assert left(tmp_path / "cache") == ["a.bin"]


def test_a_file_put_there_by_hand_needs_no_network(tmp_path):
    thing = entry(tmp_path, ("a.bin", "http://127.0.0.1:9/a", CONTENT))
    folder_of(thing).mkdir(parents=True)
    (folder_of(thing) / "a.bin").write_bytes(CONTENT)
    assert fetch(thing)[0].read_bytes() == CONTENT


def test_another_content_is_not_kept(server, tmp_path):
    server.files["a"] = CONTENT[:-1] + b"x"
    thing = entry(tmp_path, ("a.bin", server.url("a"), CONTENT))
    with pytest.raises(
        InputError,
        match=r"gave another file than the table's.*nothing was kept; correct table\.yaml",
    ):
        fetch(thing)
    assert left(tmp_path / "cache") == []


def test_a_damaged_file_of_the_cache_is_replaced(server, tmp_path):
    server.files["a"] = CONTENT
    thing = entry(tmp_path, ("a.bin", server.url("a"), CONTENT))
    (path,) = fetch(thing)
    path.write_bytes(CONTENT[:100])
    assert fetch(thing)[0].read_bytes() == CONTENT
    server.files.clear()
    path.write_bytes(CONTENT[:100])
    with pytest.raises(NotFoundError, match=r"what lies at .*a\.bin has another sha256"):
        fetch(thing)
    assert path.read_bytes() == CONTENT[:100]


def test_without_a_network_the_sentence_says_what_belongs_where(tmp_path):
    with socket.socket() as taken:  # a port that nobody listens on
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/a"
        thing = entry(tmp_path, ("a.bin", url, CONTENT))
        with pytest.raises(NotFoundError) as caught:
            fetch(thing)
    for words in (
        url,
        hashlib.sha256(CONTENT).hexdigest(),
        str(folder_of(thing) / "a.bin"),
        "could not be fetched",
    ):
        assert words in str(caught.value)
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("name", "words"), [("none", "the server answers 404"), ("cut", "could not be fetched")]
)
def test_faults_of_the_server_leave_nothing(server, tmp_path, name, words):
    server.files["cut"] = CONTENT
    thing = entry(tmp_path, ("a.bin", server.url(name), CONTENT))
    with pytest.raises(NotFoundError, match=words):
        fetch(thing)
    assert left(tmp_path / "cache") == []


def test_a_flood_is_ended_at_the_size_of_the_table(server, tmp_path):
    server.files["a"] = CONTENT * 40  # ten megabytes
    thing = entry(tmp_path, ("a.bin", server.url("a"), CONTENT))
    told: list[int] = []
    with pytest.raises(InputError, match="sends more than the 256000 bytes"):
        fetch(thing, on_bytes=told.append)
    assert max(told) <= len(CONTENT)
    assert left(tmp_path / "cache") == []


def test_a_folder_that_takes_nothing(server, tmp_path):
    server.files["a"] = CONTENT
    thing = entry(tmp_path, ("a.bin", server.url("a"), CONTENT))
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="could not be made"):
        fetch(thing, tmp_path / "file" / "sub")
    with pytest.raises(OutputError, match=r"takes no files|could not be made|make room"):
        fetch(thing, Path("/proc/self"))
    assert server.asked == []


def test_the_cache_is_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "restore"


def test_the_table_of_the_package_is_sound(monkeypatch):
    """Addresses are pinned to a commit, so that their content cannot change."""
    monkeypatch.delenv(TABLES)
    known = entries("data")
    assert {"stroke", "seg3d"} <= set(known)
    for one in known.values():
        assert one.licence
        for file in one.files:
            assert file.size is not None
            assert any(len(part) == 40 for part in file.url.split("/")), file.url


def test_a_sites_table_adds_and_wins(tmp_path, monkeypatch):
    for number in (1, 2):
        file = {"name": "a", "url": "https://example.org/a", "sha256": f"{number}" * 64}
        shown = {"what": f"of table {number}", "licence": "x", "files": [file]}
        table = {"data": {"stroke": shown, f"only{number}": shown}}
        (tmp_path / f"{number}.yaml").write_text(json.dumps(table))
    monkeypatch.setenv(TABLES, f"{tmp_path / '1.yaml'}:{tmp_path / '2.yaml'}")
    known = entries("data")
    assert known["stroke"].what == "of table 2"
    assert {"seg3d", "only1", "only2"} <= set(known)
    with pytest.raises(NotFoundError, match="did you mean 'stroke'"):
        entry_of("data", "strok")


FILE = {"name": "a.bin", "url": "https://example.org/a", "sha256": "0" * 64}
FAULTS = {
    "'dta' is no section, did you mean 'data'": {"dta": {}},
    "names with values were expected": {"data": ["x"]},
    "a name has letters": {"data": {"../x": {"what": "x", "licence": "x", "files": [FILE]}}},
    "licence missing": {"data": {"x": {"what": "x", "files": [FILE]}}},
    "'wat' is unknown, did you mean 'what'": {"data": {"x": {"wat": "x", "licence": "x", "files": [FILE]}}},
    "files must be a list": {"data": {"x": {"what": "x", "licence": "x", "files": {}}}},
    "two files of one name": {"data": {"x": {"what": "x", "licence": "x", "files": [FILE, FILE]}}},
    "is no plain file name": {"data": {"x": {"what": "x", "licence": "x", "files": [FILE | {"name": "../a"}]}}},
    "is no http or https address": {
        "data": {"x": {"what": "x", "licence": "x", "files": [FILE | {"url": "file:///etc/passwd"}]}}
    },
    r"'http://\[::1/x' is no http": {
        "data": {"x": {"what": "x", "licence": "x", "files": [FILE | {"url": "http://[::1/x"}]}}
    },
    "is no sha256": {"data": {"x": {"what": "x", "licence": "x", "files": [FILE | {"sha256": "md5:1"}]}}},
    "is no whole number": {"data": {"x": {"what": "x", "licence": "x", "files": [FILE | {"bytes": -1}]}}},
    "a text was expected": {"data": {"x": {"what": None, "licence": "x", "files": [FILE]}}},
}  # fmt: skip


@pytest.mark.parametrize("words", FAULTS)
def test_faulty_tables_are_refused_by_name(tmp_path, words):
    (tmp_path / "table.yaml").write_text(json.dumps(FAULTS[words]), encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        entries("data")
    assert caught.value.path == tmp_path / "table.yaml"


def prior_of(tmp_path: Path, server: Server) -> None:
    """The grey bundled prior under another name, offered by the server."""
    files = []
    for suffix in (".safetensors", ".json"):
        content = bundled()["medical"].with_suffix(suffix).read_bytes()
        server.files[f"knee{suffix}"] = content
        files.append((f"knee{suffix}", server.url(f"knee{suffix}"), content))
    entry(tmp_path, *files, section="priors")


def test_a_prior_by_name_is_fetched_once_and_then_like_any_other(server, tmp_path, caplog):
    prior_of(tmp_path, server)
    assert read_card("thing")["sha256"] == read_card("medical")["sha256"]
    assert "fetching the prior thing (CC0)" in caplog.text
    assert load_prior("thing").channels == 1
    assert sorted(server.asked) == ["knee.json", "knee.safetensors"]
    with pytest.raises(WeightsError, match="no prior 'thin', did you mean 'thing'"):
        load_prior("thin")


def test_a_prior_without_its_card_is_none(server, tmp_path):
    entry(tmp_path, ("knee.safetensors", server.url("a"), CONTENT), section="priors")
    with pytest.raises(InputError, match="a prior is two files"):
        load_prior("thing")
    assert server.asked == []


def test_the_verb_fetches_lists_and_refuses(server, tmp_path):
    from typer.testing import CliRunner

    from restore.cli import app

    def verb(*words: object):
        return CliRunner().invoke(app, ["data", "fetch", *map(str, words)])

    server.files["a"] = CONTENT
    entry(tmp_path, ("a.bin", server.url("a"), CONTENT))
    result = verb("thing", "-o", tmp_path / "here")
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'here' / 'a.bin'}\n")
    assert "licence: CC0" in result.stderr
    shown = json.loads(verb("--json").stdout)
    assert {"name": "thing", "megabytes": 0.3, "licence": "CC0", "what": "a thing"} in shown
    assert "stroke" in verb().stdout
    assert json.loads(verb("thing", "--json").stdout)["files"] == [
        str(tmp_path / "cache" / "data" / "thing" / "a.bin")
    ]
    assert verb("thin").exit_code == 3
    assert verb("thing", "-o", tmp_path / "table.yaml").exit_code == 5
    shutil.rmtree(tmp_path / "cache")
    server.files["a"] = b"something else"
    result = verb("thing")
    assert result.exit_code == 4
    assert "its sha256 is not" in result.stderr
