"""K-space along a trajectory: simulated, written, read, set up; files that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.mri.files.trajectory_file import write_trajectory_file
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.noncartesian import made_points, simulate_noncartesian
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError, InputError
from restore.operators.mri.trajectories import radial

pytest.importorskip("finufft")

CPU = torch.device("cpu")
N = 32


def scan_of(trajectory: str, slices: slice | None = None, **settings: float) -> NonCartesianScan:
    return simulate_noncartesian(head_phantom((4, N, N)), trajectory, coils=4, slices=slices, **settings)  # fmt: skip


def stored(tmp_path: Path, trajectory: str = "radial:20", **settings: float) -> Path:
    write_trajectory_file(scan_of(trajectory, slice(1, 3), **settings), tmp_path / "a.h5")
    return tmp_path / "a.h5"


def test_a_scan_survives_its_file(tmp_path: Path):
    made = scan_of("radial:20", slice(1, 3))
    write_trajectory_file(made, tmp_path / "a.h5")
    read = open_scan(tmp_path / "a.h5")
    assert isinstance(read, NonCartesianScan)
    assert (read.shape, read.matrix, read.n_slices, read.whole) == (
        (2, 4, 20, 64),
        (N, N),
        2,
        False,
    )
    assert read.sampling == "radial:20, 20 readouts of 64 samples"
    np.testing.assert_array_equal(read.points, made.points)
    np.testing.assert_array_equal(read.kspace[:], made.kspace[:])
    np.testing.assert_array_equal(read.reference[:], made.reference[:])
    assert read.slice_indices == (1, 2)
    assert read.noise_std == pytest.approx(made.noise_std)
    np.testing.assert_allclose(read.affine, made.affine)


@pytest.mark.parametrize("trajectory", ["radial:20", "stars:20"])
def test_the_problem_is_that_of_the_image(trajectory: str):
    """Without noise: the operator of the given maps explains the samples; with ESPIRiT's nearly so."""
    scan = scan_of(trajectory, noise=0)
    truth = torch.from_numpy(np.asarray(scan.reference)).to(torch.complex64)
    for maps in ("espirit",) if scan.whole else ("file", "espirit"):
        problem = scan.setup(SetupOptions(maps=maps)).problem(range(4), CPU)
        assert problem.items == (1 if scan.whole else 4)
        assert problem.ids == (("volume",) if scan.whole else tuple(f"slice {i}" for i in range(4)))
        apart = problem.operator(truth) - problem.y
        # The phase of the middle of k-space stands for that of the image: 0.1 seen.
        assert float(apart.norm() / problem.y.norm()) < 0.25
        brightest = problem.scaling.scale / float(truth.abs().max())
        assert 0.3 < brightest < 1.5


def test_noise_is_seen_and_a_noise_scan_whitens():
    scan = scan_of("radial:40", slice(1, 2), noise=0.2)
    found = scan.measured_noise()
    # Some hundred samples, 3 %, and the signal in the outermost ones; 2 % seen.
    assert found == pytest.approx(scan.noise_std, rel=0.3)
    rng = np.random.default_rng(0)
    white = rng.normal(size=(4, 4000)) + 1j * rng.normal(size=(4, 4000))
    gains = np.array([1.0, 1, 1, 5])
    loud = NonCartesianScan(**{**vars(scan), "noise_scan": gains[:, None] * white})
    setup = loud.setup(SetupOptions(maps="espirit"))
    assert setup.problem(range(1), CPU).operator.out_shape[1] == 4
    assert any("channels whitened" in note for note in loud.notes)


def test_an_image_without_a_reconstruction():
    scan = scan_of("radial:40", slice(1, 2), noise=0)
    bare = NonCartesianScan(**{**vars(scan), "reference": None})
    shown, truth = bare.image_of(0), scan.image_of(0)
    assert np.corrcoef(shown.ravel(), truth.ravel())[0, 1] > 0.9


