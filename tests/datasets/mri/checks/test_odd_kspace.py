"""K-space in odd forms: read right, refused with the fact found, or noted, held against numpy's truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
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
    header,
    noise,
    psnr,
    write,
)
from scipy.signal import windows

from restore.datasets.mri.checks.filtered import filter_note
from restore.datasets.mri.receivers.exchanged import note_exchanged
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import InputError
from restore.noise import Exact, Gaussian
from restore.operators.mri.coil_maps import espirit

CPU = torch.device("cpu")
MEASURED = (NOISY * MASK)[None]
HALF, SINGLE = 1e-3, 1e-6
"""Relative to the largest sample: eleven bits; twenty-four."""


def opened(path: Path, **options: str) -> MRIScan:
    scan = open_scan(path, **options)
    assert isinstance(scan, MRIScan)
    return scan


def solved(scan: MRIScan, index: int = 0) -> np.ndarray:
    """Ten steps of CG-SENSE with the scan's own maps, magnitudes."""
    problem = scan.problem(range(index, index + 1), CPU)
    return problem.operator.pinv(problem.y)[0].abs().numpy()


def pairs(values: np.ndarray, kind: str, names: tuple[str, str] = ("real", "imag")) -> np.ndarray:
    """Compounds of real and imaginary part, in the order of their names."""
    made = np.zeros(values.shape, [(name, kind) for name in names])
    for name in names:
        made[name] = values.real if name.startswith("r") else values.imag
    return made


@pytest.mark.parametrize(
    ("moved", "found"),
    ids=["coils last", "coils third", "both last", "slices last"],
    argvalues=[
        (lambda k: np.moveaxis(k, 1, -1), "along the 96 coils .* not along the 6 columns"),
        (lambda k: np.moveaxis(k, 1, 2), "along the 96 coils .* not along the 6 rows"),
        (lambda k: np.moveaxis(k, (0, 1), (2, 3)), "along the 96 slices, 80 coils"),
        (lambda k: np.moveaxis(k, 0, -1), "along the 96 coils"),
    ],
)
def test_axes_in_another_order_are_refused(tmp_path: Path, moved: Any, found: str) -> None:
    kspace = np.repeat(MEASURED, 2, axis=0)
    with pytest.raises(InputError, match=found):
        open_scan(write(tmp_path / "a.h5", moved(kspace)))
    np.save(tmp_path / "a.npy", moved(kspace))
    with pytest.raises(InputError, match="its axes are in another order"):
        open_scan(tmp_path / "a.npy")


