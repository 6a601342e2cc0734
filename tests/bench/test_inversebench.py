"""inversebench-mri: masks, targets, measurements and figures follow the published rules."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from restore.bench.case import ScanCase
from restore.bench.inversebench import InverseBenchMRI, inversebench_mask, resized, slice_figures
from restore.datasets.mri.fastmri_files.fastmri import read_fastmri
from restore.datasets.mri.fastmri_files.fastmri_write import Undersampling, write_fastmri_file
from restore.datasets.mri.scan import MRIScan
from restore.datasets.simulate.fastmri_files import simulate_fastmri
from restore.datasets.simulate.phantom import head_phantom
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.operators.mri.coil_maps import espirit
from restore.registry import load_sampler

SINGLE = 1e-4  # float32: transforms and roots of sums over coils; 2e-6 seen
DOUBLE = 1e-9  # float64: means over some thousand pixels
PLACE = 0.1  # mm; a tenth of a pixel

CPU = torch.device("cpu")
NAME = "file1000001.h5"
ROWS, WIDTH, SIDE = 48, 64, 50


def stand_in(folder: Path, name: str = NAME, *, depth: int = 8, slices=slice(3, 6), **options):
    folder.mkdir(exist_ok=True)
    test = options.pop("test", None)
    options = {"coils": 4, "oversampling": 2, **options}
    scan = simulate_fastmri(head_phantom((depth, ROWS, WIDTH)), slices=slices, **options)
    write_fastmri_file(scan, folder / name, test)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inversebench")
    stand_in(root / "multicoil_val")
    return root


@pytest.fixture(scope="module")
def cases(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ScanCase]:
    """The cases of the settings at 4x, with their cache."""
    protocol, run = InverseBenchMRI(root, (4,), size=SIDE), tmp_path_factory.mktemp("run")
    return {s.name: protocol.open(NAME, s, run) for s in protocol.settings()}


def ifft(kspace: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    shifted = np.fft.ifftshift(kspace, axes=axes)
    return np.fft.fftshift(np.fft.ifftn(shifted, axes=axes, norm="ortho"), axes=axes)


def fft(image: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    shifted = np.fft.ifftshift(image, axes=axes)
    return np.fft.fftshift(np.fft.fftn(shifted, axes=axes, norm="ortho"), axes=axes)


def by_the_rules(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Resized k-space (slices, coils, n, n), and complex MVUE over its quantile with our maps."""
    with h5py.File(path) as file:
        kspace = file["kspace"][()].astype(np.complex128)
    left = WIDTH // 2 - SIDE // 2
    kspace = kspace[..., left : left + SIDE]
    rows = ifft(kspace, (-2,))
    top = 2 * ROWS // 2 - SIDE // 2
    kspace = fft(rows[..., top : top + SIDE, :], (-2,))
    maps = espirit(torch.from_numpy(kspace.astype(np.complex64)), 24)[0].numpy()
    combined = (maps.conj() * ifft(kspace, (-2, -1))).sum(1)
    combined /= np.sqrt((np.abs(maps) ** 2).sum(1))
    return kspace, combined


# ----------------------------------------------------------------------- masks


