"""Exact, known, estimated and unknown noise of every sampler, on photographs and discs made with numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.front_door import solve
from restore.noise import Exact, Gaussian, PostLogPoisson, PreLogPoisson, noise_model
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.problem import Problem
from restore.samplers.tv import TV
from restore.scaling import Scaling
from restore.unknown_noise import contradictions, doubt_of_answer, estimated_noise

SIDE, STD = 64, 0.03
SHAPE = (1, SIDE, SIDE)


def photograph() -> np.ndarray:
    return data.camera()[100 : 100 + SIDE, 200 : 200 + SIDE] / 255.0


def noisy(clean: np.ndarray, std: float = STD, seed: int = 0) -> Tensor:
    y = clean + std * np.random.default_rng(seed).standard_normal(clean.shape)
    return torch.from_numpy(y.astype(np.float32))


def blurred(sigma: float = 1.6) -> np.ndarray:
    return ndimage.gaussian_filter(photograph(), sigma, mode="mirror", truncate=4.0)


def psnr(x: Tensor) -> float:
    return -10 * float(np.log10(np.mean((x.numpy() - photograph()) ** 2)))


BLUR = Blur(gaussian(1.6), SHAPE, boundary="reflect")


@pytest.mark.parametrize(
    "sampler",
    ["dds", *(pytest.param(s, marks=pytest.mark.slow) for s in ("diffpir", "ddrm", "pigdm"))],
)
def test_noise_that_is_left_out_is_estimated_and_said(sampler):
    """0.5 dB: the estimate errs by a few per cent; taken for exact these samplers lost 9 to 36 dB."""
    y = noisy(blurred())[None]
    known = solve(y, BLUR, noise=STD, sampler=sampler, n_steps=10)
    left_out = solve(y, BLUR, sampler=sampler, n_steps=10)
    asked = solve(y, BLUR, noise="estimate", sampler=sampler, n_steps=10)
    assert psnr(left_out.image) > psnr(known.image) - 0.5
    assert torch.equal(asked.image, left_out.image)
    assert [r.provenance["noise_is"] for r in (known, left_out)] == ["known", "estimated"]
    assert "estimated as 0.0" in left_out.notes[0]
    assert not known.notes


def test_exact_is_exact():
    A = Inpainting((torch.rand(SIDE, SIDE, generator=torch.Generator()) < 0.5).float(), SHAPE)
    y = A(torch.from_numpy(photograph().astype(np.float32))[None])
    found = solve(y, A, noise=0, n_steps=5)
    assert found.provenance["noise_is"] == "exact"
    assert not found.notes
    # Rounding of single precision over a few steps of CG.
    torch.testing.assert_close(A(found.image), y, rtol=0, atol=1e-5)


def test_one_place_reads_what_callers_write():
    assert noise_model(0) == noise_model(0.0) == noise_model(np.float32(0)) == Exact()
    for one in (0.5, np.float32(0.5), np.float16(0.5), torch.tensor(0.5), np.array([0.5])):
        assert noise_model(one) == Gaussian(0.5)
    assert noise_model(None) is None
    assert noise_model("estimate") is None
    model = PostLogPoisson(1e4)
    assert noise_model(model) is model
    assert Exact().precision(torch.ones(2)) is None
    for wrong in (-1, float("nan"), float("inf"), "0.1", [0.1], True, 1j, torch.tensor([0.1, -1])):
        with pytest.raises(ConfigError, match="noise"):
            noise_model(wrong)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_pictures_and_known_pixels(share):
    mask = torch.from_numpy(np.random.default_rng(1).random((SIDE, SIDE)) < share).float()
    found = estimated_noise(noisy(blurred(3.0), 0.05)[None], Inpainting(mask, SHAPE))
    # Half the pixels: 250 squares of four known ones; 5 % deviation of their median, three times over.
    assert found.noise.std == pytest.approx(0.05, rel=0.15)


def test_pictures_of_different_noise_have_a_level_each():
    y = torch.stack([noisy(blurred(3.0), std)[None] for std in (0.02, 0.1)])
    found = estimated_noise(y, Identity(SHAPE))
    # 1000 wavelet coefficients: 3 % deviation of their median, four times over.
    torch.testing.assert_close(
        found.noise.std.flatten(), torch.tensor([0.02, 0.1]), rtol=0.12, atol=0
    )
    together = solve(y, Identity(SHAPE), sampler="tweedie").image
    for one in range(2):
        alone = solve(y[one], Identity(SHAPE), sampler="tweedie").image
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-4)


def test_kspace_and_sinograms():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    disc = ndimage.gaussian_filter((np.hypot(x, y) < 20).astype(float), 2)
    clean = np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(disc), norm="ortho"))
    kspace = clean + 0.02 * (
        rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
    )
    A = MultiCoilMRI.single_coil(torch.ones(SIDE, SIDE), (SIDE, SIDE))
    found = estimated_noise(torch.from_numpy(kspace.astype(np.complex64))[None], A)
    # 80 samples, real and imaginary: 9 % deviation of the median, three times over.
    assert found.noise.std == pytest.approx(0.02, rel=0.3)

    u = np.arange(96) - 47.5
    rays = np.where(abs(u) < 40, 0.04 * np.sqrt(np.maximum(0, 1600 - u**2)), 0)
    counts = rng.poisson(1e4 * np.exp(-np.tile(rays, (60, 1))))
    scan = ParallelBeam(equispaced(60), 96, 1.0, (64, 64))
    found = estimated_noise(torch.from_numpy(-np.log(counts / 1e4)).float(), ParallelBeamCT(scan))
    # 360 rays of air: 6 % of their deviation, 12 % of the counts, three times over.
    assert found.noise.photons == pytest.approx(1e4, rel=0.35)


def test_counts_are_poisson():
    scan = ParallelBeam(equispaced(4), 12, 1.0, (8, 8))
    A = BeerLambert(ParallelBeamCT(scan), 100.0)
    assert estimated_noise(A(torch.zeros(8, 8)), A).noise == PreLogPoisson()


def test_what_cannot_be_told_is_said():
    """A handful of pixels: nothing to take a median of."""
    A = Identity((4, 4))
    found = solve(
        torch.rand(4, 4, generator=torch.Generator()), A, prior=None, sampler=TV(n_steps=2)
    )
    assert found.provenance["noise_is"] == "unknown"
    assert "cannot be told" in found.notes[0]
    flat = estimated_noise(torch.full((1, 16, 16), 0.5), Identity((1, 16, 16)))
    assert flat.noise == Exact()


@pytest.mark.parametrize(
    ("stated", "words"),
    [(0.006, "does not explain the measurement"), (0.15, "details were lost"), (STD, "")],
)
def test_a_level_that_the_picture_contradicts_is_said(stated, words):
    notes = solve(noisy(blurred())[None], BLUR, noise=stated, n_steps=10).notes
    assert (words in notes[0]) if words else not notes


@pytest.mark.parametrize("sampler", ["dds", "diffpir"])
@pytest.mark.parametrize(
    ("std", "eight_bits", "said"), [(0.0, False, False), (0.0, True, False), (0.01, False, True)]
)
def test_noise_in_what_is_said_to_be_exact_is_said(sampler, std, eight_bits, said):
    """Noise of 0.01 that is called none costs 3 dB; the rounding of 8 bits is none. A single level shows it too."""
    y = noisy(blurred(), std)[None]
    y = (255 * y).round() / 255 if eight_bits else y
    for steps in (1, 6):
        notes = " ".join(solve(y, BLUR, noise=0, sampler=sampler, n_steps=steps).notes)
        assert ("taken for exact" in notes) == said


@pytest.mark.parametrize(
    ("photons", "shift", "words"),
    [
        (1e5, 0, "but for rays beside steep edges"),
        (3e6, 0, "does not explain"),  # stated; measured with a thirtieth
        (1e5, 2, "does not explain"),  # bins: another axis of rotation
    ],
)
def test_edges_that_no_grid_holds_are_told_from_other_faults(photons, shift, words):
    """A ring of bone measured on pixels a quarter as large: the image on the grid is the mean of each pixel's four."""
    fine = 128
    d = np.hypot(*np.meshgrid(np.arange(fine) - fine / 2 + 0.5, np.arange(fine) - fine / 2 + 0.5))
    bone = torch.from_numpy(np.where(abs(d - 50) < 3, 0.035, np.where(d < 50, 0.02, 0.0)))
    angles = equispaced(40)
    sharp = ParallelBeamCT(ParallelBeam(angles, 96, 1.0, (fine, fine), 0.5))
    A = ParallelBeamCT(ParallelBeam(angles, 96, 1.0, (64, 64), 1.0))
    y = PostLogPoisson(1e5).sample(sharp(bone), torch.Generator().manual_seed(0))
    image = bone.reshape(64, 2, 64, 2).mean((1, 3))
    problem = Problem(torch.roll(y, shift, -1), A, PostLogPoisson(photons))
    misfit = problem.misfit(image)
    assert misfit > 1.5
    (note,) = contradictions(problem, image, misfit, fits=True)
    assert words in note
    assert "0.05 of a bin off" in note
    few = Problem(y, A, PostLogPoisson(1e3))  # stated, so that the misfit hides it
    (note,) = contradictions(few, image, few.misfit(image), fits=True)
    assert "details are lost" in note


