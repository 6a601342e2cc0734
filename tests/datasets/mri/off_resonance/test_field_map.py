"""Field maps beside a scan: discs whose transform is known, in a field that is linear, and what is refused.

In a field f0 + g.r a sample at k and t is that of the still object at k + g t, turned by f0 t: nothing of the operators
is in these data.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch
from scipy.special import j1

from restore.datasets.mri.files.cfl import write_cfl
from restore.datasets.mri.off_resonance.field_map import with_field_map
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.errors import ConfigError, InputError
from restore.front_door import solve_problem
from restore.operators.mri.trajectories import spiral

N = 32
DISCS = (((0.0, 0.0), 12.5, 1.0), ((-4.0, 3.0), 4.0, 0.6), ((5.0, -4.0), 3.0, -0.5))
OFFSET_HZ, SLOPE_HZ = 60.0, np.array([3.0, -2.0])  # the latter a pixel, along rows and columns
PLACES = np.stack(np.mgrid[:N, :N], -1) - N // 2
FIELD = OFFSET_HZ + PLACES @ SLOPE_HZ
NOISE = 0.002


def transform(k: np.ndarray) -> np.ndarray:
    """Of the discs at k (..., 2), cycles per field of view, in the scale of a centred orthonormal transform."""
    out = np.zeros(k.shape[:-1], complex)
    for centre, radius, level in DISCS:
        z = np.maximum(2 * np.pi * radius * np.hypot(*np.moveaxis(k, -1, 0)) / N, 1e-9)
        disc = level * np.pi * radius**2 * 2 * j1(z) / z
        out += disc * np.exp(-2j * np.pi * (k @ np.array(centre)) / N)
    return out / N


def image() -> np.ndarray:
    """The discs on 8 x 8 times finer pixels, averaged."""
    fine = (np.arange(8 * N) + 0.5) / 8 - 0.5 - N // 2
    rows, columns = np.meshgrid(fine, fine, indexing="ij")
    parts = (v * (np.hypot(rows - c[0], columns - c[1]) <= radius) for (c, radius, v) in DISCS)
    return sum(parts).reshape(N, 8, N, 8).mean((1, 3))


def measured(k: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Samples at k (..., 2) and times of the same shape, with noise."""
    rng = np.random.default_rng(0)
    y = transform(k + N * times[..., None] * SLOPE_HZ) * np.exp(-2j * np.pi * OFFSET_HZ * times)
    noise = rng.normal(scale=NOISE, size=(2, *y.shape))
    return (y + noise[0] + 1j * noise[1]).astype(np.complex64)


def written(path: Path, kspace: np.ndarray, **parts: object) -> Path:
    with h5py.File(path, "w") as file:
        file["kspace"] = kspace
        file["sensitivity_maps"] = np.ones((1, 1, N, N), np.complex64)
        file.attrs["noise_std"] = NOISE
        for name, value in parts.items():
            if name == "dwell_s":
                file.attrs[name] = value
            else:
                file[name] = value
        if "trajectory" in parts:
            file["trajectory"].attrs["matrix"] = (N, N)
    return path