@pytest.mark.parametrize("lines", [SHAPE[1], 16])
def test_slices_in_the_place_of_coils_are_noted(lines: int) -> None:
    volume = np.stack([0.6 * np.roll(TRUTH, -6, 0), TRUTH, 0.8 * np.roll(TRUTH, 5, 0)])
    kspace = centred_fft(volume[:, None] * MAPS)
    kspace = (kspace + noise(kspace.shape, STD)).astype(np.complex64)
    middle = SHAPE[1] // 2
    region = slice(0, SHAPE[0]), slice(middle - lines // 2, middle + lines // 2)
    for values, expected in ((kspace, 0), (kspace.swapaxes(0, 1), 1)):
        notes: list[str] = []
        note_exchanged(LazyStack(values.shape, lambda i, v=values: v[i]), region, notes)
        assert len(notes) == expected
        assert all("6 slices of 3 coils look like 3 slices of 6 coils" in n for n in notes)


def test_averages_in_the_place_of_coils_are_noted(tmp_path: Path) -> None:
    clean = centred_fft(TRUTH)
    averages = np.stack([clean + noise(SHAPE, STD, seed=s) for s in range(4)])
    scan = opened(write(tmp_path / "a.h5", averages[None]))
    scan.setup()
    assert any("hold one image up to a factor" in note for note in scan.notes)


def test_the_header_and_the_maps_tell_of_exchanged_axes(tmp_path: Path) -> None:
    kspace = np.repeat(MEASURED, 2, axis=0).swapaxes(0, 1)
    told = header().replace(
        "<encoding>", "<a><receiverChannels>6</receiverChannels></a><encoding>"
    ).replace("<a>", "<acquisitionSystemInformation>").replace("</a>", "</acquisitionSystemInformation>")  # fmt: skip
    with pytest.raises(InputError, match="6 slices of 2 coils, and its header tells of 6 channels"):
        open_scan(write(tmp_path / "a.h5", kspace, ismrmrd_header=told))
    maps = np.repeat(MAPS[None], 2, axis=0)
    scan = opened(write(tmp_path / "b.h5", kspace, sensitivity_maps=maps.swapaxes(0, 1)))
    with pytest.raises(InputError, match="sum to one along their slices"):
        scan.setup()


@pytest.mark.parametrize(
    ("axes", "what"),
    [((-2, -1), "rows and columns"), ((-2,), "rows"), ((-1,), "columns")],
)
def test_images_in_the_place_of_kspace_are_refused(
    tmp_path: Path, axes: tuple[int, ...], what: str
) -> None:
    shifted = np.fft.ifftn(np.fft.ifftshift(NOISY, axes=axes), axes=axes, norm="ortho")
    path = write(tmp_path / "a.h5", np.fft.fftshift(shifted, axes=axes)[None])
    with pytest.raises(InputError, match=f"spread along its {what}, and gathers once"):
        open_scan(path)
    assert opened(path, kspace_order="centred").shape == (1, COILS, *SHAPE)


def test_partitions_that_no_header_tells_of_are_noted_and_a_kz_corner_is_refused(
    tmp_path: Path,
) -> None:
    weights = np.array([0.3, 0.7, 1.0, 1.0, 0.9, 0.8, 0.5, 0.1])
    along_z = np.fft.fft(np.fft.ifftshift(weights), norm="ortho")[:, None, None, None] * CLEAN
    scan = opened(write(tmp_path / "a.h5", np.fft.fftshift(along_z, axes=0)))
    assert any("as it does along kz" in note for note in scan.notes)
    deep = header(encoded=(*SHAPE, 8), recon=(*SHAPE, 8))
    with pytest.raises(InputError, match="energy lies in partition 0"):
        open_scan(write(tmp_path / "b.h5", along_z, ismrmrd_header=deep))


WHOLE = MEASURED / np.abs(MEASURED).max() * 32000


@pytest.mark.parametrize(
    ("values", "factor", "error"),
    [
        (np.stack([WHOLE.real, WHOLE.imag], -1).round().astype(np.int16), 32000, 1e-4),
        (pairs(WHOLE.round(), "<i2"), 32000, 1e-4),
        (pairs(MEASURED, "<f4", ("imag", "real")), 0, SINGLE),
        (pairs(MEASURED, ">f2", ("re", "im")), 0, HALF),
        (np.stack([MEASURED.real, MEASURED.imag], -1).astype(np.float16), 0, HALF),
        (MEASURED.astype(">c16"), 0, SINGLE),
        (MEASURED, 0, SINGLE),
    ],
)
def test_numbers_of_every_form(
    tmp_path: Path, values: np.ndarray, factor: float, error: float
) -> None:
    largest = np.abs(MEASURED).max()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["kspace"] = values
    np.save(tmp_path / "a.npy", values)
    for name in ("a.h5", "a.npy"):
        scan = opened(tmp_path / name)
        assert scan.shape == (1, COILS, *SHAPE)
        found = scan.kspace[0] * (largest / factor if factor else 1)
        np.testing.assert_allclose(found, MEASURED[0], atol=error * largest)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_any_unit_is_kept(tmp_path: Path, scale: float) -> None:
    scan = opened(write(tmp_path / "a.h5", MEASURED * scale))
    assert psnr(solved(scan) / scale, TRUTH) > 40
    assert not any("channel" in note for note in scan.notes)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_numbers_beyond_single_precision_are_refused(tmp_path: Path, scale: float) -> None:
    with pytest.raises(InputError, match=r"k-space reaches 8\.03e.*single precision"):
        open_scan(write(tmp_path / "a.h5", MEASURED * scale))


PLANE = np.random.default_rng(5).random(SHAPE) < 0.4
PLANE[36:60, 28:52] = True


@pytest.mark.parametrize(
    ("mask", "sampled", "note"),
    [
        ((MASK * 255).astype(np.uint8), MASK, "holds 0 and 255: read as 0 and 1"),
        (MASK.astype(complex), MASK, ""),
        (np.ones(SHAPE, np.int64), PLANE, "zero in every coil: not measured"),
        (np.ones((1, 1, *SHAPE, 1)), PLANE, "zero in every coil: not measured"),
        (np.ones(SHAPE[1]), MASK, "lie on lines of zeros"),
    ],
)
def test_masks_of_every_form(
    tmp_path: Path, mask: np.ndarray, sampled: np.ndarray, note: str
) -> None:
    scan = opened(write(tmp_path / "a.h5", (NOISY * sampled)[None], mask=mask))
    np.testing.assert_array_equal(scan.mask, sampled)
    assert not note or any(note in found for found in scan.notes)


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (MASK * np.linspace(0.5, 1, SHAPE[1]), "other than 0 and 1: 0.5"),
        (~MASK, "says 1 where nothing was measured"),
        (~PLANE, "says 1 where nothing was measured"),
    ],
)
def test_weights_and_inverted_masks_are_refused(tmp_path: Path, mask: np.ndarray, why: str) -> None:
    sampled = PLANE if mask.ndim == 2 else MASK
    with pytest.raises(InputError, match=why):
        open_scan(write(tmp_path / "a.h5", (NOISY * sampled)[None], mask=mask))


