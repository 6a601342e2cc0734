"""Unsupervised Wiener: scikit-image's chain for periodic pictures, mirrored borders, seeds, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data as samples
from skimage.restoration import unsupervised_wiener

import restore
from restore.errors import ConfigError
from restore.metrics import psnr
from restore.operators import Blur, Downsample
from restore.operators.image.kernels import gaussian, motion
from restore.randomness import Draws
from restore.samplers.unsupervised_wiener import UnsupervisedWiener

DOUBLE = 1e-9  # float64: the same draws and FFTs
DIFFERENT = 0.1  # two seeds differ, but by less than the noise
SINGLE = 1e-5  # float32: FFTs of a batch in another order
RECOVERED = 0.01  # the noise that is left


def photograph(side: int = 96) -> torch.Tensor:
    return torch.from_numpy(samples.astronaut()[:side, 180 : 180 + side] / 255.0).movedim(-1, 0)


def blurred(kernel: torch.Tensor, boundary: str, std: float = 0.01) -> tuple:
    x = photograph()
    operator = Blur(kernel.double(), tuple(x.shape), boundary)
    g = torch.Generator().manual_seed(0)
    return x, operator, operator(x) + std * torch.randn(x.shape, generator=g, dtype=x.dtype)


def restored(y: torch.Tensor, operator, **settings) -> torch.Tensor:
    return restore.solve(y, operator, sampler="unsupervised-wiener", **settings).image


def test_periodic_pictures_are_scikit_image_channel_by_channel():
    _, operator, y = blurred(motion(9, 30), "circular")
    rng = np.random.default_rng(Draws(3, ["sample 0/0"]).seeds[0])
    chain = {"threshold": 1e-4, "burnin": 15, "min_num_iter": 30, "max_num_iter": 200}
    kernel = operator.kernel.numpy()
    expected = [
        unsupervised_wiener(p, kernel, user_params=chain, clip=False, rng=rng)[0] for p in y.numpy()
    ]
    # The kernel is told by transforms of the operator: 1e-16; the chain's stop does not hang on it.
    np.testing.assert_allclose(restored(y, operator, seed=3), np.stack(expected), atol=DOUBLE)


@pytest.mark.parametrize(
    ("kernel", "gain"), [(gaussian(1.6), 1.5), (motion(9, 30), 2.5), (motion(8, -60), 2.5)]
)
@pytest.mark.parametrize("boundary", ["circular", "reflect"])
def test_photographs_become_sharper_under_both_borders(kernel, gain, boundary):
    x, operator, y = blurred(kernel, boundary)
    image = restored(y, operator)
    assert psnr(image, x, data_range=1.0) > psnr(y, x, data_range=1.0) + gain
    if boundary == "reflect":
        periodic = restored(y, Blur(kernel.double(), tuple(x.shape), "circular"))
        assert psnr(image, x, data_range=1.0) > psnr(periodic, x, data_range=1.0) + 2


def test_seeds_and_batches():
    _, operator, y = blurred(gaussian(1.6), "reflect")
    image = restored(y, operator, seed=1)
    assert torch.equal(image, restored(y, operator, seed=1))
    other = restored(y, operator, seed=2)
    assert not torch.equal(image, other)
    # Two chains of the same posterior: their means differ by what some fifty draws leave.
    assert 0 < float((image - other).square().mean().sqrt()) < DIFFERENT
    batch = torch.stack([y, 0.5 * y.flip(-1)])
    together = restored(batch, operator, seed=1)
    alone = restore.solve(
        batch[1], operator, sampler="unsupervised-wiener", seed=1, ids=("1",)
    ).image
    # Transforms of a batch and of one picture may round otherwise: 1e-16, and the chain is chaotic in nothing else.
    torch.testing.assert_close(together[1], alone, atol=SINGLE, rtol=0)


def test_scale_and_constant_channels():
    _, operator, y = blurred(gaussian(1.6), "circular")
    y = torch.cat([y[:2], torch.full_like(y[:1], 0.25)])
    image = restored(y, operator)
    # 9,216 weights of a kernel that sums to one in single precision.
    torch.testing.assert_close(image[2], y[2], atol=SINGLE, rtol=0)
    assert restored(y.float(), Blur(gaussian(1.6), (3, 96, 96))).dtype == torch.float32


def test_refusals():
    y = torch.full((16, 16), 0.5)
    blur = Blur(gaussian(0.5), (20, 20), "valid")
    with pytest.raises(ConfigError, match="circular or reflect"):
        restored(torch.zeros(blur.out_shape), blur)
    with pytest.raises(ConfigError, match="real pictures"):
        restored(y.to(torch.complex64), Blur(gaussian(1.0), (16, 16)))
    with pytest.raises(ConfigError, match="serves deblurring"):
        restored(y, Downsample((32, 32), 2))
    with pytest.raises(ConfigError, match="more than at_most"):
        UnsupervisedWiener(burn_in=180)
    for values in ({"threshold": 0}, {"rounds": 0}, {"at_least": 0}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            UnsupervisedWiener(**values)


def test_a_scaled_blur_is_a_blur():
    """What the operator is made of does not matter: it is asked what it makes of a point."""
    _, operator, y = blurred(gaussian(1.6), "reflect")
    plain = restored(y, operator)
    # The chain starts from precisions of one whatever the scale: other draws of the same posterior.
    error = restored(2 * y, 2 * operator) - plain
    assert float(error.square().mean().sqrt()) < RECOVERED
