"""fastmri-volume: masks, targets and figures are fastMRI's, on every kind of file that it has."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restore.bench.case import ScanCase
from restore.bench.fastmri import FastMRIVolume, undersampled, volume_figures
from restore.bench.method import parse_methods
from restore.bench.runner import RunOptions, Told, run_benchmark
from restore.datasets.mri.calibration import calibration_lines
from restore.datasets.mri.fastmri_files.fastmri import read_fastmri
from restore.datasets.mri.fastmri_files.fastmri_header import format_header
from restore.datasets.mri.fastmri_files.fastmri_write import Undersampling, write_fastmri_file
from restore.datasets.mri.scan import MRIScan
from restore.datasets.simulate.fastmri_files import simulate_fastmri
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError, NotFoundError
from restore.operators.mri.coil_maps import espirit
from restore.operators.mri.filling import calibration_data
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.registry import load_sampler

SINGLE = 1e-5  # evaluated in float32 for comparison: 3e-7 of the error seen

CPU = torch.device("cpu")
DOUBLE = 1e-9  # sums over some thousand float64 in another order
KNEE, BRAIN = "file1000001.h5", "file_brain_AXT2_200_2000001.h5"
ROWS, WIDTH = 48, 64


def simulated(shape=(8, ROWS, WIDTH), coils: int = 4, **options) -> MRIScan:
    return simulate_fastmri(head_phantom(shape), coils=coils, slices=slice(3, 6), **options)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A knee and a brain volume with two-fold readout oversampling; the brain one is zero-padded."""
    root = tmp_path_factory.mktemp("fastmri")
    folder = root / "multicoil_val"
    folder.mkdir()
    write_fastmri_file(simulated(oversampling=2), folder / KNEE)
    write_fastmri_file(simulated(oversampling=2, columns=45, seed=3), folder / BRAIN)
    return root


def opened(protocol: FastMRIVolume, volume: str, run: Path, setting: int = 0) -> ScanCase:
    case = protocol.open(volume, protocol.settings()[setting], run)
    assert isinstance(case, ScanCase)
    return case


def image_of(case: ScanCase, name: str = "zerofilled") -> np.ndarray:
    sampler = load_sampler(name).configured("tuned", case.operator, {})
    return case.run(sampler, None, samples=1, seed=0, device=CPU).image


def one_file(tmp_path: Path, scan: MRIScan, name: str = KNEE, kind="multicoil_val", **how) -> Path:
    (tmp_path / kind).mkdir(exist_ok=True)
    write_fastmri_file(scan, tmp_path / kind / name, **how)
    return tmp_path / kind / name


# -------------------------------------------------------------------- figures


def as_evaluated(target: np.ndarray, image: np.ndarray) -> tuple[float, float, float]:
    """NMSE, PSNR, SSIM as fastMRI 0.3.0's `evaluate.py` computes them, written anew."""
    side = target.shape[-1]
    cut = []
    for stack in (target, image):
        top, left = (stack.shape[-2] - side) // 2, (stack.shape[-1] - side) // 2
        cut.append(stack[..., top : top + side, left : left + side])
    gt, pred = cut
    similar = [
        structural_similarity(a, b, data_range=gt.max()) for a, b in zip(gt, pred, strict=True)
    ]
    return (
        float(np.linalg.norm(gt - pred) ** 2 / np.linalg.norm(gt) ** 2),
        peak_signal_noise_ratio(gt, pred, data_range=gt.max()),
        float(np.mean(similar)),
    )