@pytest.mark.parametrize(
    ("maps", "note"),
    [
        (MAPS, "serve all 2 slices"),
        (MAPS[None], "serve all 2 slices"),
        (np.stack([MAPS.real, MAPS.imag], -1), "serve all 2 slices"),
        (pairs(np.repeat(MAPS[None], 2, 0), "<f8"), ""),
    ],
)
def test_maps_of_every_form(tmp_path: Path, maps: np.ndarray, note: str) -> None:
    scan = opened(write(tmp_path / "a.h5", np.repeat(MEASURED, 2, axis=0), sensitivity_maps=maps))
    assert scan.maps is not None
    np.testing.assert_allclose(scan.maps[1], MAPS, atol=SINGLE)
    assert not note or any(note in found for found in scan.notes)


@pytest.mark.parametrize(
    ("maps", "why"),
    [
        (np.moveaxis(MAPS, 0, -1), "the axes of k-space in another order"),
        (np.stack([MAPS, MAPS]), "several sets of maps"),
        (MAPS[:4], "1 slices and 6 coils"),
        (MAPS[:, ::2, ::2], "k-space is 96 x 80"),
    ],
)
def test_maps_that_do_not_fit_are_named(tmp_path: Path, maps: np.ndarray, why: str) -> None:
    with pytest.raises(InputError, match=why):
        open_scan(write(tmp_path / "a.h5", MEASURED, sensitivity_maps=maps))


TWO = header().replace(
    "<encoding>", header(encoded=(64, 64, 1), trajectory="spiral")[45:].split("</ismrmrd")[0] + "<encoding>"
)  # fmt: skip
FACTOR = "<parallelImaging><accelerationFactor><kspace_encoding_step_1>2</kspace_encoding_step_1>"
LIMITS = (
    "<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>39</maximum><center>20</center>"
    "</kspace_encoding_step_1></encodingLimits>"
)


