"""Siemens raw data of both layouts: written here by the public layout, read alike by twixtools, and as a scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from twix_files import NOISE, REFERENCE, REFLECT, SYNC, other, readout, write_twix
from twixtools import read_twix as read_by_twixtools

from restore.datasets.mri.mrd.twix_layout import measurements, read_readouts
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.datasets.simulate.coils import birdcage
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError, InputError
from restore.operators.mri.fourier import fft2c

ROWS, COLUMNS, COILS, SLICES = 24, 20, 2, 2


def kspace() -> np.ndarray:
    """(slices, coils, twice the rows, columns): a head with air on both sides along the readout."""
    image = np.zeros((SLICES, 2 * ROWS, COLUMNS))
    image[:, ROWS // 2 : ROWS // 2 + ROWS] = head_phantom((SLICES, ROWS, COLUMNS)).data
    coils = image[:, None] * birdcage((2 * ROWS, COLUMNS), COILS)
    return fft2c(torch.from_numpy(coils)).numpy().astype(np.complex64)


def noise(rng: np.random.Generator) -> np.ndarray:
    parts = rng.normal(size=(COILS, 64, 2))
    return (parts[..., 0] + 1j * parts[..., 1]).astype(np.complex64)


def lines(vd: bool, turns: int = 1, skip: tuple[int, ...] = (), **fields: Any) -> list[bytes]:
    """A noise readout and all lines of all slices, from the last slice and line to the first; `turns` averages."""
    found = [readout(noise(np.random.default_rng(0)), vd, NOISE), other(vd, SYNC)]
    values = kspace()
    for average in range(turns):
        for s in reversed(range(SLICES)):
            for line in reversed(range(COLUMNS)):
                if line not in skip:
                    told = {
                        "line": line, "slice": s, "average": average, "centre_line": COLUMNS // 2,
                        "position": (1, 2, 6 * s),
                    }  # fmt: skip
                    found.append(
                        readout(values[s, :, :, line] * (1 + average), vd, **(told | fields))
                    )
    return found


@pytest.mark.parametrize("vd", [False, True])
def test_twixtools_reads_the_same(tmp_path: Path, vd: bool):
    path = write_twix(tmp_path / "a.dat", [lines(vd)], vd)
    theirs = read_by_twixtools(
        str(path), parse_pmu=False, parse_geometry=False, verbose=False, keep_syncdata=False
    )[-1]
    ours = read_readouts(path, measurements(path)[-1])
    assert ours.complete
    assert len(theirs["mdb"]) == len(ours.data) == 1 + SLICES * COLUMNS
    for mdb, record, data in zip(theirs["mdb"], ours.records, ours.data, strict=True):
        np.testing.assert_array_equal(mdb.data, data)
        assert (mdb.cLin, mdb.cSlc, mdb.mdh.CenterLin) == (
            record["line"], record["slice"], record["centre_line"],
        )  # fmt: skip
        assert int(mdb.mdh.EvalInfoMask) == record["flags"]
        assert mdb.mdh.SliceData.SlicePos.Tra == record["position"][2]
        np.testing.assert_array_equal(mdb.mdh.SliceData.Quaternion, record["quaternion"])
    assert theirs["hdr"]["MeasYaps"]["sKSpace"]["lBaseResolution"] == ROWS


@pytest.mark.parametrize("vd", [False, True])
def test_lines_become_slices(tmp_path: Path, vd: bool):
    scan = open_scan(write_twix(tmp_path / "a.dat", [lines(vd)], vd))
    assert isinstance(scan, MRIScan)
    assert scan.shape == (SLICES, COILS, ROWS, COLUMNS)
    assert scan.mask.all()
    assert scan.noise_scan.shape == (COILS, 64)
    problem = scan.setup().problem(range(SLICES), torch.device("cpu"))
    found = problem.operator.pinv(problem.y).abs().numpy()
    truth = head_phantom((SLICES, ROWS, COLUMNS)).data
    assert np.corrcoef(found.ravel(), truth.ravel())[0, 1] > 0.99
    # Phase, read and slice along x, y and z; 2 x 3 mm in the plane, slices 6 mm apart.
    np.testing.assert_allclose(scan.affine[:3, :3], np.diag([-3, -2, 6]), atol=1e-5)
    np.testing.assert_allclose(
        scan.affine @ [COLUMNS // 2, ROWS // 2, 1, 1], [-1, -2, 6, 1], atol=1e-5
    )
    said = " ".join(scan.notes)
    assert "readout oversampling removed: 48 to 24 samples" in said
    assert "never held against a scanner's own images" in said
    assert "SECRET" not in said + str(scan.source) + str(scan.settings)


def test_averages_partial_fourier_and_lacking_lines(tmp_path: Path):
    twice = open_scan(write_twix(tmp_path / "a.dat", [lines(True, turns=2)]))
    once = open_scan(write_twix(tmp_path / "b.dat", [lines(True)]))
    # The mean of 1 and 2, in single precision, of samples up to some thousand.
    np.testing.assert_allclose(twice.kspace[0], 1.5 * once.kspace[0], atol=1e-2)
    assert "2 averages: averaged" in twice.notes
    fewer = open_scan(write_twix(tmp_path / "c.dat", [lines(True, skip=(0, 1, 7))]))
    np.testing.assert_array_equal(np.flatnonzero(~fewer.mask), [0, 1, 7])
    assert "3 of 20 lines were not measured" in fewer.notes


def test_several_measurements(tmp_path: Path):
    adjustment = [readout(noise(np.random.default_rng(1)), True, NOISE)]
    path = write_twix(tmp_path / "a.dat", [adjustment, lines(True)])
    scan = open_scan(path)
    assert scan.shape[0] == SLICES
    assert any("the last of 2 measurements is read" in note for note in scan.notes)
    chosen = open_scan(path, select="measurement=1, slice=1")
    np.testing.assert_array_equal(chosen.kspace[0], scan.kspace[1])
    assert not any("measurements" in note for note in chosen.notes)
    with pytest.raises(InputError, match="holds no acquisitions of an image"):
        open_scan(path, select="measurement=0")
    with pytest.raises(InputError, match=r"holds no measurement 2.*there are 2, from 0"):
        open_scan(path, select="measurement=2")
    with pytest.raises(ConfigError, match="expected measurement=NUMBER"):
        open_scan(path, select="measurement=last")


def test_a_localiser_is_read_slice_by_slice(tmp_path: Path):
    half = 0.5**0.5
    turned = [
        r if k < 2 + COLUMNS else readout(kspace()[0, :, :, k - 2 - COLUMNS], True, line=k - 2 - COLUMNS,
                                          centre_line=COLUMNS // 2, quaternion=(half, half, 0, 0))
        for k, r in enumerate(lines(True))
    ]  # fmt: skip
    path = write_twix(tmp_path / "a.dat", [turned])
    with pytest.raises(
        InputError, match=r"2 slices lie in 2 directions, as those of a localiser.*such as 0, 1"
    ):
        open_scan(path)
    assert open_scan(path, select="slice=1").shape[0] == 1


def test_calibration_lines(tmp_path: Path):
    """Those of a separate scan have another contrast; integrated ones are lines of the image."""
    mixed = lines(True, skip=tuple(range(12, 20))) + [
        readout(5 * kspace()[s, :, :, line], True, REFERENCE, line=line, slice=s, centre_line=COLUMNS // 2)
        for s in range(SLICES) for line in range(12, 20)
    ]  # fmt: skip
    apart = open_scan(
        write_twix(tmp_path / "a.dat", [mixed], protocol={"sPat.ucRefScanMode": "0x4"})
    )
    assert apart.mask.sum() == 12
    assert "16 readouts of a separate calibration scan are not used" in apart.notes
    within = open_scan(
        write_twix(tmp_path / "b.dat", [mixed], protocol={"sPat.ucRefScanMode": "0x2"})
    )
    assert within.mask.all()


@pytest.mark.parametrize(
    ("protocol", "fields", "found"),
    [
        ({"sKSpace.ucTrajectory": "0x2"}, {}, r"along a trajectory \(radial\)"),
        ({"sKSpace.lBaseResolution": "none"}, {}, "tells of 0 pixels"),
        ({}, {"flags": REFLECT}, r"run backwards \(EPI\)"),
        ({}, {"flags": 1 << 38}, "several slices were excited at once"),
        ({}, {"line": 500}, "reach from 0 to 500 about 10, and its protocol tells of 20"),
        ({}, {"centre_column": 3}, "about sample 3"),
    ],
)
def test_what_is_not_served_is_named(tmp_path: Path, protocol: Any, fields: Any, found: str):
    extra = {"line": 3, "centre_line": COLUMNS // 2} | fields
    readouts = [*lines(True), readout(kspace()[0, :, :, 3], True, **extra)]
    path = write_twix(tmp_path / "a.dat", [readouts], protocol=protocol)
    with pytest.raises(InputError, match=found):
        open_scan(path)


def test_files_that_are_cut(tmp_path: Path):
    path = write_twix(tmp_path / "a.dat", [lines(True)])
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match="measurement 0 of 1 lies from byte"):
        open_scan(path)
    broken = open_scan(write_twix(tmp_path / "b.dat", [lines(False)], vd=False, ended=False))
    assert any("does not end as it should" in note for note in broken.notes)
