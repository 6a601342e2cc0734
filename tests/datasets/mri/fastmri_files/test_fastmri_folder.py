"""Folders as NYU ships them, and what a check says of files that are not what they should be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from restore.datasets.mri.fastmri_files.fastmri_check import (
    check_file,
    check_folder,
    read_checksums,
)
from restore.datasets.mri.fastmri_files.fastmri_folder import (
    COILS,
    FastMRIFile,
    find_volumes,
    folder_kind,
)
from restore.datasets.mri.fastmri_files.fastmri_header import format_header
from restore.errors import ConfigError, InputError, NotFoundError


def volume(path: Path, coils: int = 3, **changes: Any) -> Path:
    """A small correct file; `changes` replace its items, None takes one out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = np.random.default_rng(0).normal(size=(2, 4, coils, 24, 20))
    kspace = (parts[0] + 1j * parts[1]).astype(np.complex64)
    kspace[..., 12, 10] += 50  # a middle, as every object gives it
    target = np.random.default_rng(1).random((4, 12, 12)).astype(np.float32)
    items: dict[str, Any] = {
        "kspace": kspace if coils > 1 else kspace[:, 0],
        "reconstruction_rss" if coils > 1 else "reconstruction_esc": target,
        "ismrmrd_header": format_header((24, 20), (1, 1, 4), (12, 12)),
    }
    attributes: dict[str, Any] = {
        "acquisition": "AXT2", "max": target.max(), "norm": np.linalg.norm(target),
        "patient_id": "SECRET NAME",
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        for name, value in (items | changes).items():
            if value is not None and name not in ("max", "norm", "acquisition"):
                file[name] = value
        for name, value in attributes.items():
            if (value := changes.get(name, value)) is not None:
                file.attrs[name] = value
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("multicoil_val", "multicoil_test", "singlecoil_val"):
        for number in (2, 1):
            coils = 1 if folder.startswith("single") else 3
            volume(tmp_path / folder / f"file100000{number}.h5", coils)
    return tmp_path


def test_split_folders_below_the_root(root: Path) -> None:
    (root / "multicoil_val" / "._file1000003.h5").write_bytes(b"")
    (root / "multicoil_val" / "notes.txt").write_text("")
    volume(root / "reconstructions" / "file1000009.h5")
    found = find_volumes(root)
    path = root / "multicoil_val" / "file1000001.h5"
    assert found[0] == FastMRIFile(path, "multicoil", "val", "file1000001.h5")
    assert [f.name for f in found] == ["file1000001.h5", "file1000002.h5"]
    assert {f.coils for f in find_volumes(root, coils="singlecoil")} == {"singlecoil"}
    assert {f.split for f in find_volumes(root, "test")} == {"test"}


def test_one_split_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(find_volumes(root / "singlecoil_val")) == 2
    monkeypatch.chdir(root / "multicoil_test")
    assert [f.coils for f in find_volumes(".", "test")] == ["multicoil"] * 2
    with pytest.raises(NotFoundError, match="no volumes of the split 'val'; found: multicoil_test"):
        find_volumes(root / "multicoil_test")


def test_a_plain_folder_counts_as_what_is_asked(tmp_path: Path) -> None:
    volume(tmp_path / "b.h5")
    volume(tmp_path / "a.h5")
    volume(tmp_path / "c.h5", coils=1)
    assert [f.name for f in find_volumes(tmp_path, "train")] == ["a.h5", "b.h5"]
    assert [f.name for f in find_volumes(tmp_path, coils="singlecoil")] == ["c.h5"]


def test_nested_batches_of_the_brain_data(tmp_path: Path) -> None:
    for batch in (0, 1):
        folder = tmp_path / f"brain_multicoil_val_batch_{batch}" / "multicoil_val"
        volume(folder / f"file_brain_AXT2_200_{batch}.h5")
    assert [f.name[-4] for f in find_volumes(tmp_path)] == ["0", "1"]
    twice = tmp_path / "brain_multicoil_val_batch_2" / "file_brain_AXT2_200_0.h5"
    with pytest.raises(InputError, match="is there twice"):
        find_volumes(volume(twice).parents[1])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("multicoil_val", ("multicoil", "val")),
        ("singlecoil_test_v2", ("singlecoil", "test")),
        ("knee_multicoil_train", ("multicoil", "train")),
        ("brain_multicoil_test_full_batch_2", ("multicoil", "test")),
        ("multicoil_challenge", ("multicoil", "challenge")),
        ("multicoil_validation", None),
        ("multicoil", None),
    ],
)
def test_names_of_folders(name: str, kind: tuple[str, str] | None) -> None:
    assert folder_kind(name) == kind


