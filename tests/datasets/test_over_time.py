"""Scans over time: frames cut from readouts and views, series in NIfTI, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import torch

from restore.datasets.ct.files.measurement import write_ct_measurement
from restore.datasets.mri.files.trajectory_file import write_trajectory_file
from restore.datasets.mri.pattern.grid_lines import columns_of_points, points_of_columns
from restore.datasets.open import open_scan, read, write
from restore.datasets.over_time import REFERENCE, SeriesScan, in_frames, write_series
from restore.datasets.scan import SetupOptions
from restore.datasets.simulate.coils import birdcage, smooth_phase
from restore.datasets.simulate.frame_readouts import Lines
from restore.datasets.simulate.frames import simulate_ct_frames, simulate_mri_frames
from restore.datasets.simulate.motion import Motion
from restore.datasets.simulate.mri import PHASE_STREAM, simulate_mri
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, ShapeError
from restore.operators.mri.fourier import fft2c

CPU = torch.device("cpu")
SINGLE = 1e-4  # float32 sums of a few hundred products, and the transform's 1e-5
SIDE, FRAMES = 16, 4


def head(slices: int = 2, modality: str = "MR") -> Volume:
    """A smooth blob in another place in every slice."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    blobs = [np.exp(-((y - k) ** 2 + x**2) / 12) for k in range(slices)]
    data = np.stack(blobs).astype(np.float32)
    data = 1400 * data - 1000 if modality == "CT" else data
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    return Volume(data, affine, modality, "HU" if modality == "CT" else "")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[SeriesScan, Path]]:
    folder = tmp_path_factory.mktemp("series")
    mri = simulate_mri_frames(head(), FRAMES, "radial:3", coils=2, frame_s=0.25)
    ct = simulate_ct_frames(head(modality="CT"), FRAMES, views=3, frame_s=0.25)
    made = {"mri": (mri, folder / "mri.h5"), "ct": (ct, folder / "ct.h5")}
    write_series(mri, made["mri"][1], write_trajectory_file)
    write_series(ct, made["ct"][1], write_ct_measurement)
    return made


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_a_file_of_frames_opens_as_them_with_their_reference(kind, files):
    made, path = files[kind]
    found = open_scan(path)
    assert isinstance(found, SeriesScan)
    assert (found.frames, found.frame_s, found.n_slices) == (FRAMES, 0.25, 2 * FRAMES)
    assert found.ids(range(2, 4)) == ("slice 0/frame 1", "slice 1/frame 1")
    assert found.reference is not None
    assert np.array_equal(found.reference[:], made.reference[:])
    assert not np.array_equal(found.reference[0], found.reference[2])  # it moves
    volume = found.volume(np.asarray(found.reference[:]))
    assert (volume.frames, volume.frame_s, volume.units) == (FRAMES, 0.25, found.units)


@pytest.mark.parametrize("kind", ["mri", "ct"])
def test_frames_are_parts_of_all_samples_and_have_their_adjoint(kind, files):
    scan = open_scan(files[kind][1])
    setup = scan.setup(SetupOptions())
    problem = setup.problem(range(scan.n_slices), CPU)
    assert problem.frames == FRAMES
    assert problem.image_shape == (2 * FRAMES, SIDE, SIDE)
    g = torch.Generator().manual_seed(1)
    still = torch.rand(2, SIDE, SIDE, generator=g).to(
        torch.complex64 if kind == "mri" else torch.float32
    )
    # An image at rest: the frames' measurements side by side are that of all samples.
    seen = problem.operator(still.repeat(FRAMES, 1, 1)).unflatten(0, (FRAMES, 2))
    axis = 2 if kind == "mri" else 1  # readouts of (slices, coils, readouts, ...), or views
    joined = torch.cat(list(seen), dim=axis)
    whole = setup.whole.problem(range(2), CPU)
    torch.testing.assert_close(joined, whole.operator(still), rtol=SINGLE, atol=SINGLE)
    measured = torch.cat(list(problem.y.unflatten(0, (FRAMES, 2))), dim=axis)
    assert torch.equal(measured, whole.y)
    y = torch.randn(problem.y.shape, generator=g, dtype=problem.y.dtype)
    x = torch.randn(problem.image_shape, generator=g, dtype=still.dtype)
    left = torch.vdot(problem.linear(x).flatten(), y.flatten())
    right = torch.vdot(x.flatten(), problem.linear.adjoint(y).flatten())
    assert abs(complex(left - right)) < SINGLE * float(problem.linear(x).norm() * y.norm())


