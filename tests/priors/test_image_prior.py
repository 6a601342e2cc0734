"""ImagePrior: complex images, channels and chunks through denoisers of every kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import OutOfMemory
from restore.priors import image_prior
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior, chunked


class Traced(Denoiser):
    """Adds 1 to the first channel, 2 to the second, ... and remembers the shapes it saw."""

    def __init__(self, channels: int = 1, complex_mode: str = "separate") -> None:
        self.channels, self.complex_mode, self.name = channels, complex_mode, "traced"
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.shapes.append(tuple(x.shape))
        return x + torch.arange(1, self.channels + 1, dtype=x.dtype)[:, None, None]


def image(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_real_stacks_become_planes():
    prior = Traced()
    images = ImagePrior(prior, (5, 6), complex_=False)
    x = image(2, 3, 5, 6)
    assert torch.equal(images(x, 0.1), x + 1)
    assert prior.shapes == [(6, 1, 5, 6)]
    assert images.evaluations == 1


def test_grey_prior_serves_channels_one_by_one_and_colour_prior_at_once():
    x = image(2, 3, 4, 4)
    grey, colour = Traced(), Traced(channels=3)
    assert torch.equal(ImagePrior(grey, (3, 4, 4), complex_=False)(x, 0.1), x + 1)
    out = ImagePrior(colour, (3, 4, 4), complex_=False)(x, 0.1)
    assert grey.shapes == [(6, 1, 4, 4)]
    assert colour.shapes == [(2, 3, 4, 4)]
    assert torch.equal(out, x + torch.tensor([1.0, 2.0, 3.0])[:, None, None])


def test_complex_modes():
    x = image(2, 5, 4, dtype=torch.complex64)
    separate, channels = Traced(), Traced(channels=2, complex_mode="channels")
    torch.testing.assert_close(ImagePrior(separate, (5, 4), complex_=True)(x, 0.1), x + 1 + 1j)
    assert separate.shapes == [(4, 1, 5, 4)]
    torch.testing.assert_close(ImagePrior(channels, (5, 4), complex_=True)(x, 0.1), x + 1 + 2j)
    assert channels.shapes == [(2, 2, 5, 4)]
    magnitude = Traced(complex_mode="magnitude")
    out = ImagePrior(magnitude, (5, 4), complex_=True)(x, 0.1)
    torch.testing.assert_close(out.abs(), x.abs() + 1)
    torch.testing.assert_close(out.angle(), x.angle())


def test_complex_colour_items_keep_their_shape():
    x = image(2, 3, 4, 4, dtype=torch.complex128)
    for prior in (Traced(), Traced(3), Traced(2, "channels"), Traced(3, "magnitude")):
        assert ImagePrior(prior, (3, 4, 4), complex_=True)(x, 0.1).shape == x.shape


def test_chunks_change_nothing(monkeypatch):
    monkeypatch.setattr(image_prior, "PIXELS_PER_CALL", 3 * 16)
    prior = Traced()
    x = image(7, 4, 4)
    assert torch.equal(ImagePrior(prior, (4, 4), complex_=False)(x, 0.1), x + 1)
    assert [s[0] for s in prior.shapes] == [3, 3, 1]


class Greedy(Traced):
    """Runs out of memory for more than `fits` planes."""

    fits = 2

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        if x.shape[0] > self.fits:
            raise torch.OutOfMemoryError("pretended")
        return super().__call__(x, sigma)


def test_out_of_memory_makes_smaller_chunks_and_remembers(monkeypatch):
    monkeypatch.setattr(image_prior, "PIXELS_PER_CALL", 8 * 16)
    prior = Greedy()
    images = ImagePrior(prior, (4, 4), complex_=False)
    x = image(5, 4, 4)
    assert torch.equal(images(x, 0.1), x + 1)
    assert [s[0] for s in prior.shapes] == [2, 2, 1]
    images(x, 0.1)
    assert [s[0] for s in prior.shapes] == [2, 2, 1] * 2
    prior.fits = 0
    with pytest.raises(OutOfMemory, match="one image"):
        images(x, 0.1)


def test_a_turnable_prior_sees_eight_orientations_and_the_answer_is_turned_back(generator):
    seen = []

    class Corner(Denoiser):
        turnable = True

        def __call__(self, x, sigma):
            seen.append(x.clone())
            return x

    x = torch.randn(2, 5, 7, generator=generator)
    images = ImagePrior(Corner(), (5, 7), complex_=False)
    for turn in range(8):
        assert torch.equal(images(x, 0.1, turn=turn), x)
    assert len({tuple(s.flatten().tolist()) for s in seen}) == 8


def test_other_priors_are_never_turned(generator):
    seen = []

    class Fixed(Denoiser):
        def __call__(self, x, sigma):
            seen.append(x)
            return x

    x = torch.randn(1, 5, 7, generator=generator)
    ImagePrior(Fixed(), (5, 7), complex_=False)(x, 0.1, turn=3)
    assert seen[0].shape == (1, 1, 5, 7)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
    ],
)
def test_memory_of_a_cpu_makes_smaller_chunks_too(error):
    seen = []

    def network(planes):
        seen.append(len(planes))
        if len(planes) > 2:
            raise error
        return (planes + 1,)

    planes = torch.arange(64.0).reshape(4, 1, 4, 4)
    out, pixels = chunked(network, [planes], 1 << 20, "an image")
    torch.testing.assert_close(out[0], planes + 1, rtol=0, atol=0)
    assert (seen, pixels) == ([4, 2, 2], 32)

    def never(planes):
        raise error

    with pytest.raises(OutOfMemory, match="an image does not fit"):
        chunked(never, [planes], 1 << 20, "an image")
    with pytest.raises(RuntimeError, match="another"):
        chunked(lambda p: (_ for _ in ()).throw(RuntimeError("another")), [planes], 16, "an image")