def published_mask(total: int, rate: int) -> np.ndarray:
    """The rule as the publication states it, with numpy's legacy generator at seed 0."""
    centre_lines = np.floor((0.08 if 1 < rate <= 6 else 0.04) * total).astype(int)
    budget = np.floor(total / rate)
    centre = np.arange((total - centre_lines) // 2, (total + centre_lines) // 2)
    others = np.setdiff1d(np.arange(total), centre)
    rng = np.random.RandomState(seed=0)
    chosen = rng.choice(others, size=int(budget - centre_lines), replace=False)
    mask = np.zeros(total)
    mask[centre] = mask[chosen] = 1
    return mask.astype(bool)


@pytest.mark.parametrize("rate", [4, 6, 8])
@pytest.mark.parametrize("total", [320, 256, 322, 64])
def test_the_mask_is_the_published_one(total: int, rate: int) -> None:
    found = inversebench_mask(total, rate)
    np.testing.assert_array_equal(found, published_mask(total, rate))
    assert found.sum() == total // rate


def test_the_mask_of_the_benchmark() -> None:
    # RandomState(0): 80 and 40 of 320 columns, 25 and 12 of them in the centre.
    four, eight = inversebench_mask(320, 4), inversebench_mask(320, 8)
    assert (four.sum(), eight.sum()) == (80, 40)
    assert four[147:172].all()
    assert eight[154:166].all()
    np.testing.assert_array_equal(inversebench_mask(320, 4), four)
    assert (inversebench_mask(320, 4, seed=1) != four).any()


@pytest.mark.parametrize(("width", "rate"), [(320, 1), (8, 4), (320, float("nan"))])
def test_a_mask_that_cannot_be_drawn(width: int, rate: float) -> None:
    with pytest.raises(ConfigError):
        inversebench_mask(width, rate)


# ------------------------------------------------------- target, measurements


def test_settings(root: Path) -> None:
    names = [s.name for s in InverseBenchMRI(root).settings()]
    assert names == ["4x-raw", "4x-simulated", "8x-raw", "8x-simulated"]
    only = InverseBenchMRI(root, (8,), ("simulated",))
    assert [s.name for s in only.settings()] == ["8x-simulated"]
    assert only.describe() == InverseBenchMRI(root, limit=1).describe()
    assert only.describe() != InverseBenchMRI(root, size=256).describe()
    for wrong in ({"measurements": ("noisy",)}, {"measurements": ()}, {"size": 321}):
        with pytest.raises(ConfigError):
            InverseBenchMRI(root, **wrong)
    with pytest.raises(ConfigError, match="slice_range"):
        InverseBenchMRI(root, slice_range=(5, 0))


def test_target_and_raw_measurement(root: Path, cases: dict[str, ScanCase]) -> None:
    kspace, combined = by_the_rules(root / "multicoil_val" / NAME)
    case = cases["4x-raw"]
    scale = [np.quantile(np.abs(x), 0.99) for x in combined]
    assert case.scan.shape == (3, 4, SIDE, SIDE)
    mask = published_mask(SIDE, 4)
    for i in range(3):
        np.testing.assert_allclose(case.reference[i], np.abs(combined[i]) / scale[i], atol=SINGLE)
        expected = np.where(mask, kspace[i], 0)
        found = case.scan.kspace[i]
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
        assert (found[..., ~mask] == 0).all()
    np.testing.assert_allclose(np.quantile(case.reference, 0.99, axis=(1, 2)), 1, atol=SINGLE)
    assert case.conditions.noise_std == case.scan.noise_std
    level = read_fastmri(root / "multicoil_val" / NAME).noise_std
    assert case.scan.noise_std == pytest.approx(level, rel=SINGLE)
    # One noise level for all slices; the images come out in the units of their own targets.
    zerofilled = load_sampler("zerofilled").configured("tuned", case.operator, {})
    image = case.run(zerofilled, None, samples=1, seed=0, device=CPU).image
    for i in range(3):
        coils = ifft(np.where(mask, kspace[i], 0), (-2, -1))
        shown = np.abs(np.sum(np.conj(case.scan.maps[i]) * coils, axis=0)) / scale[i]
        np.testing.assert_allclose(image[i], shown, atol=1e-4 * shown.max())


def test_simulated_measurement(root: Path, cases: dict[str, ScanCase]) -> None:
    _, combined = by_the_rules(root / "multicoil_val" / NAME)
    case = cases["4x-simulated"]
    np.testing.assert_array_equal(case.reference, cases["4x-raw"].reference)
    mask = published_mask(SIDE, 4)
    for i in range(3):
        image = combined[i] / np.quantile(np.abs(combined[i]), 0.99)
        expected = np.where(mask, fft(case.scan.maps[i] * image, (-2, -1)), 0)
        found = case.scan.kspace[i]
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    assert case.conditions.noise_std is None
    assert "without" in case.conditions.noise_rule


def test_the_simulated_measurement_is_reconstructed_as_noiseless(cases) -> None:
    misfits, quality = {}, {}
    for name, case in cases.items():
        sampler = load_sampler("cgsense").configured("tuned", case.operator, {})
        found = case.run(sampler, None, samples=1, seed=0, device=CPU)
        misfits[name], quality[name] = found.misfit_rule, case.score(found.image).psnr
        assert found.image.shape == case.reference.shape
        assert quality[name] > case.score(case.first_look()).psnr
    assert "std" in misfits["4x-raw"]
    assert "||y||" in misfits["4x-simulated"]


def test_conditions(root: Path, cases: dict[str, ScanCase]) -> None:
    case = cases["4x-raw"]
    details = case.conditions.details
    assert (details["size"], details["size_of_the_protocol"]) == (SIDE, SIDE)
    assert details["slices_left_out"] == 0  # three slices are too few for the published range
    assert (details["center_fraction"], details["acceleration_measured"]) == (0.08, 4.1667)
    assert case.conditions.mask_seed == "0"
    assert case.place.slices == (3, 4, 5)


def test_the_size_follows_small_kspace(root: Path, tmp_path: Path) -> None:
    protocol = InverseBenchMRI(root, (4,), ("raw",))
    case = protocol.open(NAME, protocol.settings()[0], tmp_path)
    assert case.scan.shape == (3, 4, WIDTH, WIDTH)
    assert case.conditions.details["size"] == WIDTH
    assert case.conditions.details["size_of_the_protocol"] == 320


# ---------------------------------------------------------------------- slices


def test_the_first_and_last_five_slices_are_left_out(tmp_path: Path) -> None:
    stand_in(tmp_path / "multicoil_val", depth=13, slices=None, coils=2)
    protocol = InverseBenchMRI(tmp_path, (4,), ("raw",), size=SIDE)
    case = protocol.open(NAME, protocol.settings()[0], tmp_path)
    assert case.place.slices == (5, 6, 7)
    assert case.reference.shape == (3, SIDE, SIDE)
    assert case.conditions.details["slices_left_out"] == 10
    full = read_fastmri(tmp_path / "multicoil_val" / NAME)
    assert case.score(case.reference).per_slice["slice"] == [5, 6, 7]
    # A point of the middle slice has the same place in both images.
    old = full.affine @ [WIDTH // 2, ROWS // 2, 6, 1]
    new = np.array(case.place.affine) @ [SIDE // 2, SIDE // 2, 1, 1]
    np.testing.assert_allclose(new, old, atol=SINGLE)


def test_the_resized_image_keeps_its_place(root: Path) -> None:
    source = read_fastmri(root / "multicoil_val" / NAME)
    small = resized(source, range(1, 3), SIDE)
    assert small.slice_indices == (4, 5)
    old = source.affine @ [WIDTH // 2, ROWS // 2, 2, 1]
    np.testing.assert_allclose(small.affine @ [SIDE // 2, SIDE // 2, 1, 1], old, atol=SINGLE)
    across, down, _ = np.linalg.norm(small.affine[:3, :3], axis=0)
    old_across, old_down, _ = np.linalg.norm(source.affine[:3, :3], axis=0)
    assert across == pytest.approx(old_across * WIDTH / SIDE)
    assert down == pytest.approx(old_down)


# --------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("shape", "crop", "side"),
    [((52, 64), (40, 44), 36), ((52, 64), (30, 44), 50), ((41, 47), (33, 35), 22)],
)
def test_what_a_resized_scan_shows_lies_where_it_lay(shape, crop, side):
    """A blob beside the middle, in an image that is cut on all sides: its place in mm by either affine."""
    height, width = shape
    rows, columns = np.mgrid[:height, :width]
    at = np.array([width // 2 + 3.3, height // 2 - 2.6])  # column, row of the whole field of view
    blob = np.exp(-((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / (2 * 2.5**2))
    affine = np.array([[-1.1, 0.2, 0, 30], [0.3, -1.4, 0, -20], [0, 0, 5, 7], [0, 0, 0, 1.0]])
    kspace = fft(blob + 0j, (-2, -1))[None, None].astype(np.complex64)
    kspace = np.repeat(kspace, 5, axis=0)
    source = MRIScan(
        path=Path("x.h5"), kspace=LazyStack(kspace.shape, kspace.__getitem__), mask=np.ones(width, bool),
        recon_shape=crop, slice_indices=tuple(range(5)), affine=affine,
    )  # fmt: skip
    small = resized(source, range(1, 5, 2), side)
    image = np.abs(ifft(small.kspace[0][0], (-2, -1))) ** 2
    r, c = np.mgrid[:side, :side]
    seen = [float((image * i).sum() / image.sum()) for i in (c, r)]
    cut = [(width - crop[1]) // 2, (height - crop[0]) // 2]
    there = affine @ [*(at - cut), 1, 1]
    # What the edges and the coarser grid cut off the blob moves its centre by under a hundredth of a pixel.
    np.testing.assert_allclose(small.affine @ [*seen, 0, 1], there, atol=PLACE)
    np.testing.assert_allclose((small.affine @ [*seen, 1, 1])[2], there[2] + 2 * 5)


def test_figures_are_means_over_slices() -> None:
    rng = np.random.default_rng(0)
    reference = head_phantom((3, 40, 44)).data.astype(np.float64) * [[[1]], [[0.5]], [[2]]]
    image = reference + rng.normal(0, 40, reference.shape)
    found = slice_figures(image, reference, (7, 8, 9))
    psnrs, ssims, nmses = [], [], []
    for x, ref in zip(image, reference, strict=True):
        top = ref.max()
        x = np.minimum(np.maximum(x, 0), top)
        psnrs.append(peak_signal_noise_ratio(ref, x, data_range=top))
        ssims.append(
            structural_similarity(
                ref, x, data_range=top, gaussian_weights=True, sigma=1.5,
                use_sample_covariance=False,
            )
        )  # fmt: skip
        nmses.append(np.sum((x - ref) ** 2) / np.sum(ref**2))
    np.testing.assert_allclose(found.per_slice["psnr"], psnrs, atol=DOUBLE)
    np.testing.assert_allclose(found.per_slice["ssim"], ssims, atol=DOUBLE)
    np.testing.assert_allclose(found.per_slice["nmse"], nmses, rtol=DOUBLE)
    expected = (np.mean(psnrs), np.mean(ssims), np.mean(nmses))
    assert (found.psnr, found.ssim, found.nmse) == pytest.approx(expected, abs=DOUBLE)
    assert found.per_slice["slice"] == [7, 8, 9]
    assert "Gaussian" in found.ssim_variant


def test_a_perfect_image_and_one_that_is_clipped_to_it(cases: dict[str, ScanCase]) -> None:
    case = cases["4x-raw"]
    assert case.score(case.reference).psnr == float("inf")
    assert case.score(case.reference).nmse == 0
    above = case.reference.copy()
    peak = np.unravel_index(above[1].argmax(), above[1].shape)
    above[1][peak] *= 3
    assert case.score(above).psnr == float("inf")


# ----------------------------------------------------------- cache, other files


def test_settings_share_their_maps(root: Path, tmp_path: Path, monkeypatch) -> None:
    calls = []

    def counted(kspace, calib):
        calls.append(calib)
        return espirit(torch.from_numpy(kspace), calib)[0].numpy()

    monkeypatch.setattr("restore.bench.inversebench.slice_maps", counted)
    protocol = InverseBenchMRI(root, (4,), size=SIDE)
    first, last = protocol.settings()
    protocol.open(NAME, first, tmp_path)
    protocol.close(NAME, first, tmp_path)
    protocol.open(NAME, last, tmp_path)
    assert calls == [24] * 3
    protocol.close(NAME, last, tmp_path)
    assert list((tmp_path / "cache" / "maps").iterdir()) == []


def test_files_that_are_not_for_this_protocol(tmp_path: Path) -> None:
    stand_in(tmp_path / "multicoil_test", test=Undersampling(4, 0.08))
    protocol = InverseBenchMRI(tmp_path, (4,), split="test", size=SIDE)
    assert protocol.open(NAME, protocol.settings()[0], tmp_path) is None
    stand_in(tmp_path / "singlecoil_val", coils=1)
    protocol = InverseBenchMRI(tmp_path, (4,), coils="singlecoil", size=SIDE)
    with pytest.raises(InputError, match=r"file1000001\.h5.*single coil"):
        protocol.open(NAME, protocol.settings()[0], tmp_path)


def test_a_slice_without_signal_is_named(tmp_path: Path) -> None:
    stand_in(tmp_path / "multicoil_val")
    with h5py.File(tmp_path / "multicoil_val" / NAME, "a") as file:
        file["kspace"][1] = 0
    protocol = InverseBenchMRI(tmp_path, (4,), size=SIDE)
    with pytest.raises(InputError, match=r"file1000001\.h5.*slice 1"):
        protocol.open(NAME, protocol.settings()[0], tmp_path)