def changed(path: Path, name: str, values: object, **attributes: object) -> Path:
    with h5py.File(path, "r+") as file:
        kept = dict(file[name].attrs)
        del file[name]
        file[name] = values
        file[name].attrs.update(kept | attributes)
    return path


GOOD = radial(20, 64, (N, N), full=True)


@pytest.mark.parametrize(
    ("points", "found"),
    [
        (GOOD * 1.5, "reaches 24 cycles per field of view along axis ., and 32 pixels hold 16"),
        (GOOD * 2 * np.pi / N, r"reaches 3.142 at most, .*: radians per pixel.*multiply by n / \(2 pi\)"),
        (GOOD / N, "reaches 0.5 at most, for 32 x 32 pixels: cycles per pixel.*multiply by n"),
        (GOOD[:, :60], r"has shape \(20, 60, 2\), and k-space is \(20, 64\)"),
        (GOOD[..., :1], r"has shape \(20, 64, 1\)"),
        (np.where(np.arange(20)[:, None, None] == 3, np.nan, GOOD), "holds 64 samples with NaN"),
        (0 * GOOD, "is zero everywhere"),
        (GOOD + 0j, "is complex128 of shape"),
    ],
)  # fmt: skip
def test_odd_points_are_named(tmp_path: Path, points: np.ndarray, found: str):
    with pytest.raises(InputError, match=found):
        open_scan(changed(stored(tmp_path), "trajectory", points))


def test_other_odd_files_are_named(tmp_path: Path):
    path = stored(tmp_path)
    kspace = np.asarray(open_scan(path).kspace)
    with pytest.raises(InputError, match="attribute 'matrix' of 'trajectory' is"):
        open_scan(changed(path, "trajectory", GOOD, matrix=[N, 0]))
    with pytest.raises(InputError, match="must be complex, found float32"):
        open_scan(changed(stored(tmp_path), "kspace", np.abs(kspace)))
    broken = kspace.copy()
    broken[1, 0, 3, 5] = np.nan
    scan = open_scan(changed(stored(tmp_path), "kspace", broken))
    with pytest.raises(InputError, match="NaN or infinite values in item 1"):
        scan.kspace[1]
    with h5py.File(stored(tmp_path), "r+") as file:
        del file["trajectory"].attrs["matrix"]
        del file["sensitivity_maps"], file["reconstruction_rss"], file["restore"]
    scan = open_scan(path)
    assert scan.matrix == (N, N)
    assert any("no matrix in the file: 32 x 32 pixels" in note for note in scan.notes)
    half = changed(path, "trajectory", GOOD / 4, matrix=[N, N])
    assert any("reaches 4 of 16 cycles along axis" in note for note in open_scan(half).notes)


def test_what_is_simulated_is_named(tmp_path: Path):
    shape = (4, N, N)
    for kind, size in (("radial:7", (7, 64, 2)), ("stars:3", (12, 64, 3)), ("cones:9", (9, 64, 3))):
        assert made_points(kind, shape, 3.0, []).shape == size
    assert made_points("spiral:4", shape, 3.0, []).shape[0] == 4
    np.save(tmp_path / "mine.npy", GOOD)
    np.testing.assert_array_equal(made_points(str(tmp_path / "mine.npy"), shape, 3.0, []), GOOD)
    np.save(tmp_path / "far.npy", 9 * GOOD)
    with pytest.raises(InputError, match="reaches 144 cycles"):
        made_points(str(tmp_path / "far.npy"), shape, 3.0, [])
    (tmp_path / "text.npy").write_text("none")
    with pytest.raises(InputError, match=r"cannot be read as a \.npy array"):
        made_points(str(tmp_path / "text.npy"), shape, 3.0, [])
    with pytest.raises(ConfigError, match="such as radial:64"):
        made_points("radial:many", shape, 3.0, [])
    with pytest.raises(ConfigError, match="is no file, and none of radial:N"):
        made_points("rosette:5", shape, 3.0, [])