@pytest.mark.parametrize("noise", [0.01, 0], ids=["noise", "exact"])
def test_an_answer_that_shows_something_else_is_said(noise):
    """Made for no measurement, as by rddm's preset published-generation: an astronaut's crop beside another one's."""
    picture, other = (
        torch.from_numpy(data.astronaut()[r : r + 64, :64, 0] / 255.0) for r in (200, 0)
    )
    A = Blur(gaussian(1.6), (64, 64), boundary="reflect")
    problem = Problem(A(picture), A, noise_model(noise))
    (note,) = doubt_of_answer(problem, other, problem.misfit(other))
    share = float((A(other) - A(picture)).norm() / A(picture).norm())
    assert f"{100 * share:.0f} % of which it leaves over" in note
    near = 0.97 * picture  # three percent are what a network leaves by itself
    assert doubt_of_answer(problem, near, problem.misfit(near)) == []


def test_too_little_noise_to_denoise_is_said():
    y = noisy(blurred(), 0.15)[None]
    assert any("noise" in n for n in solve(y, Identity(SHAPE), noise=0.01, sampler="tweedie").notes)


def test_zero_maps_and_runaway_steps_are_refused():
    ones = torch.ones(SIDE, SIDE)
    A = MultiCoilMRI(0 * torch.ones(2, SIDE, SIDE, dtype=torch.complex64), ones)
    y = torch.ones(2, SIDE, SIDE, dtype=torch.complex64)
    with pytest.raises(ConfigError, match="zero everywhere"):
        solve(y, A, noise=0.1, scaling=Scaling())
    broken = MultiCoilMRI(torch.full((2, SIDE, SIDE), np.nan, dtype=torch.complex64), ones)
    with pytest.raises(ConfigError, match="not finite"):
        solve(y, broken, noise=0.1, scaling=Scaling())
    with pytest.raises((ConfigError, DivergenceError)):
        solve(noisy(blurred())[None], BLUR, noise=STD, sampler="reddiff", n_steps=3, lr=1e30)