@pytest.mark.parametrize("shape", [(3, 40, 40), (4, 61, 33)])
def test_figures_are_those_of_the_evaluation(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    target = head_phantom(shape).data.astype(np.float64) * 3e-7  # as small as published values
    image = np.abs(target + rng.normal(0, 1e-5, shape))
    found = volume_figures(image, target, tuple(range(shape[0])))
    expected = as_evaluated(target, image)
    assert (found.nmse, found.psnr, found.ssim) == pytest.approx(expected, rel=DOUBLE)
    rounded = as_evaluated(target.astype("f4"), image.astype("f4"))
    stored = volume_figures(image.astype("f4"), target.astype("f4"), tuple(range(shape[0])))
    assert (stored.nmse, stored.psnr, stored.ssim) == pytest.approx(rounded, rel=SINGLE)


def test_the_range_is_that_of_the_evaluated_square():
    """What the crop takes away may be brighter than all that is left."""
    target = np.random.default_rng(4).uniform(0, 1, (2, 30, 20))
    target[:, :4] = 50  # above the square of 20 x 20
    image = target + 0.01
    found = volume_figures(image, target, (0, 1))
    square = target[:, 5:25]
    assert found.data_range == square.max() < 1
    mse = np.mean((image[:, 5:25] - square) ** 2)
    # Sums of 800 doubles.
    assert found.psnr == pytest.approx(10 * np.log10(square.max() ** 2 / mse), rel=DOUBLE)


def test_figures_of_slices_share_the_range_of_the_volume(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root), KNEE, tmp_path)
    image = image_of(case)
    target = case.reference
    found = case.score(image)
    assert (found.nmse, found.psnr, found.ssim) == pytest.approx(
        _by_hand(target, image), abs=DOUBLE
    )
    assert found.data_range == target.max()
    assert found.per_slice["slice"] == [3, 4, 5]
    for index in range(3):
        assert found.per_slice["psnr"][index] == pytest.approx(
            peak_signal_noise_ratio(
                target[index].astype(np.float64), image[index], data_range=float(target.max())
            ),
            abs=DOUBLE,
        )
    assert np.mean(found.per_slice["ssim"]) == pytest.approx(found.ssim, abs=DOUBLE)


def _by_hand(target: np.ndarray, image: np.ndarray) -> tuple[float, float, float]:
    """The same where the target has fewer rows than columns, so that nothing is cut; in float64."""
    target, image = target.astype(np.float64), image.astype(np.float64)
    similar = [
        structural_similarity(a, b, data_range=target.max())
        for a, b in zip(target, image, strict=True)
    ]
    nmse = np.sum((target - image) ** 2) / np.sum(target**2)
    psnr = 10 * np.log10(target.max() ** 2 / np.mean((target - image) ** 2))
    return float(nmse), float(psnr), float(np.mean(similar))


def test_a_perfect_image(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root), KNEE, tmp_path)
    found = case.score(case.reference)
    assert found.psnr == float("inf")
    assert found.nmse == 0
    assert found.ssim == pytest.approx(1, abs=DOUBLE)


# ------------------------------------------------------------- masks, padding


def generator(name: str) -> np.random.RandomState:
    """fastMRI's: seeded by the name; one draw picks the acceleration before those of the mask."""
    rng = np.random.RandomState(tuple(ord(letter) for letter in name))
    rng.randint(1)
    return rng


def centre_columns(fraction: float) -> np.ndarray:
    low = round(WIDTH * fraction)
    columns = np.arange(WIDTH)
    start = (WIDTH - low + 1) // 2
    return (columns >= start) & (columns < start + low)


@pytest.mark.parametrize(("setting", "rate", "fraction"), [(0, 4, 0.08), (1, 8, 0.04)])
def test_the_mask_of_a_knee_is_random(root, tmp_path, setting, rate, fraction) -> None:
    case = opened(FastMRIVolume(root), KNEE, tmp_path, setting)
    low = round(WIDTH * fraction)
    chance = (WIDTH / rate - low) / (WIDTH - low)
    expected = (generator(KNEE).uniform(size=WIDTH) < chance) | centre_columns(fraction)
    np.testing.assert_array_equal(case.scan.mask, expected)
    assert case.conditions.mask == "fastMRI random"
    assert KNEE in case.conditions.mask_seed
    assert case.conditions.details["central_columns"] == low


def test_the_mask_of_a_brain_is_equispaced_without_its_padding(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root), BRAIN, tmp_path)
    low = round(WIDTH * 0.08)
    spacing = 4 * (low - WIDTH) / (low * 4 - WIDTH)
    offset = generator(BRAIN).randint(0, round(spacing))
    expected = centre_columns(0.08)
    expected[np.around(np.arange(offset, WIDTH - 1, spacing)).astype(int)] = True
    with h5py.File(root / "multicoil_val" / BRAIN) as file:
        measured = (file["kspace"][0, 0] != 0).any(axis=0)
    assert measured.sum() == 45
    assert (expected & ~measured).any()
    np.testing.assert_array_equal(case.scan.mask, expected & measured)
    assert case.conditions.mask == "fastMRI equispaced_fraction"
    assert case.conditions.details["padded_columns"] == 19


def test_a_kind_of_mask_may_be_chosen(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root, (4,), mask="magic", center_fraction=0.1), KNEE, tmp_path)
    assert case.conditions.mask == "fastMRI magic"
    assert case.conditions.details["center_fraction"] == 0.1
    with pytest.raises(ConfigError, match="cartesian"):
        FastMRIVolume(root, mask="cartesian")


