"""The photograph protocol on tiny pictures: definitions worked out again, the same damage in any company."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from restore.bench.images import ImageFolder
from restore.bench.method import parse_methods
from restore.bench.protocol import Setting
from restore.bench.results import load
from restore.bench.runner import RunOptions, Told, run_benchmark
from restore.datasets.picture.images import write_image
from restore.errors import ConfigError, InputError, NotFoundError
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import parse_kernel
from restore.registry import load_sampler

SINGLE = 1e-5  # pictures are kept in float32, 6e-8; 4e-9 dB seen
SAMPLED = 0.15  # a deviation over 192 pixels is 5 % uncertain

CPU = torch.device("cpu")
MASK = "0100000000100010000010000101100100000000000010000100000101101101"


def picture(seed: int, channels: int = 3, height: int = 38, width: int = 50) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 20
    waves = [np.sin(a * x + b * y + c) for a, b, c in rng.uniform(0.5, 3, (channels, 3))]
    return (0.5 + 0.35 * np.stack(waves)).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photographs"
    root.mkdir()
    for i, name in enumerate(("a.png", "b.jpg", "c.tif")):
        write_image(picture(i), root / name)
    write_image(picture(3, 1), root / "grey.png")
    (root / "notes.txt").write_text("no photograph")
    return root


def opened(root: Path, volume: str = "a.png", setting: str = "denoise-0.05", **options):
    protocol = ImageFolder(root, crop=options.pop("crop", 32), **options)
    named = {s.name: s for s in protocol.settings()}
    return protocol.open(volume, named[setting], root)


def test_settings(folder: Path) -> None:
    protocol = ImageFolder(folder)
    assert [s.name for s in protocol.settings()] == [
        "inpaint-0", "inpaint-0.05", "deblur-0", "deblur-0.05", "superres-0", "superres-0.05", "denoise-0.05",
    ]  # fmt: skip
    assert protocol.settings()[1] == Setting("inpaint-0.05", {"task": "inpaint", "noise": 0.05})
    assert list(protocol.volumes()) == ["a.png", "b.jpg", "c.tif", "grey.png"]
    few = ImageFolder(folder, ("deblur",), (0.1,), limit=1, exclude=("a.png",))
    assert [s.name for s in few.settings()] == ["deblur-0.1"]
    assert list(few.volumes()) == ["b.jpg"]
    assert few.describe() == protocol.describe()
    assert ImageFolder(folder, keep=0.5).describe() != protocol.describe()


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": ("sharpen",)},
        {"tasks": ()},
        {"tasks": ("deblur", "deblur")},
        {"tasks": ("denoise",), "noises": (0.0,)},
        {"noises": (-0.1,)},
        {"noises": (25.0,)},
        {"noises": (math.nan,)},
        {"noises": (0.1, 0.1)},
        {"crop": 5},
        {"keep": 0.0},
        {"kernel": "square:2"},
        {"factor": 1},
        {"seed": -1},
        {"limit": 0},
    ],
)
def test_options_out_of_range(folder: Path, wrong: dict) -> None:
    with pytest.raises(ConfigError):
        ImageFolder(folder, **wrong)


def test_the_reference_is_the_centre(folder: Path) -> None:
    """38 x 50 pixels: rows 3 to 35, columns 9 to 41; whole ones are cut to multiples of the factor."""
    eight_bit = np.round(picture(0) * 255) / 255
    case = opened(folder)
    np.testing.assert_allclose(case.reference, eight_bit[:, 3:35, 9:41], atol=SINGLE)
    whole = opened(folder, crop=0, setting="deblur-0")
    np.testing.assert_allclose(whole.reference, eight_bit[:, 1:37, 1:49], atol=SINGLE)
    assert "32 x 32 pixels" in case.conditions.target
    assert case.place.modality == "photograph"


def test_measurements_are_those_of_the_operators(folder: Path) -> None:
    truth = torch.from_numpy(opened(folder).reference)
    blurred = Blur(parse_kernel("gaussian:1.6"), (3, 32, 32), boundary="reflect")(truth)
    smaller = Downsample((3, 32, 32), 4)(truth)
    for task, wanted, kind in (
        ("deblur", blurred, Blur), ("superres", smaller, Downsample), ("denoise", truth, Identity),
    ):  # fmt: skip
        noisy = opened(folder, setting=f"{task}-0.05")
        assert type(noisy.operator) is kind
        error = noisy.measured - wanted
        assert float(error.std()) == pytest.approx(0.05, rel=SAMPLED)
        assert abs(float(error.mean())) < 5 * 0.05 / error.numel() ** 0.5
        if task != "denoise":
            clean = opened(folder, setting=f"{task}-0")
            torch.testing.assert_close(clean.measured, wanted, rtol=0, atol=SINGLE)
            assert clean.conditions.noise_std == 0
            assert clean.level == pytest.approx(1 / 255 / 12**0.5)


def test_inpainting_keeps_three_in_ten_pixels_and_hides_the_others(folder: Path) -> None:
    clean, noisy = (opened(folder, setting=f"inpaint-{s}", crop=0) for s in ("0", "0.05"))
    assert type(clean.operator) is Inpainting
    mask = clean.forward.mask
    assert float(mask.mean()) == pytest.approx(0.3, abs=4 * (0.21 / mask.numel()) ** 0.5)
    torch.testing.assert_close(noisy.forward.mask, mask)  # one mask for all noises
    assert float(noisy.measured[:, mask == 0].abs().max()) == 0
    torch.testing.assert_close(clean.measured, torch.from_numpy(clean.reference) * mask)
    assert clean.conditions.mask_seed == str(clean.conditions.details["noise_seed"])
    other = opened(folder, "b.jpg", "inpaint-0", crop=0)
    assert float((other.forward.mask != mask).float().mean()) > 0.3


def test_masks_never_change(folder: Path) -> None:
    """The first 64 pixels of the mask of a.png, recorded with this protocol when it was made."""
    mask = opened(folder, setting="inpaint-0").forward.mask.flatten()[:64].int().tolist()
    assert "".join(map(str, mask)) == MASK


def test_damage_does_not_depend_on_company_or_repetition(folder: Path) -> None:
    for setting in ("denoise-0.05", "inpaint-0.05", "superres-0.05"):
        first = opened(folder, "b.jpg", setting).measured
        again = opened(folder, "b.jpg", setting, limit=1, exclude=("a.png",), noises=(0.05,))  # fmt: skip
        torch.testing.assert_close(first, again.measured, rtol=0, atol=0)
        assert not torch.equal(first, opened(folder, "b.jpg", setting, seed=8).measured)


def test_figures_are_those_of_their_definitions(folder: Path) -> None:
    case = opened(folder)
    image = case.reference + np.random.default_rng(0).normal(0, 0.3, case.reference.shape)
    shown = np.clip(image, 0, 1)
    found = case.score(image.astype(np.float32))
    truth = case.reference.astype(np.float64)
    error = (shown - truth) ** 2
    assert found.psnr == pytest.approx(-10 * math.log10(error.mean()), abs=SINGLE)
    assert found.nmse == pytest.approx(error.sum() / (truth**2).sum(), rel=SINGLE)
    alike = structural_similarity(shown, truth, win_size=7, data_range=1, channel_axis=0)
    assert found.ssim == pytest.approx(alike, abs=SINGLE)
    assert found.data_range == 1
    assert "clipped" in found.data_range_rule
    perfect = case.score(case.reference)
    assert (perfect.psnr, perfect.nmse) == (math.inf, 0)
    assert case.score(case.reference + (case.reference == case.reference.max())).psnr < math.inf


@pytest.mark.parametrize("setting", ["superres-0.05", "inpaint-0", "deblur-0.05"])
def test_first_look_has_the_size_of_the_reference(folder: Path, setting: str) -> None:
    case = opened(folder, setting=setting)
    look = case.first_look()
    assert look.shape == case.reference.shape
    if setting == "superres-0.05":
        enlarged = case.forward.interpolate(case.measured).numpy()
        np.testing.assert_array_equal(look, enlarged)
    else:
        np.testing.assert_array_equal(look, case.measured.numpy())


def test_running_a_method(folder: Path) -> None:
    case = opened(folder, setting="inpaint-0.05")
    tv = load_sampler("tv").configured("tuned", case.operator, {"n_steps": 20})
    heard = []
    found = case.run(tv, None, samples=1, seed=0, device=CPU, on_progress=heard.append)
    assert found.image.shape == case.reference.shape
    assert heard[-1] == pytest.approx(1)
    assert len(found.curve) == len(heard)
    assert found.misfit == pytest.approx(found.curve[-1][1])
    residual = (case.forward(torch.from_numpy(found.image)) - case.measured)[case.measured != 0]
    assert found.misfit == pytest.approx(float(residual.square().mean().sqrt()) / 0.05, rel=SINGLE)
    assert "std 0.05" in found.misfit_rule
    assert case.score(found.image).psnr > case.score(case.first_look()).psnr


def test_grey_photographs_take_the_prior_for_one_channel(folder: Path) -> None:
    assert opened(folder).prior_names is None
    grey = opened(folder, "grey.png")
    assert grey.reference.shape == (1, 32, 32)
    assert grey.prior_names == {"denoiser": "medical"}


def test_damaged_and_useless_photographs_are_named(folder: Path) -> None:
    path = folder / "a.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"a\.png"):
        opened(folder)
    write_image(np.zeros((3, 20, 20), np.float32), folder / "black.png")
    write_image(picture(0, height=6), folder / "flat.png")
    with pytest.raises(InputError, match=r"black\.png.*black everywhere"):
        opened(folder, "black.png")
    with pytest.raises(InputError, match=r"flat\.png: 50 x 6 pixels"):
        opened(folder, "flat.png")
    with pytest.raises(NotFoundError, match="no photograph z"):
        opened(folder, "z.png")


def test_folders_without_photographs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no photographs"):
        ImageFolder(tmp_path).volumes()
    with pytest.raises(NotFoundError):
        ImageFolder(tmp_path / "none").volumes()


def test_through_the_runner(folder: Path, tmp_path: Path) -> None:
    """A method runs where it fits: bicubic for super-resolution, tweedie for denoising, which alone has a prior."""
    two = ("b.jpg", "c.tif")
    protocol = ImageFolder(folder, ("superres", "denoise"), (0.05,), crop=32, exclude=two)
    methods = parse_methods("bicubic,tv:n_steps=3,tweedie")
    made = run_benchmark(protocol, methods, tmp_path / "run", RunOptions(device=CPU), Told())
    rows = load(tmp_path / "run")
    assert made.failed == 0
    assert {(r.setting, r.method) for r in rows} == {
        ("superres-0.05", "bicubic"), ("superres-0.05", "tv"), ("denoise-0.05", "tv"), ("denoise-0.05", "tweedie"),
    }  # fmt: skip
    assert {r.prior.split()[0] for r in rows if r.method == "tweedie"} == {"natural", "medical"}
    assert len(rows) == 8
    assert all(np.isfinite([r.psnr, r.ssim, r.nmse, r.misfit]).all() for r in rows)


def test_classical_samplers_run_where_they_fit(folder: Path, tmp_path: Path) -> None:
    """Each of scikit-image's methods serves one task, of grey and of colour photographs."""
    two = ("b.jpg", "c.tif")
    tasks = ("inpaint", "deblur", "denoise")
    protocol = ImageFolder(folder, tasks, (0.05,), crop=32, exclude=two)  # type: ignore[arg-type]
    methods = parse_methods("nlm,richardson-lucy,rl=richardson-lucy:misfit=0:n_steps=5,"
                            "unsupervised-wiener,biharmonic")  # fmt: skip
    made = run_benchmark(protocol, methods, tmp_path / "run", RunOptions(device=CPU), Told())
    rows = load(tmp_path / "run")
    assert made.failed == 0
    assert {(r.setting, r.method) for r in rows} == {
        ("inpaint-0.05", "biharmonic"), ("deblur-0.05", "richardson-lucy"), ("deblur-0.05", "rl"),
        ("deblur-0.05", "unsupervised-wiener"), ("denoise-0.05", "nlm"),
    }  # fmt: skip
    assert len(rows) == 10
    assert {r.prior for r in rows} == {""}
    assert min(r.psnr for r in rows) > 20
