"""The CT protocol on tiny volumes: figures worked out again with skimage, measurements independent of company."""

from __future__ import annotations

import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from restore.bench.ct import CTSparseView
from restore.bench.method import parse_methods
from restore.bench.protocol import item_seed
from restore.bench.results import load
from restore.bench.runner import RunOptions, Told, run_benchmark
from restore.datasets.open import write
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError
from restore.registry import load_sampler

DOUBLE = 1e-9  # float64: sums over some hundred numbers
SINGLE = 1e-4  # volumes are kept in float32: 1e-7 of the range; 5e-7 dB seen

SHAPE = (9, 22, 26)
UPRIGHT = np.diag([-2.0, -2.0, 4.0, 1.0])
SAGITTAL = np.array([[0, 0, 4.0, 0], [2.0, 0, 0, 0], [0, -2.0, 0, 0], [0, 0, 0, 1]])


def body(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Three soft blobs in air, different along all axes, -1000 to about 400 HU."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    total = np.zeros(shape)
    for _ in range(3):
        c, b, a = rng.uniform(-0.3, 0.3, 3)
        radius = rng.uniform(0.15, 0.3)
        total += np.exp(-((z - c) ** 2 + (y - b) ** 2 + (x - a) ** 2) / (2 * radius**2))
    return (1400 * total / total.max() - 1000).astype(np.float32)


def store(path: Path, data: np.ndarray, affine: np.ndarray = UPRIGHT) -> Path:
    return write(Volume(data, affine, "CT", "HU"), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "volumes"
    root.mkdir()
    for i, name in enumerate(("a.nii", "b.nii.gz", "c.nii")):
        store(root / name, body(i))
    (root / "README.md").write_text("not a volume")
    return root


def opened(root: Path, volume: str = "a.nii", setting: int = 0, **options):
    protocol = CTSparseView(root, **{"views": (12,), **options})
    return protocol.open(volume, protocol.settings()[setting], root)


def test_default_settings(folder: Path) -> None:
    protocol = CTSparseView(folder)
    assert [s.name for s in protocol.settings()] == [
        "views-8", "views-30", "views-60", "views-180", "limited-90",
    ]  # fmt: skip
    assert protocol.settings()[-1].values == {"views": 90, "arc": 90.0}
    assert list(protocol.volumes()) == ["a.nii", "b.nii.gz", "c.nii"]
    assert [s.name for s in CTSparseView(folder, (20,), limited=()).settings()] == ["views-20"]
    # Which volumes and settings were chosen shapes no figure.
    chosen = CTSparseView(folder, (20,), limited=(), limit=1, exclude=("a.nii",))
    assert chosen.describe() == protocol.describe()
    assert CTSparseView(folder, seed=8).describe() != protocol.describe()


def test_choosing_volumes(folder: Path) -> None:
    without = CTSparseView(folder, exclude=("a.nii", "elsewhere.nii"), limit=1)
    assert list(without.volumes()) == ["b.nii.gz"]
    assert list(CTSparseView(folder, exclude=("*.nii",)).volumes()) == ["b.nii.gz"]
    with pytest.raises(ConfigError, match="all 3 volumes are excluded"):
        CTSparseView(folder, exclude=("*",)).volumes()
    with pytest.raises(NotFoundError, match="no volume d"):
        opened(folder, "d.nii")


def test_a_single_file_and_folders_of_dicom(folder: Path) -> None:
    assert list(CTSparseView(folder / "c.nii").volumes()) == ["c.nii"]
    series = write(Volume(body(4), UPRIGHT, "CT", "HU"), folder / "patient")
    assert list(CTSparseView(folder).volumes()) == ["a.nii", "b.nii.gz", "c.nii", "patient"]
    assert list(CTSparseView(series).volumes()) == ["patient"]
    case = opened(folder, "patient")
    assert np.abs(case.reference - body(4)).max() < 1.0


def test_figures_are_those_of_their_definitions(folder: Path) -> None:
    case = opened(folder)
    truth = body(0).astype(np.float64)
    image = truth + np.random.default_rng(1).normal(0, 40, SHAPE) + 10
    found = case.score(image.astype(np.float32))
    span = truth.max() - truth.min()
    error = (image - truth) ** 2
    assert found.data_range == pytest.approx(span, rel=SINGLE)
    assert found.psnr == pytest.approx(10 * math.log10(span**2 / error.mean()), abs=SINGLE)
    assert found.nmse == pytest.approx(error.sum() / ((truth + 1000) ** 2).sum(), rel=SINGLE)
    slicewise = {
        plane: [
            (
                10 * math.log10(span**2 / error.take(i, axis).mean()),
                structural_similarity(
                    image.take(i, axis) + 1000,
                    truth.take(i, axis) + 1000,
                    win_size=7,
                    data_range=span,
                ),
            )
            for i in range(SHAPE[axis])
        ]
        for axis, plane in enumerate(("axial", "coronal", "sagittal"))
    }
    assert set(found.extra) == {f"{f}_{p}" for f in ("psnr", "ssim") for p in slicewise}
    for plane, values in slicewise.items():
        means = np.mean(values, axis=0)
        assert found.extra[f"psnr_{plane}"] == pytest.approx(means[0], abs=SINGLE)
        assert found.extra[f"ssim_{plane}"] == pytest.approx(means[1], abs=SINGLE)
    assert found.ssim == found.extra["ssim_axial"]
    assert found.per_slice["slice"] == list(range(9))
    np.testing.assert_allclose(found.per_slice["psnr"], [v[0] for v in slicewise["axial"]], atol=SINGLE)  # fmt: skip
    assert "uniform 7x7" in found.ssim_variant
    assert "maximum minus minimum" in found.data_range_rule


def test_a_perfect_image(folder: Path) -> None:
    case = opened(folder)
    found = case.score(case.reference)
    assert found.psnr == math.inf
    assert found.nmse == 0
    assert found.ssim == pytest.approx(1, abs=DOUBLE)
    assert {v for k, v in found.extra.items() if k.startswith("psnr")} == {math.inf}


def test_planes_go_by_the_patient_and_not_by_the_array(folder: Path) -> None:
    """Slices stored from right to left are sagittal ones, whatever axis they are stored along."""
    store(folder / "side.nii", body(3), SAGITTAL)
    case = opened(folder, "side.nii")
    noisy = case.reference.copy()
    noisy[4] += 100  # one stored slice alone
    found = case.score(noisy)
    assert found.extra["psnr_sagittal"] == math.inf  # eight of nine slices are equal
    assert np.isfinite([found.extra["psnr_axial"], found.extra["psnr_coronal"]]).all()


@pytest.mark.parametrize(
    ("slices", "planes"),
    [
        (slice(0, 7), {"axial", "coronal", "sagittal"}),
        (slice(None, None, -1), {"axial", "coronal", "sagittal"}),
        (slice(0, 6), {"axial"}),
        (slice(0, 9, 2), {"axial"}),
    ],
)
def test_other_planes_need_seven_slices_without_gaps(
    folder: Path, slices: slice, planes: set[str]
) -> None:
    case = opened(folder, slices=slices)
    assert case.place.slices == tuple(range(9)[slices])
    found = case.score(case.reference + 5)
    assert {k.removeprefix("psnr_") for k in found.extra if k.startswith("psnr")} == planes
    assert ("coronal need 7 or more slices" in case.conditions.details["planes"]) == (
        planes == {"axial"}
    )


def test_conditions(folder: Path) -> None:
    case = opened(folder, setting=1)
    told = case.conditions
    assert told.mask == "parallel beam, 90 views over 90 degrees"
    assert told.mask_seed == ""
    assert told.noise_std == pytest.approx(1e5**-0.5)
    assert told.details["photons"] == 1e5
    assert told.details["noise_seed"] == item_seed(7, "a.nii")
    assert "HU + 1000" in told.details["nmse"]
    assert case.place.modality == "CT"
    assert case.place.units == "HU"
    np.testing.assert_allclose(case.place.affine, UPRIGHT)
    assert (case.operator.kind, case.operator.abilities >= {"backprojects"}) == ("ct", True)
    assert case.scan.geometry.angles[-1] == pytest.approx(math.radians(89))


def test_measurements_do_not_depend_on_company_or_repetition(folder: Path) -> None:
    first = opened(folder, "b.nii.gz").scan
    again = opened(folder, "b.nii.gz", limit=2, exclude=("a.nii",), slices=slice(3, 5))
    np.testing.assert_array_equal(first.sinogram[3], again.scan.sinogram[0])
    np.testing.assert_array_equal(first.sinogram[3], first.sinogram[3])
    other_seed = opened(folder, "b.nii.gz", seed=8).scan
    assert np.abs(other_seed.sinogram[3] - first.sinogram[3]).max() > 1e-3
    # The same object under another name has noise of its own.
    (folder / "d.nii.gz").write_bytes((folder / "b.nii.gz").read_bytes())
    assert np.abs(opened(folder, "d.nii.gz").scan.sinogram[3] - first.sinogram[3]).max() > 1e-3


def test_padding_counts_as_air(folder: Path) -> None:
    padded = body(0)
    padded[:, :3] = -3024
    store(folder / "padded.nii", padded)
    case = opened(folder, "padded.nii")
    assert case.reference.min() == -1000
    assert any("taken as air" in note for note in case.conditions.details["notes"])


def test_fbp_through_the_case(folder: Path) -> None:
    case = opened(folder, views=(60,), slices=slice(2, 6))
    fbp = load_sampler("fbp").configured("tuned", case.operator, {})
    heard = []
    outcome = case.run(fbp, None, samples=1, seed=0, device=torch.device("cpu"), on_progress=heard.append)  # fmt: skip
    assert outcome.image.shape == case.reference.shape
    assert heard[-1] == pytest.approx(1)
    assert case.score(outcome.image).psnr > 28
    np.testing.assert_array_equal(case.first_look(), outcome.image)


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_damaged_volumes_are_named(folder: Path, keep: float) -> None:
    path = folder / "a.nii"
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InputError, match=r"a\.nii"):
        opened(folder)


def test_volumes_that_cannot_be_scored(folder: Path) -> None:
    store(folder / "air.nii", np.full(SHAPE, -1000, np.float32))
    store(folder / "thin.nii", body(0, (3, 6, 26)))
    write(Volume(body(0), UPRIGHT, "MR"), folder / "mr")
    for name, why in (("air.nii", "one value"), ("thin.nii", "6 x 26"), ("mr", "an MR volume")):
        with pytest.raises(InputError, match=why):
            opened(folder, name)


@pytest.mark.parametrize(
    "wrong",
    [
        {"views": (0,)},
        {"views": (8, 8)},
        {"limited": (180,)},
        {"seed": -1},
        {"limit": 0},
        {"photons": 0.0},
    ],
)
def test_options_out_of_range(folder: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        opened(folder, **wrong)


def test_folders_without_volumes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no volumes"):
        CTSparseView(tmp_path).volumes()
    with pytest.raises(NotFoundError):
        CTSparseView(tmp_path / "none").volumes()


@pytest.fixture
def lodopab(tmp_path: Path) -> Path:
    """Three slices of 24^2 with 1000 views; the last file is of the challenge, without images."""
    root = tmp_path / "lodopab"
    root.mkdir()
    x = np.clip((body(0, (3, 24, 24)) + 1000) / 4071, 0, None)
    y = np.random.default_rng(0).uniform(-0.001, 0.02, (3, 1000, 35))
    for name in ("observation_test_000", "observation_challenge_000", "ground_truth_test_000"):
        with h5py.File(root / f"{name}.hdf5", "w") as file:
            file["data"] = (x if name.startswith("ground") else y).astype(np.float32)
    return root


def test_lodopab_settings_keep_every_kth_view(lodopab: Path) -> None:
    protocol = CTSparseView(lodopab)
    assert [s.name for s in protocol.settings()] == ["views-200", "views-1000"]
    assert len(protocol.volumes()) == 2
    assert "noise_seed" not in protocol.describe()
    whole = protocol.open("observation_test_000.hdf5", protocol.settings()[1], lodopab)
    some = protocol.open("observation_test_000.hdf5", protocol.settings()[0], lodopab)
    assert some.scan.shape == (3, 200, 35)
    np.testing.assert_array_equal(some.scan.sinogram[1], whole.scan.sinogram[1][2::5])
    # 200 of 1000 midpoints are the midpoints of 200.
    wanted = -(np.arange(200) + 0.5) * np.pi / 200
    np.testing.assert_allclose(some.scan.geometry.angles, wanted, rtol=DOUBLE)
    assert some.conditions.mask == "parallel beam, 200 views over 180 degrees"
    assert some.conditions.noise_std == 1 / 64
    assert "noise_seed" not in some.conditions.details
    half = opened(lodopab, "observation_test_000.hdf5", setting=1, views=(8,), limited=(90,))
    np.testing.assert_array_equal(half.scan.sinogram[1], whole.scan.sinogram[1][:500])
    assert half.conditions.mask == "parallel beam, 500 views over 90 degrees"
    with pytest.raises(ConfigError, match=r"30 of the 1000 measured views.*: 10, 20, 25, 40"):
        CTSparseView(lodopab, (30,)).settings()


def test_lodopab_figures_and_slices(lodopab: Path) -> None:
    case = opened(lodopab, "observation_test_000.hdf5", views=(200,), slices=slice(1, 3))
    assert case.place.slices == (1, 2)
    image = case.reference + np.random.default_rng(0).normal(0, 30, case.reference.shape)
    found = case.score(image.astype(np.float32))
    wanted = []
    for x, y in zip(image + 1000, case.reference + 1000.0, strict=True):
        span = np.ptp(y)
        wanted.append(
            (
                10 * math.log10(span**2 / ((x - y) ** 2).mean()),
                structural_similarity(x, y, win_size=7, data_range=span),
            )
        )
    assert found.extra["psnr_image_range"] == pytest.approx(np.mean(wanted, axis=0)[0], abs=SINGLE)
    assert found.extra["ssim_image_range"] == pytest.approx(np.mean(wanted, axis=0)[1], abs=SINGLE)
    assert "psnr_coronal" not in found.extra
    challenge = opened(lodopab, "observation_challenge_000.hdf5", views=(200,))
    assert challenge.reference is None


def test_lodopab_and_volumes_in_one_folder(lodopab: Path) -> None:
    store(lodopab / "a.nii", body(0))
    with pytest.raises(InputError, match="each its own folder"):
        CTSparseView(lodopab).volumes()


def test_through_the_runner(folder: Path, tmp_path: Path) -> None:
    protocol = CTSparseView(folder, (16,), slices=slice(4, 5), limit=2)
    methods = parse_methods("fbp,short=tv:n_steps=3")
    made = run_benchmark(
        protocol, methods, tmp_path / "run", RunOptions(device=torch.device("cpu")), Told()
    )
    rows = load(tmp_path / "run")
    assert made.failed == 0
    assert len(rows) == 8  # two volumes, two settings, two methods
    assert all(r.psnr > 10 and r.mask.startswith("parallel beam") and r.noise_std for r in rows)