@pytest.mark.parametrize(
    ("text", "kspace", "pitch", "note"),
    [
        (
            header(encoded=(80, 96, 1), recon=(80, 96, 1), fov=(80, 192, 5), recon_fov=(80, 192, 5)),
            MEASURED, (1, 2), "the readout lies along columns",
        ),
        (header(fov=(0.192, 0.16, 0.005), recon_fov=(0.192, 0.16, 0.005)), MEASURED, (0.002, 0.002), "hardly meant in"),
        (TWO, MEASURED, (2, 2), "2 encodings: that of 96 x 80 taken"),
        (
            header().replace("<traj", FACTOR + "</accelerationFactor></parallelImaging><traj"),
            NOISY[None], (2, 2), "2 times fewer lines were measured, and 100%",
        ),
        (header().replace("<traj", LIMITS + "<traj"), MEASURED, (2, 2), "20 of 48 measured columns lie outside"),
        (header().replace("<enc", "<n>M\u00fcller</n><enc", 1).encode("latin-1"), MEASURED, (2, 2), ""),
        (header(trajectory=" Cartesian\n"), MEASURED, (2, 2), ""),
    ],
)  # fmt: skip
def test_headers_of_every_form(
    tmp_path: Path, text: Any, kspace: np.ndarray, pitch: tuple[float, float], note: str
) -> None:
    mask = {"mask": MASK} if kspace is MEASURED else {}
    scan = opened(write(tmp_path / "a.h5", kspace, ismrmrd_header=text, **mask))
    assert scan.affine is not None
    np.testing.assert_allclose(np.diag(scan.affine)[:2], pitch)
    assert not note or any(note in found for found in scan.notes)


def test_a_spike_and_an_offset_are_noted(tmp_path: Path) -> None:
    spiked = MEASURED.copy()
    spiked[0, 2, 70, 60] += 3
    shifted = (NOISY + 0.05) * MASK
    for kspace, words in ((spiked, "row 70, column 60 is"), (shifted[None], "constant offset")):
        scan = opened(write(tmp_path / "a.h5", kspace))
        scan.setup()
        assert any(words in note for note in scan.notes)
    clean = opened(write(tmp_path / "b.h5", MEASURED))
    clean.setup()
    assert not any("spike" in n or "offset" in n for n in clean.notes)


def test_a_receiver_that_was_overdriven_is_noted(tmp_path: Path) -> None:
    """Cut off at a third of the largest value: 27 dB are lost. Whole numbers reach theirs by chance."""
    top = np.abs(MEASURED.real).max() / 3
    cut = np.clip(MEASURED.real, -top, top) + 1j * np.clip(MEASURED.imag, -top, top)
    whole = np.round(MEASURED / STD)
    few = np.round(MEASURED / np.abs(MEASURED).max() * 40)
    for kspace, said in ((cut, True), (MEASURED, False), (whole, False), (few, False)):
        scan = opened(write(tmp_path / "a.h5", kspace))
        scan.setup()
        assert any("the receiver was overdriven" in note for note in scan.notes) == said


@pytest.mark.parametrize("window", [np.hanning, lambda n: windows.tukey(n, 0.2)])
@pytest.mark.parametrize("axes", [(-2, -1), (-1,)])
def test_kspace_that_was_filtered_is_noted(tmp_path: Path, window: Any, axes: tuple[int, ...]):
    """The ends of a window are zeros, which count as not measured. A stated level is not said to be too low."""
    shape = [n if axis in axes else 1 for axis, n in zip((-2, -1), SHAPE, strict=True)]
    weights = np.multiply.outer(*(window(n + 2)[1:-1] if n > 1 else np.ones(1) for n in shape))
    scan = opened(write(tmp_path / "a.h5", (weights * NOISY * MASK)[None]))
    scan.setup()
    (note,) = [n for n in scan.notes if "looks filtered" in n]
    assert "the noise estimated there" in note
    told = opened(write(tmp_path / "a.h5", (weights * NOISY * MASK)[None]))
    told.setup(SetupOptions(noise_std=STD))
    (note,) = [n for n in told.notes if "looks filtered" in n]
    assert "estimated" not in note


@pytest.mark.parametrize("kspace", [NOISY, NOISY * MASK, CLEAN, NOISY * np.hamming(SHAPE[1])])
def test_kspace_that_falls_as_objects_do_is_not_filtered(kspace: np.ndarray) -> None:
    """Hamming's window ends at 0.08, and is not told from that."""
    assert filter_note(kspace, (kspace != 0).any(0), None) is None


