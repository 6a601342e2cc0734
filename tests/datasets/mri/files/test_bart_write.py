"""BART's files that are written: their numbers, read again here, and by BART where it is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bart_pairs import write_cfl

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.files.bart_write import scan_files, write_scan
from restore.datasets.mri.files.cfl import read_cfl
from restore.datasets.mri.files.maps_file import with_maps
from restore.datasets.open import open_scan, write
from restore.datasets.simulate.mri import phased_slice, simulate_mri
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.noncartesian import simulate_noncartesian
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.volume.volume import Volume
from restore.errors import OutputError

SHAPE = (3, 16, 12)


def volume() -> Volume:
    return head_phantom(SHAPE)


def bart(folder: Path, *words: str) -> None:
    if shutil.which("bart") is None:
        pytest.skip("BART is not installed")
    subprocess.run(["bart", *words], cwd=folder, check=True, capture_output=True, timeout=300)


def test_images(tmp_path: Path):
    given = volume()
    write(given, tmp_path / "a.cfl", description="restore\ntv")
    found = read_cfl(tmp_path / "a")
    assert found.shape[:4] == (16, 12, 3, 1)
    np.testing.assert_array_equal(found.reshape(16, 12, 3).transpose(2, 0, 1), given.data)
    assert "# Command\nrestore tv\n# Creator\n" in (tmp_path / "a.hdr").read_text()
    (tmp_path / "a.cfl").unlink()
    with pytest.raises(OutputError, match=r"a\.hdr: exists already"):
        write(given, tmp_path / "a.cfl")


def test_a_volume_comes_back(tmp_path: Path):
    scan = simulate_mri_volume(head_phantom((6, 16, 12)), coils=2, acceleration=2)
    write_scan(scan, tmp_path / "k.cfl")
    found = with_maps(
        open_scan(tmp_path / "k.cfl", pattern=str(tmp_path / "k_pattern")), tmp_path / "k_maps"
    )
    assert isinstance(found, CartesianVolumeScan)
    for name in ("partitions", "maps"):
        np.testing.assert_array_equal(*(np.asarray(getattr(s, name)) for s in (found, scan)))
    np.testing.assert_array_equal(found.sampled, scan.sampled)


@pytest.mark.parametrize("kind", ["", "radial:20", "stars:9"])
def test_scans_come_back(tmp_path: Path, kind: str):
    shape = (2, 16, 12)  # even: as large as a trajectory reaches is all that is known
    if kind:
        pytest.importorskip("finufft")
        scan = simulate_noncartesian(head_phantom(shape), kind, coils=2)
    else:
        scan = simulate_mri(head_phantom(shape), coils=2, acceleration=2, center_fraction=0.3)
    write_scan(scan, tmp_path / "k.cfl")
    beside = "traj" if kind else "pattern"
    assert (
        {p.name for p in scan_files(scan, tmp_path / "k.cfl")}
        == {f"k{part}.{end}" for part in ("", f"_{beside}", "_maps") for end in ("cfl", "hdr")}
        == {p.name for p in tmp_path.iterdir()}
    )
    option = {"trajectory" if kind else "pattern": str(tmp_path / f"k_{beside}")}
    found = with_maps(open_scan(tmp_path / "k.cfl", **option), tmp_path / "k_maps")
    for name in ("kspace", "maps"):
        np.testing.assert_array_equal(*(np.asarray(getattr(s, name)) for s in (found, scan)))
    if kind:
        assert found.matrix == scan.matrix
        # Single precision of up to 8 cycles.
        np.testing.assert_allclose(found.points, scan.points, atol=1e-5)
    else:
        np.testing.assert_array_equal(found.mask, scan.mask)


def test_bart_reconstructs_what_is_written(tmp_path: Path):
    scan = simulate_mri(volume(), coils=4, acceleration=1, noise=0.0, slices=slice(1, 2))
    write_scan(scan, tmp_path / "k.cfl")
    bart(tmp_path, "pics", "-S", "-l2", "-r", "0", "k", "k_maps", "i")
    found = np.abs(read_cfl(tmp_path / "i")).reshape(SHAPE[1:])
    # Single precision, BART's CG at its default tolerance.
    np.testing.assert_allclose(found, scan.reference[0], atol=1e-3 * volume().data.max())


def test_bart_reconstructs_along_a_trajectory(tmp_path: Path):
    """BART's own transform of the image beside ours: another grid and kernel."""
    pytest.importorskip("finufft")
    scan = simulate_noncartesian(volume(), "radial:40", coils=1, noise=0.0, slices=slice(1, 2))
    write_scan(scan, tmp_path / "k.cfl")
    write_cfl(tmp_path / "i", phased_slice(volume(), 1, 7) * scan.maps[0][0])
    bart(tmp_path, "nufft", "k_traj", "i", "theirs")
    inner = (
        (np.abs(scan.points) < 4).all(axis=-1).T
    )  # towards the edge BART's grid lacks neighbours
    ours, theirs = (
        read_cfl(tmp_path / name).reshape(inner.shape)[inner] for name in ("k", "theirs")
    )
    # BART's kernel errs by 1.4e-3 of the largest sample.
    np.testing.assert_allclose(theirs, ours, atol=2e-2 * np.abs(ours).max())
