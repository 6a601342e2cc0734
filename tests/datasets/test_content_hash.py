"""A hash sees a change anywhere in a file, and files that did not change are read once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from restore.datasets import content_hash
from restore.datasets.content_hash import SETTLED_NS, sha256_of
from restore.errors import InputError, NotFoundError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """6 MB, changed long ago as far as its clock is asked."""
    path = tmp_path / "volume.h5"
    path.write_bytes(bytes(6_000_000))
    return path


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock run ahead, so that what was written just now counts as old."""
    now = content_hash.time.time_ns
    monkeypatch.setattr(content_hash.time, "time_ns", lambda: now() + 2 * SETTLED_NS)


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read from now on."""
    seen: list[Path] = []
    read = content_hash._read

    def noted(path: Path) -> tuple[str, bool]:
        seen.append(path)
        return read(path)

    monkeypatch.setattr(content_hash, "_read", noted)
    return seen


def test_a_change_in_the_middle_is_seen_though_the_time_is_set_back(file, monkeypatch):
    settle(monkeypatch)
    before, stat = sha256_of(file), file.stat()
    with file.open("r+b") as stream:
        stream.seek(3_000_000)
        stream.write(b"\1")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (stat.st_size, stat.st_mtime_ns)
    assert sha256_of(file) == hashlib.sha256(file.read_bytes()).hexdigest() != before


def test_what_did_not_change_is_read_once(file, monkeypatch):
    settle(monkeypatch)
    seen = reads(monkeypatch)
    assert len({sha256_of(file) for _ in range(3)}) == 1
    assert seen == [file]
    link = file.with_name("link.h5")
    link.symlink_to(file)
    assert sha256_of(link) == sha256_of(file)
    other = file.with_name("other.h5")
    other.write_bytes(b"other")
    link.unlink()
    link.symlink_to(other)
    assert sha256_of(link) == hashlib.sha256(b"other").hexdigest()


def test_what_changed_just_now_is_read_again(file, monkeypatch):
    """Two changes within one tick of the clock leave one time."""
    seen = reads(monkeypatch)
    sha256_of(file), sha256_of(file)
    assert seen == [file, file]


def test_what_cannot_be_read(tmp_path, file, monkeypatch):
    with pytest.raises(NotFoundError):
        sha256_of(tmp_path / "none")

    def fails(path: Path) -> tuple[str, bool]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(content_hash, "_read", fails)
    with pytest.raises(InputError, match="Input/output error"):
        sha256_of(file)
