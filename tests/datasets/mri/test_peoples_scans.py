"""What people bring that is unlike the published files: right, or refused with its reason, against numpy's truth.

The scans are those of `people_kspace`, made with numpy alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import torch
from people_kspace import (
    CLEAN,
    COILS,
    MAPS,
    MASK,
    NOISY,
    SHAPE,
    STD,
    TRUTH,
    centred_fft,
    coil_maps,
    columns,
    header,
    noise,
    phantom,
    psnr,
    write,
)

from restore.datasets.mri.calibration import calibration_lines
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.datasets.open import write as write_volume
from restore.datasets.scan import SetupOptions
from restore.errors import ConfigError, InputError
from restore.front_door import solve
from restore.operators.mri.multicoil import MultiCoilMRI

CPU = torch.device("cpu")


def opened(path: Path, **options: str) -> MRIScan:
    scan = open_scan(path, **options)
    assert isinstance(scan, MRIScan)
    return scan


def solved(scan: MRIScan, index: int = 0, **options: object) -> np.ndarray:
    """Ten steps of CG-SENSE with the scan's own maps, magnitudes."""
    problem = scan.problem(range(index, index + 1), CPU, SetupOptions(**options))
    return problem.operator.pinv(problem.y)[0].abs().numpy()


@pytest.mark.parametrize(("first", "end", "least"), [(34, 42, 38), (38, 52, 34), (40, 56, 30)])
def test_calibration_lines_beside_the_middle(
    tmp_path: Path, first: int, end: int, least: float
) -> None:
    mask = columns(SHAPE[1], 2, first, end)
    region = calibration_lines(mask, SHAPE)
    assert (region[1].start, region[1].stop) == (first - (first % 2 == 1), end + (end % 2 == 0))
    scan = opened(write(tmp_path / "a.h5", (NOISY * mask)[None]))
    # Maps from as many lines about the middle, measured or not, gave 33, 29 and 17 dB; these 42, 37 and 35.
    assert psnr(solved(scan), TRUTH) > least


def test_many_calibration_lines_take_no_more_time_than_24(tmp_path: Path) -> None:
    shape = (320, 184)
    full = centred_fft(coil_maps(shape, 8) * phantom(shape))
    scan = opened(write(tmp_path / "a.h5", (full + noise(full.shape, STD))[None]))
    setup, begun = scan.setup(), time.process_time()
    setup.problem(range(1), CPU)
    # 0.5 s of processor time here; with all 320 x 184 lines more than ten times as much.
    assert time.process_time() - begun < 5


def test_a_mask_of_its_own_for_every_slice(tmp_path: Path) -> None:
    masks = np.stack([columns(SHAPE[1], 4, 34, 46, offset) for offset in range(3)])
    kspace = np.stack([NOISY * mask for mask in masks])
    alone = [solved(opened(write(tmp_path / "one.h5", part[None]))) for part in kspace]
    for stored in (None, masks, masks[:, None, None, :], np.repeat(masks[:, None], SHAPE[0], 1)):
        items = {} if stored is None else {"mask": stored.astype(np.float32)}
        scan = opened(write(tmp_path / "a.h5", kspace, **items))
        assert scan.mask.shape == (3, 1, SHAPE[1])
        np.testing.assert_array_equal(scan.mask[:, 0], masks)
        for index in range(3):
            # Sums of many products in single precision, in another order.
            np.testing.assert_allclose(solved(scan, index), alone[index], atol=1e-3)
    np.save(tmp_path / "a.npy", kspace.astype(np.complex64))
    np.testing.assert_array_equal(opened(tmp_path / "a.npy").mask[:, 0], masks)


@pytest.mark.parametrize("side", [80, 96])
@pytest.mark.parametrize("shape", [(-1, 1), (1, -1, 1), (-1,)])
def test_phase_encoding_along_rows(tmp_path: Path, side: int, shape: tuple[int, ...]) -> None:
    size = (96, side)
    truth = phantom(size)
    rows = columns(96, 2, 40, 56)
    kspace = centred_fft(coil_maps(size, COILS) * truth) * rows[:, None]
    path = write(tmp_path / "a.h5", kspace[None], mask=rows.reshape(shape).astype(np.uint8))
    scan = opened(path)
    np.testing.assert_array_equal(scan.mask, np.broadcast_to(rows[:, None], size))
    assert psnr(solved(scan), truth) > 36