def test_cartesian_lines_go_through_the_file_and_each_frame_has_its_own(tmp_path):
    """Sound samples: the FFT of what moved, in the columns of the frame; re-cut frames that meet a line twice too."""
    made = simulate_mri_frames(head(), FRAMES, Lines("random", 2, 0.25), coils=2, noise=0.0)
    path = tmp_path / "lines.h5"
    write_series(made, path, write_trajectory_file)
    scan = open_scan(path)
    assert isinstance(scan, SeriesScan)
    assert scan.reference is not None
    setup = scan.setup(SetupOptions(remove_phase=False))
    problem = setup.problem(range(scan.n_slices), CPU)
    assert scan.per_frame == SIDE // 2
    masks = [block.mask for block in problem.linear.operators]
    assert {int(mask.sum()) for mask in masks} == {SIDE // 2}
    assert torch.equal(masks[0], masks[1])  # two slices of a frame
    assert not torch.equal(masks[0], masks[2])
    assert all(bool(mask[6:10].all()) for mask in masks)  # the centre in each
    rng = np.random.default_rng([7, PHASE_STREAM])
    phase = torch.from_numpy(np.exp(1j * smooth_phase((SIDE, SIDE), 0.0, rng)))
    first = torch.from_numpy(scan.reference[0]) * phase
    maps = torch.from_numpy(birdcage((SIDE, SIDE), 2))
    exact = torch.where(masks[0], fft2c(maps * first), 0)
    torch.testing.assert_close(problem.y[0], exact.to(torch.complex64), rtol=0, atol=SINGLE)
    halves = open_scan(path, frames=2).setup(SetupOptions(remove_phase=False))
    twice = halves.problem(range(4), CPU)  # the centre twice in each: along points
    assert twice.y.shape == (4, 2, SIDE, SIDE)
    still = torch.ones(4, SIDE, SIDE, dtype=torch.complex64)
    both = problem.operator(torch.ones(problem.image_shape, dtype=torch.complex64))
    there = twice.operator(still)[0, :, : SIDE // 2].mT  # the readouts of the first frame
    large = SINGLE * float(both.abs().max())
    torch.testing.assert_close(there, both[0][..., masks[0]], rtol=0, atol=large)


def test_lines_that_cannot_be_as_many_in_every_frame_are_refused():
    columns = Lines("gaussian1d", 4, 0.0).columns(6, (8, 16), seed=1)
    assert columns.shape == (6, 4)
    assert len({tuple(row) for row in columns}) > 1
    with pytest.raises(ConfigError, match="is of points, and frames have lines"):
        Lines("poisson2d").columns(2, (16, 16), seed=1)
    with pytest.raises(ConfigError, match=r"frames of 5 to 6 lines"):
        Lines("equispaced", 3, 0.0).columns(9, (16, 16), seed=1)
    off = points_of_columns(np.arange(4), (8, 16))
    assert np.array_equal(columns_of_points(off, (8, 16)), np.arange(4))
    assert columns_of_points(off + 0.01, (8, 16)) is None
    assert columns_of_points(off[:, :-1], (8, 16)) is None


def test_a_piece_of_a_series_has_the_operators_of_its_items(files):
    setup = open_scan(files["ct"][1]).setup(SetupOptions())
    whole = setup.problem(range(8), CPU)
    part = setup.problem(range(3, 5), CPU)
    assert torch.equal(part.y, whole.y[3:5])
    assert part.ids == whole.ids[3:5]
    assert part.frames == 1  # a slice of one frame, another of the next
    assert setup.problem(range(2, 6), CPU).frames == 2


def test_any_number_that_divides_the_readouts_is_a_number_of_frames(files):
    path = files["mri"][1]
    finer = open_scan(path, frames=6)
    assert finer.shape[0] == 12
    assert finer.frame_s == pytest.approx(0.25 * 4 / 6)
    assert finer.reference is None  # that of four frames
    with pytest.raises(ConfigError, match=r"5 frames of 12 readouts .*; 3, 4, 6 would do"):
        open_scan(path, frames=5)
    still = open_scan(path, frames=1)
    assert not isinstance(still, SeriesScan)
    assert any("what moves is blurred" in note for note in still.notes)


def test_what_tells_no_time_is_refused(files, tmp_path):
    with pytest.raises(ConfigError, match="what was measured after what"):
        in_frames(simulate_mri(head(), coils=2), frames=2)
    with pytest.raises(ConfigError, match="--frame-time needs --frames"):
        in_frames(simulate_mri(head(), coils=2), frame_s=1.0)
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(files["ct"][1].read_bytes())
    with h5py.File(damaged, "r+") as file:
        settings = file["restore"].attrs["settings"].replace('"frames": 4', '"frames": "many"')
        file["restore"].attrs["settings"] = settings
    with pytest.raises(InputError, match="'many' frames"):
        open_scan(damaged)
    short = tmp_path / "short.h5"
    short.write_bytes(files["ct"][1].read_bytes())
    with h5py.File(short, "r+") as file:
        del file[REFERENCE]
        file[REFERENCE] = np.zeros((3, 2, SIDE, SIDE), np.float32)
    with pytest.raises(InputError, match=REFERENCE):
        open_scan(short)


def test_a_series_goes_through_nifti_with_its_time(tmp_path):
    data = np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(6, 4, 5)
    series = Volume(data, np.diag([1.5, 2.0, 3.0, 1.0]), frames=3, frame_s=0.05)
    path = write(series, tmp_path / "series.nii.gz")
    seen = nibabel.load(path)
    assert seen.shape == (5, 4, 2, 3)
    assert seen.header.get_zooms() == pytest.approx((1.5, 2.0, 3.0, 0.05))
    assert seen.header.get_xyzt_units() == ("mm", "sec")
    assert np.array_equal(np.asarray(seen.dataobj)[..., 2], data[4:].transpose(2, 1, 0))
    back = read(path, frames=True)
    assert (back.frames, back.frame_s) == (3, pytest.approx(0.05))
    assert np.array_equal(back.data, data)
    assert np.array_equal(read(path, index=1).data, data[2:4])
    with pytest.raises(InputError, match="holds 3 volumes"):
        read(path)
    with pytest.raises(ConfigError, match=r"3 frames; write \.nii, \.nii\.gz"):
        write(series, tmp_path / "series.tif")
    with pytest.raises(ShapeError, match="6 slices are no 4 frames"):
        dataclasses.replace(series, frames=4)
    with pytest.raises(ConfigError, match="series over time"):
        series.select([0])


def test_the_unit_of_time_is_kept_and_what_is_no_time_is_refused(tmp_path):
    image = nibabel.Nifti1Image(np.zeros((5, 4, 1, 3), np.float32), np.eye(4))
    image.header.set_zooms((1, 1, 1, 40))
    image.header.set_xyzt_units("mm", "msec")
    nibabel.save(image, tmp_path / "ms.nii")
    found = read(tmp_path / "ms.nii", frames=True)
    assert found.frame_s == pytest.approx(0.04)
    again = nibabel.load(write(found, tmp_path / "again.nii"))
    assert again.header.get_xyzt_units() == ("mm", "msec")
    assert again.header.get_zooms()[3] == pytest.approx(40)
    image.header.set_zooms((1, 1, 1, 0))
    nibabel.save(image, tmp_path / "untold.nii")
    untold = read(tmp_path / "untold.nii", frames=True)
    assert untold.frame_s is None
    assert any("no time between volumes" in note for note in untold.notes)
    vectors = nibabel.Nifti1Image(np.zeros((5, 4, 2, 1, 3), np.float32), np.eye(4))
    nibabel.save(vectors, tmp_path / "vectors.nii")
    with pytest.raises(InputError, match="no frames over time"):
        read(tmp_path / "vectors.nii", frames=True)


def test_the_phantom_moves_by_its_seed_and_returns_after_a_beat():
    image = head(1).data[0]
    motion = Motion.of_seed(3)
    assert motion == Motion.of_seed(3) != Motion.of_seed(4)
    calm = dataclasses.replace(motion, breath_hz=1e-9, phases=(0.0, 0.0))
    rest, beat = calm.moved(image, 0.0), calm.moved(image, 0.5 / calm.heart_hz)
    np.testing.assert_allclose(rest, image, atol=1e-6)  # a spline through its own knots
    assert np.abs(beat - image).max() > 0.05
    np.testing.assert_allclose(calm.moved(image, 1 / calm.heart_hz), image, atol=1e-6)


def test_a_series_is_measured_frame_by_frame_as_it_is():
    one, other = head(1).data, head(2).data[1:]
    series = Volume(np.concatenate([one, other, one]), np.eye(4), "MR", frames=3, frame_s=0.5)
    scan = simulate_mri_frames(series, 3, "radial:3", coils=2)
    assert scan.frame_s == 0.5
    assert np.array_equal(scan.reference[:], series.data)
    with pytest.raises(ConfigError, match="4 frames: two at least, and at most 3"):
        simulate_mri_frames(series, 4, "radial:3", coils=2)
    with pytest.raises(ConfigError, match="golden-angle spokes each"):
        simulate_mri_frames(series, 3, "spiral:4", coils=2)