def test_each_slice_has_the_noise_that_it_shows(tmp_path: Path) -> None:
    stds = np.array([1, 20, 1]) * STD
    kspace = np.stack([CLEAN + noise(CLEAN.shape, s, i) for i, s in enumerate(stds)])
    scan = opened(write(tmp_path / "a.h5", kspace * MASK))
    problem = scan.problem(range(3), CPU)
    assert isinstance(problem.noise, Gaussian)
    np.testing.assert_allclose(torch.as_tensor(problem.noise.std).flatten(), stds, rtol=0.15)
    assert any("noise differs between slices" in note for note in scan.notes)
    alike = opened(write(tmp_path / "b.h5", np.repeat(MEASURED, 3, axis=0)))
    assert isinstance(alike.problem(range(3), CPU).noise.std, float)


@pytest.mark.parametrize(("told", "noted"), [(1, False), (5, True), (0.01, True)])
def test_a_level_that_the_samples_contradict_is_noted(
    tmp_path: Path, told: float, noted: bool
) -> None:
    scan = opened(write(tmp_path / "a.h5", MEASURED))
    scan.setup(SetupOptions(noise_std=told * STD))
    assert any("the noise is said to be" in note for note in scan.notes) == noted


def test_a_file_that_says_it_has_no_noise_is_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", (CLEAN * MASK)[None])
    with h5py.File(path, "a") as file:
        file.attrs["noise_std"] = 0.0
    assert opened(path).setup().noise == Exact()


def test_signal_in_the_corners_is_no_noise_of_linked_channels(tmp_path: Path) -> None:
    """Points of a sharp image: its spectrum reaches the corners, and every coil sees it."""
    down, across = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sharp = TRUTH * (1 + 0.5 * ((down // 2 + across // 3) % 2))
    kspace = centred_fft(MAPS * sharp) + noise(CLEAN.shape, STD)
    scan = opened(write(tmp_path / "a.h5", (kspace * PLANE)[None]))
    scan.setup()
    assert not any("whitened" in note for note in scan.notes)


@pytest.mark.parametrize("gain", [100, 1e4])
def test_one_channel_of_another_gain(tmp_path: Path, gain: float) -> None:
    kspace = MEASURED.copy()
    kspace[:, 3] *= gain
    image = solved(opened(write(tmp_path / "a.h5", kspace)))
    factor = np.vdot(image, TRUTH) / np.vdot(image, image)
    assert psnr(factor * image, TRUTH) > 34  # with its brightness kept 12 and 22


def test_maps_of_more_than_32_coils_are_those_of_their_principal_components() -> None:
    shape = (40, 36)
    truth = coil_maps(shape, 48)
    down = np.hypot(*np.ogrid[-1:1:40j, -1:1:36j])
    image = 1 / (1 + np.exp((down - 0.7) * 20))
    kspace = centred_fft(truth * image)
    kspace = kspace + noise(kspace.shape, 1e-4)
    maps, values = espirit(torch.from_numpy(kspace.astype(np.complex64)), (24, 24))
    # The projection keeps lengths; single precision over 48 products.
    np.testing.assert_allclose(maps.abs().square().sum(0), 1, atol=1e-4)
    inside = down < 0.6
    overlap = np.abs((maps.numpy() * truth.conj()).sum(0))[inside]
    assert overlap.min() > 0.999
    assert values.numpy()[inside].min() > 0.95


LINKED = np.eye(COILS) + 0.6 * (1 - np.eye(COILS))


@pytest.mark.parametrize("sampled", [PLANE, MASK], ids=["points", "columns"])
@pytest.mark.parametrize(
    ("mix", "with_maps", "least"),
    [(LINKED, True, 44), (LINKED, False, 42), (np.diag([1, 1, 2.5, 1, 1, 1]), True, 43)],
    ids=["linked, maps", "linked", "one louder"],
)
def test_noise_of_the_channels_by_points_and_by_lines(
    tmp_path: Path, sampled: np.ndarray, mix: np.ndarray, with_maps: bool, least: float
) -> None:
    noisy = CLEAN + np.einsum("ab,bhw->ahw", mix, noise(CLEAN.shape, STD, seed=3))
    items = {"sensitivity_maps": MAPS} if with_maps else {}
    scan = opened(write(tmp_path / "a.h5", (noisy * sampled)[None], **items))
    # Without whitening 38, 36 and 42 dB or less.
    assert psnr(solved(scan), TRUTH) > least
    assert any("channels whitened" in note for note in scan.notes)