def test_a_mask_of_another_scan_is_refused_and_of_a_full_one_noted(tmp_path: Path) -> None:
    other = columns(SHAPE[1], 2, 32, 48, 1)
    with pytest.raises(InputError, match=r"\d\d\.\d% of the samples .* lie outside 'mask'"):
        open_scan(write(tmp_path / "a.h5", (NOISY * MASK)[None], mask=other))
    scan = opened(write(tmp_path / "b.h5", NOISY[None], mask=MASK))
    np.testing.assert_array_equal(scan.mask, MASK)
    assert any("40.0% of the samples" in note for note in scan.notes)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("value", [np.nan, 0])
def test_lost_readouts_leave_the_mask(tmp_path: Path, stored: bool, value: float) -> None:
    kspace = np.stack([NOISY * MASK] * 2)
    lost = [10, 20, 38, 60]
    kspace[1][..., lost] = value
    path = write(tmp_path / "a.h5", kspace, **({"mask": MASK} if stored else {}))
    scan = opened(path, repair="zero" if value else "")
    expected = MASK.copy()
    expected[lost] = False
    np.testing.assert_array_equal(scan.mask[:, 0], [MASK, expected])
    assert psnr(solved(scan, 1), TRUTH) > 34


def test_a_slice_of_zeros_comes_out_as_zeros(tmp_path: Path) -> None:
    kspace = np.stack([NOISY * MASK, 0 * NOISY])
    scan = opened(write(tmp_path / "a.h5", kspace))
    np.testing.assert_array_equal(scan.mask, MASK)
    assert any("slice 1 is zero everywhere" in note for note in scan.notes)
    assert (solved(scan, 1) == 0).all()