def test_kspace_is_zero_outside_the_mask(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root), BRAIN, tmp_path)
    kspace = case.scan.kspace[1]
    assert kspace.dtype == np.complex64
    assert (kspace[..., ~case.scan.mask] == 0).all()
    assert (kspace[..., case.scan.mask] != 0).all()


# -------------------------------------------------- oversampling, maps, target


def test_removing_the_oversampling_changes_no_image(root: Path) -> None:
    full = read_fastmri(root / "multicoil_val" / KNEE)
    mask = generator(KNEE).uniform(size=WIDTH) < 0.4
    mask[WIDTH // 2 - 4 : WIDTH // 2 + 4] = True
    kept = np.where(mask, np.asarray(full.kspace), 0).astype(np.complex64)
    maps = espirit(torch.from_numpy(kept), (2 * ROWS, 8))[0].numpy()
    axes = (-2, -1)
    images = np.fft.fftshift(
        np.fft.ifft2(np.fft.ifftshift(kept, axes=axes), norm="ortho"), axes=axes
    )
    middle = slice(ROWS // 2, ROWS // 2 + ROWS)
    expected = np.abs(np.sum(maps.conj() * images, axis=1))[:, middle]
    scan = undersampled(full, mask)
    assert scan.shape == (3, 4, ROWS, WIDTH)
    scan = dataclasses.replace(scan, maps=LazyStack(scan.shape, lambda i: maps[i][:, middle]))
    sampler = load_sampler("zerofilled").configured("tuned", object, {})
    found = reconstruct(scan, sampler, None, ReconOptions(maps="file"), device=CPU).volume.data
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max())


def test_a_mask_of_the_plane_keeps_the_oversampling(root: Path) -> None:
    full = read_fastmri(root / "multicoil_val" / KNEE)
    mask = np.ones((2 * ROWS, WIDTH), bool)
    mask[3, 5] = False
    assert undersampled(full, mask).shape == full.shape


def test_maps_are_made_of_the_undersampled_scan_once(root, tmp_path, monkeypatch) -> None:
    calls = []

    def counted(kspace, calib):
        calls.append(calib)
        return espirit(torch.from_numpy(kspace), calib)[0].numpy()

    monkeypatch.setattr("restore.bench.fastmri.slice_maps", counted)
    protocol = FastMRIVolume(root)
    case = opened(protocol, KNEE, tmp_path)
    assert calls == []
    image = image_of(case)
    image_of(case)
    again = opened(protocol, KNEE, tmp_path)
    np.testing.assert_array_equal(image_of(again), image)
    assert calls == [calls[0]] * 3
    kspace = torch.from_numpy(case.scan.kspace[2])
    region = (slice(0, ROWS), calibration_lines(case.scan.mask, (ROWS, WIDTH))[1])
    middle, seen, _ = calibration_data(kspace, torch.from_numpy(case.scan.mask), region)
    expected = espirit(middle, seen)[0].numpy()
    np.testing.assert_array_equal(case.scan.maps[2], expected)
    protocol.close(KNEE, protocol.settings()[0], tmp_path)
    assert list((tmp_path / "cache" / "maps").iterdir()) == []


def test_the_cached_maps_give_what_maps_on_the_way_give(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root, keep_maps=True), KNEE, tmp_path)
    sampler = load_sampler("cgsense").configured("tuned", case.operator, {"n_steps": 5})
    plain = dataclasses.replace(case.scan, maps=None)
    expected = reconstruct(plain, sampler, None, ReconOptions(), device=CPU).volume.data
    found = case.run(sampler, None, samples=1, seed=0, device=CPU)
    np.testing.assert_array_equal(found.image, expected)
    assert case.score(found.image).psnr > case.score(case.first_look()).psnr
    FastMRIVolume(root, keep_maps=True).close(KNEE, FastMRIVolume(root).settings()[0], tmp_path)
    assert len(list((tmp_path / "cache" / "maps").iterdir())) == 1


