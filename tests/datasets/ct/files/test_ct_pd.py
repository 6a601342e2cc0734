"""DICOM-CT-PD by hand (pydicom): a helix, a flying focal spot, a cylindrical detector, a sphere in closed form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from ct_pd_files import A_TURN, FEED, VIEWS, projection
from ct_spheres import seen

from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.open import open_scan
from restore.errors import InputError

RESAMPLED = (
    0.006  # a bar on interpolation, of line integrals up to 0.36, root mean square: 0.001 seen
)


def series(folder: Path, turn: int = 1, raw: bool = False) -> Path:
    """Files whose names are not in their order."""
    for k in range(VIEWS):
        projection(k, turn, raw).save_as(
            folder / f"{(7 * k) % VIEWS:03d}.dcm", enforce_file_format=True
        )
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series(tmp_path_factory.mktemp("ct-pd"))


def checked(scan: object) -> BeamScan:
    assert isinstance(scan, BeamScan)
    difference = scan.projections[:] - seen(scan.geometry.reduced())
    assert np.sqrt(np.mean(difference**2)) < RESAMPLED
    assert seen(scan.geometry.reduced()).max() > 0.3
    return scan


def test_every_view_has_its_own_focal_spot(folder: Path) -> None:
    scan = checked(open_scan(folder))
    sources = scan.geometry.reduced().source
    assert (
        np.abs(np.diff(sources[:, 2]) - FEED / A_TURN).min() > 0.5
    )  # it flies along z in every view
    assert scan.mu_water == pytest.approx(0.0192)
    notes = " ".join(scan.notes)
    assert "resampled onto a flat one" in notes
    assert "opposite rays" not in notes


@pytest.mark.parametrize("raw", [False, True])
def test_columns_that_are_counted_the_other_way(tmp_path: Path, raw: bool) -> None:
    scan = checked(open_scan(series(tmp_path, turn=-1, raw=raw) / "000.dcm"))
    assert any("columns are counted the other way" in note for note in scan.notes)


def test_a_circle_tells_columns_and_not_rows(tmp_path: Path) -> None:
    """Both sources of a line lie in one plane: nothing shows which way is up."""
    for k in range(A_TURN):
        header = projection(k, turn=-1, feed=0.0)
        header.save_as(tmp_path / f"{k:02d}.dcm", enforce_file_format=True)
    scan = checked(open_scan(tmp_path))
    assert any("columns are counted the other way" in note for note in scan.notes)
    assert any("do not tell which way rows are counted" in note for note in scan.notes)


def spoil(header: pydicom.Dataset, tag: int, value: object) -> None:
    if value is None:
        del header[tag]
    else:
        header[tag].value = value


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (0x7029100B, "FLAT", "its detector is flat"),
        (0x70291010, 9, "of a detector of 9 rows"),
        (0x70311033, None, r"without \(7031,1033\)"),
        (0x70311031, 50.0, "exchanged"),
        (0x70291002, 0.0, r"\(7029,1002\) is 0"),
        (0x70291002, 1.0, "others"),
        (0x00200013, 7, "have the number 7"),
        (0x70311001, None, "beside projections that is none"),
    ],
)
def test_projections_that_do_not_fit_are_refused(
    tmp_path: Path, tag: int, value: object, words: str
) -> None:
    for k in (3, 6):
        header = projection(k)
        if k == 3:
            spoil(header, tag, value)
        header.save_as(tmp_path / f"{9 - k}.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=words):
        open_scan(tmp_path)


def test_missing_views_and_cut_files(tmp_path: Path) -> None:
    for k in range(0, 30, 3):
        projection(k).save_as(tmp_path / f"{k:02d}.dcm", enforce_file_format=True)
    scan = open_scan(tmp_path)
    assert any(
        "18 views are missing between others: numbers 2, 3, 5" in note for note in scan.notes
    )
    header = projection(3)
    header["PixelData"].value = b"\0" * 10
    header.save_as(tmp_path / "03.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match="10 bytes of values of 16 bits, expected 1152"):
        open_scan(tmp_path).projections[1]