def test_maps_without_calibration_lines(tmp_path: Path) -> None:
    mask = np.arange(SHAPE[1]) % 2 == 1
    assert not mask[SHAPE[1] // 2]
    path = write(tmp_path / "a.h5", (NOISY * mask)[None], sensitivity_maps=MAPS[None])
    scan = opened(path)
    assert psnr(solved(scan), TRUTH) > 40
    scale = scan.setup().scaling.scale
    # The brightest of the truth is 1.1; CG-SENSE of noisy samples overshoots a little.
    assert scale == pytest.approx(TRUTH.max(), rel=0.15)
    assert any("calibration lines" in note for note in scan.notes)
    with pytest.raises(InputError, match="not measured: too little to estimate coil maps"):
        scan.setup(SetupOptions(maps="espirit"))


def test_one_coil_of_random_points(tmp_path: Path) -> None:
    points = np.random.default_rng(3).random(SHAPE) < 0.5
    points[48, 40] = False
    kspace = centred_fft(TRUTH[None])[0] * points
    scan = opened(write(tmp_path / "a.h5", kspace[None]))
    problem = scan.problem(range(1), CPU)
    np.testing.assert_array_equal(problem.operator.mask.numpy(), points)
    pair = opened(write(tmp_path / "b.h5", np.stack([kspace, kspace])[None]))
    with pytest.raises(InputError, match="too little to estimate"):
        pair.setup()


def test_maps_of_zeros_and_of_other_norms(tmp_path: Path) -> None:
    kspace = (NOISY * MASK)[None]
    zeros = opened(write(tmp_path / "a.h5", kspace, sensitivity_maps=0 * MAPS[None]))
    with pytest.raises(InputError, match="'sensitivity_maps' are zero everywhere in slice 0"):
        zeros.problem(range(1), CPU)
    thrice = opened(write(tmp_path / "b.h5", kspace, sensitivity_maps=3 * MAPS[None]))
    assert psnr(solved(thrice), TRUTH) > 40
    assert any("the norm 3: divided by it" in note for note in thrice.notes)
    shaded = MAPS * np.linspace(0.5, 1.5, SHAPE[1])
    odd = opened(write(tmp_path / "c.h5", kspace, sensitivity_maps=shaded[None]))
    odd.setup()
    assert any("brightness follows theirs" in note for note in odd.notes)


@pytest.mark.parametrize(
    ("said", "size", "pitch"),
    [
        ({}, SHAPE, (2, 2)),
        # The image interpolated to twice the matrix, or to half of it, over the same field of view.
        ({"recon": (192, 160, 1)}, SHAPE, (2, 2)),
        ({"recon": (48, 40, 1)}, SHAPE, (2, 2)),
        # Oversampling by two along the readout, to be cut off.
        ({"recon": (48, 80, 1), "recon_fov": (96.0, 160.0, 5.0)}, (48, 80), (2, 2)),
        # It has been cut off of k-space already.
        ({"encoded": (192, 80, 1), "fov": (384.0, 160.0, 5.0)}, SHAPE, (2, 2)),
        # Phase resolution below 100 %: wider pixels along columns.
        (
            {"fov": (192.0, 192.0, 5.0), "recon": (96, 96, 1), "recon_fov": (192.0, 192.0, 5.0)},
            SHAPE,
            (2, 2.4),
        ),
    ],
)  # fmt: skip
def test_pixels_are_those_of_kspace(
    tmp_path: Path, said: dict[str, Any], size: tuple[int, int], pitch: tuple[float, float]
) -> None:
    scan = opened(write(tmp_path / "a.h5", NOISY[None], ismrmrd_header=header(**said)))
    assert scan.recon_shape == size
    assert scan.affine is not None
    np.testing.assert_allclose(np.diag(scan.affine), [pitch[1], pitch[0], 5, 1])


@pytest.mark.parametrize("trajectory", ["radial", "spiral", "epi", "goldenangle", "other"])
def test_other_trajectories_are_refused_by_name(tmp_path: Path, trajectory: str) -> None:
    path = write(tmp_path / "a.h5", NOISY[None], ismrmrd_header=header(trajectory=trajectory))
    with pytest.raises(InputError, match=f"trajectory is '{trajectory}'; only Cartesian"):
        open_scan(path)


def test_partitions_are_transformed_along_z(tmp_path: Path) -> None:
    weights = np.array([0.3, 0.7, 1.0, 1.0, 0.9, 0.8, 0.5, 0.1])
    volume = weights[:, None, None, None] * CLEAN
    along_z = np.fft.fftshift(
        np.fft.fft(np.fft.ifftshift(volume, axes=0), axis=0, norm="ortho"), axes=0
    )
    deep = header(
        encoded=(*SHAPE, 8),
        fov=(192.0, 160.0, 32.0),
        recon=(*SHAPE, 8),
        recon_fov=(192.0, 160.0, 32.0),
    )
    scan = opened(write(tmp_path / "a.h5", along_z * MASK, ismrmrd_header=deep))
    for index in (0, 3, 6):
        # Two transforms in single precision, relative to the largest sample.
        np.testing.assert_allclose(
            scan.kspace[index], volume[index] * MASK, atol=1e-5 * np.abs(CLEAN).max()
        )
    assert scan.affine is not None
    assert scan.affine[2, 2] == pytest.approx(4)
    assert any("8 partitions transformed along z" in note for note in scan.notes)
    slices = opened(write(tmp_path / "b.h5", volume * MASK, ismrmrd_header=deep))
    np.testing.assert_array_equal(slices.kspace[2], (volume[2] * MASK).astype(np.complex64))
    assert any("transformed along z already" in note for note in slices.notes)
    with pytest.raises(InputError, match="8 partitions along kz, the file holds 6"):
        open_scan(write(tmp_path / "c.h5", along_z[1:7], ismrmrd_header=deep))
    along_z[1, ..., 10] = 0
    assert open_scan(write(tmp_path / "d.h5", along_z, ismrmrd_header=deep)).whole


@pytest.mark.parametrize("shape", [(96, 80), (95, 81)])
@pytest.mark.parametrize("order", ["fft", "fft-shifted", "corner"])
def test_kspace_that_is_not_centred(tmp_path: Path, order: str, shape: tuple[int, int]) -> None:
    truth, axes = phantom(shape), (-2, -1)
    images = coil_maps(shape, COILS) * truth
    natural = images if order != "corner" else np.fft.ifftshift(images, axes=axes)
    kspace = np.fft.fft2(natural, norm="ortho")
    kspace = np.fft.fftshift(kspace, axes=axes) if order == "fft-shifted" else kspace
    kspace = (kspace + noise(kspace.shape, STD)).astype(np.complex64)
    path = write(tmp_path / "a.h5", kspace[None])
    np.save(tmp_path / "a.npy", kspace)
    for file in (path, tmp_path / "a.npy"):
        with pytest.raises(InputError, match=r"lies.*kspace-order auto"):
            open_scan(file)
        for said in (order, "auto"):
            scan = opened(file, kspace_order=said)
            rest = scan.kspace[0] - centred_fft(images)
            # What is left is the noise, whose level is known to a percent by 46,000 samples.
            assert np.sqrt(np.mean(np.abs(rest) ** 2) / 2) == pytest.approx(STD, rel=0.05)
            assert psnr(solved(scan), truth) > 40
            assert scan.noise_std == pytest.approx(STD, rel=1)
    np.testing.assert_array_equal(opened(path, kspace_order="centred").kspace[0], kspace)
    with pytest.raises(ConfigError, match="unknown k-space order 'mirrored'"):
        open_scan(path, kspace_order="mirrored")


def test_an_undersampled_corner_with_its_mask(tmp_path: Path) -> None:
    kspace = np.fft.ifftshift(NOISY * MASK, axes=(-2, -1))
    path = write(tmp_path / "a.h5", kspace[None], mask=np.fft.ifftshift(MASK))
    scan = opened(path, kspace_order="auto")
    np.testing.assert_array_equal(scan.mask, MASK)
    np.testing.assert_array_equal(scan.kspace[0], (NOISY * MASK).astype(np.complex64))


def test_a_peak_beside_the_middle_wants_zeros(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"peaks at row 20, column 40 .*fill it up with zeros"):
        open_scan(write(tmp_path / "a.h5", NOISY[None, :, 28:]))


def test_one_noisy_channel(tmp_path: Path) -> None:
    stds = np.full((COILS, 1, 1), STD)
    stds[2] *= 30
    kspace = (CLEAN + noise(CLEAN.shape, stds)) * MASK
    known = opened(write(tmp_path / "a.h5", kspace[None], sensitivity_maps=MAPS[None]))
    setup = known.setup()

    assert psnr(solved(known), TRUTH) > 41
    assert any("differs by a factor of" in note for note in known.notes)
    assert setup.record["noise_std"] == pytest.approx(STD, rel=0.2)
    guessed = opened(write(tmp_path / "b.h5", kspace[None]))
    assert psnr(solved(guessed), TRUTH) > 30


def test_channels_that_share_noise(tmp_path: Path) -> None:
    mix = np.eye(COILS) + 0.6 * (1 - np.eye(COILS))
    shared = np.einsum("ab,bhw->ahw", mix, noise(CLEAN.shape, 10 * STD))
    kspace = (CLEAN + shared) * MASK
    scan_noise = np.einsum("ab,bn->an", mix, noise((COILS, 500), 10 * STD, seed=5))
    for items in ({}, {"noise_scan": scan_noise}):
        path = write(tmp_path / "a.h5", kspace[None], sensitivity_maps=MAPS[None], **items)
        problem = opened(path).problem(range(1), CPU, SetupOptions(remove_phase=False))
        assert problem.noise is not None
        whitened = problem.noise.std
        left = problem.y - problem.operator(torch.from_numpy(TRUTH[None]).to(torch.complex64))
        samples = left[0].numpy()[:, :, MASK].reshape(COILS, -1)
        found = samples @ samples.conj().T / samples.shape[1] / 2 / whitened**2
        # White with the level that is said: a covariance of a few hundred samples is known to a tenth or two.
        np.testing.assert_allclose(found, np.eye(COILS), atol=0.35)


@pytest.mark.parametrize("value", [0, "noise"])
def test_a_dead_channel_is_left_out(tmp_path: Path, value: Any) -> None:
    kspace = NOISY * MASK
    kspace[3] = 0 if value == 0 else noise(SHAPE, STD, seed=9) * MASK
    scan = opened(write(tmp_path / "a.h5", kspace[None], sensitivity_maps=MAPS[None]))
    problem = scan.problem(range(1), CPU)
    assert problem.y.shape[1] == COILS - 1
    assert "channel 3 of 6 holds no signal: left out" in scan.notes
    assert psnr(solved(scan), TRUTH) > 38
    assert psnr(solved(scan, maps="espirit"), TRUTH) > 20


def test_well_behaved_channels_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", (NOISY * MASK)[None], sensitivity_maps=MAPS[None])
    scan = opened(path)
    problem = scan.problem(range(1), CPU, SetupOptions(remove_phase=False))
    np.testing.assert_array_equal(problem.y, scan.kspace[0:1])
    np.testing.assert_array_equal(problem.operator.maps, MAPS[None].astype(np.complex64))
    assert not any("channel" in note for note in scan.notes)


def test_unknown_orientation_is_written_as_unknown(tmp_path: Path) -> None:
    scan = opened(write(tmp_path / "a.h5", NOISY[None], ismrmrd_header=header()))
    assert any("tells no orientation" in note for note in scan.notes)
    write_volume(scan.empty_volume(), tmp_path / "a.nii")
    image = nibabel.load(tmp_path / "a.nii")
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (0, 0)
    np.testing.assert_allclose(image.header.get_zooms(), (2, 2, 5))
    np.save(tmp_path / "a.npy", NOISY)
    write_volume(opened(tmp_path / "a.npy").empty_volume(), tmp_path / "b.nii")
    assert int(nibabel.load(tmp_path / "b.nii").header["sform_code"]) == 0


VD = (0).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("name", "content", "called", "todo"),
    [
        ("a.cfl", bytes(range(256)) * 8, "a BART file", "numpy.save"),
        ("a.hdr", b"# Dimensions\n96 80 1 6 1\n", "a BART file", "numpy.save"),
        ("meas.dat", VD, "measurement 0 of 2 lies from byte", "it is cut"),
        ("a.raw", bytes(range(256)) * 8, "Philips raw data", "philips_to_ismrmrd"),
        ("P12345.7", bytes(range(256)) * 8, "GE raw data", "ge_to_ismrmrd"),
        ("fid", bytes(range(256)) * 8, "Bruker raw data", "bruker_to_ismrmrd"),
        ("P12345.7.anon", bytes(range(256)) * 8, "GE raw data", "ge_to_ismrmrd"),
        ("a.PAR", b"# === DATA DESCRIPTION FILE ===\n", "PAR/REC", "no k-space"),
        ("a.mrd", bytes(range(256)) * 8, "ISMRMRD raw data", "sort its acquisitions"),
        ("a.mat", bytes(range(256)) * 8, "a MATLAB file", "loadmat"),
        ("a.pt", b"PK\x03\x04" + bytes(range(256)), "a PyTorch file", "numpy.save"),
        ("a.pkl", b"\x80\x04" + bytes(range(256)), "a pickle", "never read"),
        ("a.csv", b"1,2,3\n4,5,6\n", "numbers in text", "numpy.save"),
    ],
)
def test_other_programs_formats_are_named(
    tmp_path: Path, name: str, content: bytes, called: str, todo: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=called) as caught:
        open_scan(path)
    assert todo in caught.value.hint
    assert "download" not in caught.value.hint


