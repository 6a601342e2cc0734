"""Inpainting: which pixels survive, for every way of giving the mask."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError, ShapeError
from restore.operators.image.inpainting import Inpainting

FRACTION = 0.01  # which pixels are seen is drawn from a fixed seed; 4e-3 seen


@pytest.mark.parametrize("shape", [(6, 5), (1, 5), (5,), (3, 6, 5), (3, 1, 1)])
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float64])
def test_masked_pixels_are_zero(
    shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator
) -> None:
    mask = (torch.rand(shape, generator=generator) < 0.5).to(dtype)
    op = Inpainting(mask, (3, 6, 5))
    x = torch.randn(2, 3, 6, 5, generator=generator)
    keep = mask.bool().expand(3, 6, 5)
    y = op(x)
    assert not y[:, ~keep].any()
    assert torch.equal(y[:, keep].float(), x[:, keep])
    assert torch.equal(op.pinv(y), y)


def test_random_keeps_the_fraction_in_all_channels(generator: torch.Generator) -> None:
    op = Inpainting.random((3, 200, 200), 0.3, generator)
    seen = op(torch.ones(3, 200, 200))
    assert torch.equal(seen[0], seen[2])
    assert seen.mean().item() == pytest.approx(0.3, abs=FRACTION)
    again = Inpainting.random((3, 200, 200), 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(again.mask, op.mask)


def test_complex_images_work(generator: torch.Generator) -> None:
    x = torch.randn(3, 5, 6, dtype=torch.complex64, generator=generator)
    op = Inpainting.example(generator)
    assert torch.equal(op(x), torch.complex(op(x.real), op(x.imag)))


def test_bad_masks_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 and 1"):
        Inpainting(torch.full((4, 4), 0.5), (4, 4))
    with pytest.raises(ShapeError, match="broadcasts"):
        Inpainting(torch.ones(4, 5), (4, 4))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        Inpainting.random((4, 4), 1.5, torch.Generator())