def test_single_coil(tmp_path: Path) -> None:
    path = one_file(tmp_path, simulated(coils=1, oversampling=2), kind="singlecoil_val")
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"] = 2 * file["reconstruction_esc"][()]  # of all coils, not of this
        esc = file["reconstruction_esc"][()]
        kspace = file["kspace"][()]
    case = opened(FastMRIVolume(tmp_path), KNEE, tmp_path)
    np.testing.assert_array_equal(case.reference, esc)
    assert "reconstruction_esc" in case.conditions.target
    assert (np.asarray(case.scan.maps) == 1).all()
    axes = (-2, -1)
    kept = np.fft.ifftshift(np.where(case.scan.mask, kspace, 0), axes=axes)
    image = np.abs(np.fft.fftshift(np.fft.ifft2(kept, norm="ortho"), axes=axes))
    expected = image[:, ROWS // 2 : ROWS // 2 + ROWS]
    np.testing.assert_allclose(image_of(case), expected, atol=1e-5 * expected.max())
    assert not (tmp_path / "cache").exists()


def test_the_target_is_the_files_own(root: Path, tmp_path: Path) -> None:
    case = opened(FastMRIVolume(root), KNEE, tmp_path)
    with h5py.File(root / "multicoil_val" / KNEE) as file:
        np.testing.assert_array_equal(case.reference, file["reconstruction_rss"][()])
    assert case.reference.shape == image_of(case).shape == (3, ROWS, WIDTH)
    assert case.place.modality == "MR"
    assert case.place.slices == (3, 4, 5)
    np.testing.assert_allclose(case.place.affine, case.scan.affine)
    details = case.conditions.details
    assert details["readout_oversampling_removed"]
    assert (details["coils"], details["kspace_shape"]) == (4, [2 * ROWS, WIDTH])
    assert "corners" in case.conditions.noise_rule
    assert case.conditions.noise_std > 0


# ------------------------------------------------------------------ test files


def test_a_test_file_takes_part_in_its_own_acceleration(tmp_path: Path) -> None:
    how = Undersampling(acceleration=4, center_fraction=0.08)
    path = one_file(tmp_path, simulated(), kind="multicoil_test", test=how)
    protocol = FastMRIVolume(tmp_path, split="test")
    four, eight = protocol.settings()
    assert protocol.open(KNEE, eight, tmp_path) is None
    case = opened(protocol, KNEE, tmp_path)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(case.scan.mask, file["mask"][()])
        assert file.attrs["acceleration"] == four.values["acceleration"]
    assert case.reference is None
    assert case.conditions.target == "none in the file"
    assert case.conditions.mask == "stored in the file"
    assert image_of(case).shape == (3, ROWS, WIDTH)
    assert image_of(case).max() > 0
    assert case.conditions.details["center_fraction"] is None
    with h5py.File(path, "a") as file:
        del file.attrs["acceleration"]
    with pytest.raises(InputError, match=r"file1000001\.h5.*acceleration"):
        protocol.open(KNEE, four, tmp_path)


def test_a_test_file_with_its_target_has_figures(tmp_path: Path) -> None:
    scan = simulated()
    path = one_file(tmp_path, scan, kind="multicoil_test", test=Undersampling(4, 0.08))
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"] = np.asarray(scan.reference)
    case = opened(FastMRIVolume(tmp_path, split="test"), KNEE, tmp_path)
    assert case.score(case.reference).psnr == float("inf")


# ------------------------------------------------------------------- odd sizes


@pytest.mark.parametrize(
    ("target", "image", "evaluated"),
    [
        ((41, 33), (41, 33), (33, 33)),
        ((50, 60), (45, 51), (45, 51)),  # larger than k-space
        ((45, 40), (45, 40), (40, 40)),
    ],
)
def test_odd_sizes(tmp_path: Path, target, image, evaluated) -> None:
    path = one_file(tmp_path, simulated((8, 45, 51)))
    rng = np.random.default_rng(0)
    with h5py.File(path, "a") as file:
        del file["reconstruction_rss"]
        stack = 100 * rng.random((3, *target)).astype("f4")
        file["reconstruction_rss"] = stack
    case = opened(FastMRIVolume(tmp_path), KNEE, tmp_path)
    top, left = ((n - m) // 2 for n, m in zip(target, image, strict=True))
    np.testing.assert_array_equal(
        case.reference, stack[:, top : top + image[0], left : left + image[1]]
    )
    found = image_of(case)
    assert found.shape == (3, *image)
    top, left = ((n - m) // 2 for n, m in zip(image, evaluated, strict=True))
    cut = (slice(None), slice(top, top + evaluated[0]), slice(left, left + evaluated[1]))
    expected = _by_hand(case.reference[cut], found[cut])
    figures = case.score(found)
    assert (figures.nmse, figures.psnr, figures.ssim) == pytest.approx(expected, abs=DOUBLE)


def test_the_size_of_a_test_file_is_the_headers_within_kspace(tmp_path: Path) -> None:
    path = one_file(tmp_path, simulated((8, 45, 51)), kind="multicoil_test",
                    test=Undersampling(4, 0.08))  # fmt: skip
    with h5py.File(path, "a") as file:
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = format_header((45, 51), (1.0, 1.0, 3.0), recon=(31, 64))
    case = opened(FastMRIVolume(tmp_path, split="test"), KNEE, tmp_path)
    assert image_of(case).shape == (3, 31, 51)


# ------------------------------------------------------- volumes, hostile files


def test_which_volumes(root: Path) -> None:
    assert list(FastMRIVolume(root).volumes()) == [KNEE, BRAIN]
    assert list(FastMRIVolume(root, limit=1).volumes()) == [KNEE]
    assert list(FastMRIVolume(root, names=("file_brain_AXT2_200_2000001",)).volumes()) == [BRAIN]
    rest = FastMRIVolume(root, limit=1, exclude=frozenset({KNEE}))
    assert rest.volumes() == {BRAIN: root / "multicoil_val" / BRAIN}
    with pytest.raises(NotFoundError, match="file7"):
        FastMRIVolume(root, names=("file7",)).volumes()
    with pytest.raises(NotFoundError, match="excluded"):
        FastMRIVolume(root, exclude=frozenset({KNEE, BRAIN})).volumes()
    with pytest.raises(NotFoundError, match="file7"):
        FastMRIVolume(root).open("file7.h5", FastMRIVolume(root).settings()[0], root)
    assert [s.name for s in FastMRIVolume(root, (8, 4)).settings()] == ["8x", "4x"]


def test_a_run_can_grow(root: Path) -> None:
    small, large = FastMRIVolume(root, (4,), limit=1), FastMRIVolume(root, exclude={KNEE})
    assert small.describe() == large.describe()
    assert small.settings()[0] == large.settings()[0]


@pytest.mark.parametrize("rates", [(), (1,), (2.5,), (4, 4)])
def test_refused_accelerations(root: Path, rates: tuple) -> None:
    with pytest.raises(ConfigError, match="acceleration"):
        FastMRIVolume(root, rates)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def undersample(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["kspace"][..., 10] = 0


def blank_target(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"][()] = 0


def spoil_target(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"][0, 0, 0] = np.nan


def link_kspace(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file["kspace"]
        file["kspace"] = h5py.ExternalLink("/etc/passwd", "kspace")


@pytest.mark.parametrize("spoil", [truncate, undersample, blank_target, spoil_target, link_kspace])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, spoil) -> None:
    path = one_file(tmp_path, simulated())
    spoil(path)
    protocol = FastMRIVolume(tmp_path)
    with pytest.raises(InputError, match=r"file1000001\.h5"):
        protocol.open(KNEE, protocol.settings()[0], tmp_path)


def test_attributes_are_not_trusted(tmp_path: Path) -> None:
    path = one_file(tmp_path, simulated())
    with h5py.File(path, "a") as file:
        file.attrs["acquisition"] = "<script>alert(1)</script>"
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = '<!DOCTYPE x [<!ENTITY a "b">]><ismrmrdHeader/>'
    case = opened(FastMRIVolume(tmp_path), KNEE, tmp_path)
    assert case.conditions.details["acquisition"] == ""
    assert case.conditions.details["padded_columns"] == 0


# ------------------------------------------------------------------- a whole run


def test_a_run_and_its_continuation(root: Path, tmp_path: Path) -> None:
    protocol = FastMRIVolume(root, (4,), limit=1)
    methods = parse_methods("zerofilled,cgsense:n_steps=5")
    rows = []
    told = Told(row=lambda row, done, total: rows.append(row))
    summary = run_benchmark(protocol, methods, tmp_path / "run", RunOptions(device=CPU), told)
    assert (summary.made, summary.failed) == (2, 0)
    case = opened(protocol, KNEE, tmp_path)
    assert rows[0].psnr == pytest.approx(case.score(image_of(case)).psnr, abs=DOUBLE)
    assert list((tmp_path / "run" / "cache" / "maps").iterdir()) == []
    again = run_benchmark(protocol, methods, tmp_path / "run", RunOptions(device=CPU), Told())
    assert (again.made, again.found) == (0, 2)