def test_archives_and_hdf5_of_others_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=NOISY)
    with pytest.raises(InputError, match="holds no k-space but image") as caught:
        open_scan(tmp_path / "a.npz")
    assert "kspace" in caught.value.hint
    for group, called in (
        ("dataset", "ISMRMRD raw data"),
        ("scan 1", "ISMRMRD raw data"),
        ("#refs#", "a MATLAB file"),
    ):
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file[f"{group}/data"] = np.zeros(3)
            file[f"{group}/xml"] = "<x/>"
        with pytest.raises(InputError, match=called):
            open_scan(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["ksp"] = NOISY
    with pytest.raises(InputError, match="holds ksp") as caught:
        open_scan(tmp_path / "c.h5")
    assert "the data set 'kspace'" in caught.value.hint
    for file_name, called in (("acqp", "Bruker raw data"), ("procpar", "Varian or Agilent")):
        folder = tmp_path / called
        folder.mkdir()
        (folder / file_name).write_text("x")
        with pytest.raises(InputError, match=called):
            open_scan(folder)
    (tmp_path / "d.cfl").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="a BART file"):
        open_scan(tmp_path / "d")


def test_half_precision_and_two_channels_are_read(tmp_path: Path) -> None:
    pair = np.stack([NOISY.real, NOISY.imag], axis=-1).astype(np.float32)[None]
    half = np.zeros((1, *NOISY.shape), [("r", "<f2"), ("i", "<f2")])
    half["r"][0], half["i"][0] = NOISY.real, NOISY.imag
    named = np.zeros((1, *NOISY.shape), [("real", "<f4"), ("imag", "<f4")])
    named["real"][0], named["imag"][0] = NOISY.real, NOISY.imag
    for values, error in ((pair, 1e-6), (half, 1e-3), (named, 1e-6)):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["kspace"] = values
        scan = opened(tmp_path / "a.h5")
        assert scan.shape == (1, *NOISY.shape)
        # Half precision has eleven bits.
        np.testing.assert_allclose(scan.kspace[0], NOISY, atol=error * np.abs(NOISY).max())
        assert any("real and imaginary" in note for note in scan.notes)


def test_magnitudes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no imaginary part"):
        open_scan(write(tmp_path / "a.h5", np.abs(NOISY)[None]))
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["kspace"] = np.abs(NOISY)[None].astype(np.float32)
    with pytest.raises(InputError, match="must be complex"):
        open_scan(tmp_path / "b.h5")
    operator = MultiCoilMRI(torch.from_numpy(MAPS), torch.from_numpy(MASK))
    with pytest.raises(ConfigError, match="k-space is complex"):
        solve(torch.from_numpy(np.abs(NOISY)), operator, sampler="cgsense", prior=None)