@pytest.fixture
def spiral_scan(tmp_path: Path) -> Path:
    """Four interleaves of 15 ms, which the file tells by their dwell time."""
    points = spiral(4, N, 200.0)
    dwell = 0.015 / points.shape[1]
    times = np.broadcast_to(dwell * np.arange(points.shape[1]), points.shape[:2])
    kspace = measured(points, times)[None, None]
    return written(tmp_path / "spiral.h5", kspace, trajectory=points, dwell_s=dwell)


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """Cartesian lines one after the other, 0.5 ms apart, which the file does not tell."""
    k = PLACES.astype(float)
    times = 5e-4 * (PLACES[..., 1] + N // 2)
    return written(tmp_path / "train.h5", measured(k, times)[None, None])


@pytest.fixture
def field(tmp_path: Path) -> Path:
    np.save(tmp_path / "field.npy", FIELD.astype(np.float32))
    return tmp_path / "field.npy"


def error(path: Path, field: Path | None, times: str = "", sign: int = 1) -> float:
    """Of the image by CG-SENSE beside the discs."""
    if field is not None and sign < 0:
        np.save(field, sign * np.load(field))
    scan = with_field_map(open_scan(path), field, times)
    problem = scan.problem(range(1), torch.device("cpu"))
    found = solve_problem(problem, sampler="tv", n_steps=15).image.numpy()
    return float(np.linalg.norm(np.abs(found[0]) - image()) / np.linalg.norm(image()))


@pytest.mark.parametrize("name", ["spiral_scan", "train"])
def test_the_discs_come_back(name, field, request):
    """0.25 without the map, 0.4 with its sign turned, 0.03 and 0.04 with it: edges on pixels, and what a spiral leaves
    out."""
    path = request.getfixturevalue(name)
    times = "lines=5e-4" if name == "train" else ""
    with_map = error(path, field, times)
    assert with_map < 0.1
    assert error(path, None) > 3 * with_map
    assert error(path, field, times, sign=-1) > 3 * with_map


def test_a_map_of_the_other_sign_is_noticed(spiral_scan, field):
    for sign in (1, -1):
        np.save(field, sign * FIELD)
        scan = with_field_map(open_scan(spiral_scan), field, "")
        scan.setup()
        assert any("is its sign right" in note for note in scan.notes) == (sign < 0)


def test_times_by_file_are_those_of_the_words(spiral_scan, train, field, tmp_path):
    count = open_scan(spiral_scan).shape[-1]
    dwell = 0.015 / count
    np.save(tmp_path / "a.npy", 1.5 + dwell * np.arange(count))  # from any moment on
    np.save(tmp_path / "b.npy", 5e-4 * np.arange(N))
    for path, words, name in ((spiral_scan, "", "a.npy"), (train, "lines=5e-4", "b.npy")):
        told = with_field_map(open_scan(path), field, words).precession.times_s
        given = with_field_map(open_scan(path), field, str(tmp_path / name)).precession.times_s
        # 1.5 s is kept to 2e-16 of itself.
        np.testing.assert_allclose(np.broadcast_to(given, told.shape), told, rtol=0, atol=1e-14)
    along = with_field_map(open_scan(train), field, "dwell=1e-5").precession.times_s
    np.testing.assert_allclose(along[:, 0], 1e-5 * (np.arange(N) - N // 2), rtol=0, atol=1e-15)


def test_a_slice_is_the_same_whatever_others_it_is_computed_with(train, tmp_path):
    """The segments are those of the whole map."""
    with h5py.File(train, "a") as file:
        once = file["kspace"][()]
        del file["kspace"]
        file["kspace"] = np.concatenate([once, 2 * once])
    np.save(tmp_path / "two.npy", np.stack([FIELD, 0.1 * FIELD]).astype(np.float32))
    scan = with_field_map(open_scan(train), tmp_path / "two.npy", "lines=5e-4")
    setup, cpu = scan.setup(), torch.device("cpu")
    both, one = (setup.problem(w, cpu).operator for w in (range(2), range(1, 2)))
    x = torch.from_numpy(image()).to(torch.complex64).repeat(2, 1, 1)
    assert torch.equal(both(x)[1], one(x[1:])[0])


def test_a_volume_in_the_scans_place(tmp_path):
    """By positions where both tell them: a map stored with its axes turned is the same map."""
    scan = simulate_mri(head_phantom((3, 12, 10)), coils=2)
    shape = (*scan.image_shape[::-1], scan.n_slices)
    values = np.random.default_rng(0).normal(scale=30, size=shape).astype(np.float32)
    place = np.array(scan.affine)
    turned = place @ np.diag([1, -1, 1, 1]) + 0.0
    turned[:3, 3] = place[:3, 3] + (shape[1] - 1) * place[:3, 1]
    nibabel.save(nibabel.Nifti1Image(values, place), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(values[:, ::-1], turned), tmp_path / "b.nii")
    maps = [
        with_field_map(scan, tmp_path / name, "dwell=1e-5").precession.field_hz
        for name in ("a.nii", "b.nii")
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], values.transpose(2, 1, 0))
    place[0, 3] += 3
    nibabel.save(nibabel.Nifti1Image(values, place), tmp_path / "c.nii")
    with pytest.raises(InputError, match="its grid is shifted"):
        with_field_map(scan, tmp_path / "c.nii", "dwell=1e-5")


@pytest.mark.parametrize("slices", [1, 3])
def test_an_array_of_bart(slices, tmp_path):
    """Rows and columns first, slices along axis 13."""
    scan = simulate_mri(head_phantom((slices, 12, 10)), coils=2)
    values = np.random.default_rng(0).normal(scale=30, size=(slices, 12, 10))
    parts = [part[..., None].astype(np.complex64) for part in values]
    write_cfl(tmp_path / "field.cfl", {0: 12, 1: 10, 13: slices}, parts)
    found = with_field_map(scan, tmp_path / "field", "dwell=1e-5").precession.field_hz
    np.testing.assert_allclose(found, values, rtol=1e-6)  # single precision


@pytest.mark.parametrize(
    ("change", "times", "found"),
    [
        (lambda f: f, "", "tells no times of its samples.*dwell=S"),
        (lambda f: f, "dwell=4", "said to take 124 s; times are in seconds"),
        (lambda f: f, "dwell=-1e-6", "expected a time above zero"),
        (lambda f: f, "spacing=1e-3", "no file, and no word that is known"),
        (lambda f: np.where(f > 0, f, np.nan), "dwell=1e-5", "NaN or infinite"),
        (lambda f: f * 1e6, "dwell=1e-5", "expected Hz, at most 20000"),
        (lambda f: f[1:], "dwell=1e-5", r"shape \(1, 31, 32\), and the image is \(1, 32, 32\)"),
        (lambda f: f + 1j, "dwell=1e-5", "expected real numbers"),
    ],
)
def test_what_cannot_be_used_is_named(change, times, found, train, field):
    np.save(field, change(FIELD))
    with pytest.raises((ConfigError, InputError), match=found):
        with_field_map(open_scan(train), field, times)


def test_a_map_that_changes_nothing_is_doubted(train, field):
    np.save(field, FIELD / 5000)  # in the range of a phase in radians
    scan = with_field_map(open_scan(train), field, "dwell=1e-5")
    assert any("is the field map in Hz" in note for note in scan.notes)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"partial_fourier": "real"}, "--partial-fourier real"),
        ({"maps_sets": 2, "maps": "espirit"}, "--maps-sets 2"),
        ({"maps": "joint"}, "--maps joint"),
    ],
)
def test_options_that_do_not_go_with_a_map(options, word, train, field):
    scan = with_field_map(open_scan(train), field, "lines=5e-4")
    with pytest.raises(ConfigError, match=word):
        scan.check(SetupOptions(**options))


def test_times_without_a_map_and_maps_of_ct(train, field):
    with pytest.raises(ConfigError, match="serve a field map, which is not given"):
        with_field_map(open_scan(train), None, "dwell=1e-5")
    with pytest.raises(ConfigError, match="a field map is for MRI"):
        with_field_map(simulate_ct(ct_phantom((2, 16, 16)), views=8), field, "")