def test_nothing_to_find(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such folder"):
        find_volumes(tmp_path / "none")
    with pytest.raises(InputError, match=r"holds no \.h5 files"):
        find_volumes(tmp_path)
    (tmp_path / "knee_multicoil_val.tar.xz").write_bytes(b"x")
    with pytest.raises(InputError, match="unpack knee_multicoil_val"):
        find_volumes(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        find_volumes(tmp_path / "knee_multicoil_val.tar.xz")
    with pytest.raises(ConfigError, match="unknown split"):
        find_volumes(tmp_path, "validation")
    with pytest.raises(ConfigError, match="unknown coils"):
        find_volumes(tmp_path, coils="both")


def test_a_correct_file(tmp_path: Path) -> None:
    report = check_file(volume(tmp_path / "a.h5"))
    assert (report.ok, report.notes, report.coils) == (True, [], "multicoil")
    assert (report.shape, report.target) == ((4, 3, 24, 20), (4, 12, 12))
    assert report.acquisition == "AXT2"
    single = check_file(volume(tmp_path / "b.h5", coils=1))
    assert (single.coils, single.shape, single.ok) == ("singlecoil", (4, 1, 24, 20), True)
    assert "SECRET" not in repr(report)


MASK = np.arange(20) % 2 == 0
SIZES = format_header((24, 20), (1, 1, 4), (30, 30))
PADDED = format_header((24, 20), (1, 1, 4), (12, 12), (2, 18))


@pytest.mark.parametrize(
    ("changes", "problem", "note"),
    [
        ({"kspace": None}, "no data set 'kspace'; the file holds", ""),
        ({"kspace": np.ones((4, 3, 24, 20))}, "expected complex", ""),
        ({"kspace": np.ones((24, 20), complex)}, "expected complex", ""),
        ({"kspace": np.full((4, 3, 24, 20), np.nan + 0j)}, "NaN or infinite values in slice 0", ""),
        ({"kspace": np.zeros((4, 3, 24, 20), complex)}, "", "slice 3 of 'kspace' is zero"),
        ({"ismrmrd_header": None}, "no 'ismrmrd_header'", ""),
        ({"ismrmrd_header": "<x"}, "malformed XML", ""),
        ({"ismrmrd_header": '<!DOCTYPE x [<!ENTITY a "b">]><x/>'}, "refused", ""),
        ({"ismrmrd_header": SIZES}, "", "30 x 30 exceeds k-space 24 x 20"),
        ({"ismrmrd_header": PADDED}, "", "4 zero-padded columns"),
        (
            {"reconstruction_rss": np.ones((4, 30, 30)), "max": 1.0},
            "",
            "the target 30 x 30 exceeds",
        ),
        ({"reconstruction_rss": np.ones((3, 12, 12))}, "expected real (4, rows, columns)", ""),
        ({"reconstruction_rss": np.ones((4, 12, 12), complex)}, "expected real", ""),
        ({"reconstruction_rss": np.full((4, 12, 12), np.nan)}, "target holds NaN", ""),
        ({"reconstruction_rss": None}, "", "neither target nor mask"),
        ({"max": 1.5}, "attribute 'max' is 1.5, the target's maximum 0.99", ""),
        ({"max": None}, "", "attribute 'max' is missing"),
        ({"norm": np.inf}, "'norm' is not a finite number", ""),
        ({"acquisition": None}, "", "'acquisition' is missing"),
        ({"acquisition": "DOE^JOHN"}, "", "'acquisition' is none of the published ones"),
        ({"mask": MASK}, "", "not zero outside 'mask'"),
        ({"mask": MASK}, "", "'acceleration' is missing"),
        ({"mask": MASK[:10]}, "'mask' has shape (10,)", ""),
        ({"mask": 0 * MASK}, "not all 0", ""),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, changes, problem: str, note: str) -> None:
    report = check_file(volume(tmp_path / "a.h5", **changes))
    assert report.ok == (not problem)
    assert any(problem in text for text in report.problems) or not problem
    assert any(note in text for text in report.notes) or not note
    assert not [t for t in (*report.problems, *report.notes) if "DOE" in t or "SECRET" in t]


def test_maximum_may_differ_by_rounding(tmp_path: Path) -> None:
    path = volume(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        file.attrs["max"] = file.attrs["max"] * (1 + 5e-6)
    assert check_file(path).ok
    with h5py.File(path, "a") as file:
        file.attrs["max"] = file.attrs["max"] * (1 + 2e-5)
    assert not check_file(path).ok


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


def external(path: Path) -> None:
    other = path.with_name("other.h5")
    path.rename(other)
    with h5py.File(path, "w") as file:
        file["kspace"] = h5py.ExternalLink(other.name, "kspace")


def text(path: Path) -> None:
    path.write_text("an error page")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (truncate, "damaged HDF5 file"),
        (external, "is an external link"),
        (text, "is not an HDF5 file but a text file"),
        (empty, "empty: 0 bytes"),
    ],
)
def test_damage_is_reported_and_the_rest_still_checked(
    tmp_path: Path, harm: Callable[[Path], None], words: str
) -> None:
    harm(volume(tmp_path / "a.h5"))
    volume(tmp_path / "z.h5")
    reports = {r.path.name: r for r in check_folder(tmp_path)}
    assert words in reports["a.h5"].problems[0]
    assert reports["z.h5"].ok
    with pytest.raises(NotFoundError):
        check_file(tmp_path / "missing.h5")


def test_a_file_in_the_wrong_folder(tmp_path: Path) -> None:
    volume(tmp_path / "multicoil_val" / "a.h5", coils=1)
    seen: list[tuple[int, int]] = []
    reports = check_folder(tmp_path, done=lambda *counts: seen.append(counts))
    assert reports[0].problems == ["singlecoil k-space in a multicoil folder"]
    assert seen == [(1, 1)]


def test_checksums(root: Path) -> None:
    files = [root / f"{coils}_val" / "file1000001.h5" for coils in COILS]
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert sums[0] != sums[1]
    lines = [f"{sums[0]}  ./multicoil_val/file1000001.h5", f"{'0' * 64} *file1000002.h5"]
    table = root / "sums.txt"
    table.write_text("\n".join(["# own copy", *lines, f"{sums[1]}  singlecoil_val/file1000001.h5"]))
    reports = check_folder(root, table)
    found = {(r.path.parent.name, r.path.stem[-1]): r.sha256 for r in reports}
    assert found[("multicoil_val", "1")] == found[("singlecoil_val", "1")] == "ok"
    assert found[("multicoil_val", "2")] == "differs"
    assert found[("multicoil_test", "1")] == ""
    assert [r.ok for r in reports if r.sha256 == "differs"] == [False] * 3


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("abc  file.h5", "line 1 is not"),
        (f"{'0' * 64}  a.h5\n{'1' * 64}  a.h5", "line 2 gives a second sha256"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, lines: str, words: str) -> None:
    (tmp_path / "sums.txt").write_text(lines)
    with pytest.raises(InputError, match=words):
        read_checksums(tmp_path / "sums.txt")
    with pytest.raises(NotFoundError):
        read_checksums(tmp_path / "none.txt")
