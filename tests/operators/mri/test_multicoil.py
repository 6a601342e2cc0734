"""Multi-coil MRI against the centred transform written out, and against sigpy."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import restore.operators.mri.multicoil as mri_module
from restore.errors import ConfigError, ShapeError
from restore.operators.mri.few_lines import few_lines_of, largest_factor
from restore.operators.mri.fourier import fft2c, ifft2c
from restore.operators.mri.multicoil import MultiCoilMRI

DOUBLE = 1e-12  # float64: FFTs of some hundred numbers and a sum over coils; 5e-15 seen
INVERSE = 1e-9  # float64: conjugate gradients to their own bar; 7e-16 seen


def noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.complex128)


def naive(op: MultiCoilMRI, x: Tensor) -> Tensor:
    mask = op.mask if op.mask.ndim < 3 else op.mask.unsqueeze(-3)
    return fft2c(op.maps * x.unsqueeze(-3)) * mask


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.sampled_from(["w", "hw", "shw"]))
@settings(max_examples=40, deadline=None)
def test_matches_the_written_out_form(height: int, width: int, coils: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(height * 10 + width)
    shape = {"w": (width,), "hw": (height, width), "shw": (2, height, width)}[kind]
    op = MultiCoilMRI(
        noise(generator, 2, coils, height, width), torch.rand(shape, generator=generator) < 0.5
    )
    x, y = noise(generator, 3, 2, height, width), noise(generator, 3, 2, coils, height, width)
    mask = op.mask if op.mask.ndim < 3 else op.mask.unsqueeze(-3)
    want = (op.maps.conj() * ifft2c(y * mask)).sum(-3)
    close = partial(torch.testing.assert_close, rtol=0, atol=DOUBLE)
    close(op(x), naive(op, x))
    close(op.adjoint(y), want)
    close(op.normal(x), op.adjoint(op(x)))


@pytest.mark.parametrize("shape", [(1, 9), (8, 1), (3, 1, 9), (1, 1, 1), (3, 8, 1)])
def test_masks_along_one_axis(shape: tuple[int, ...], generator: torch.Generator) -> None:
    op = MultiCoilMRI(noise(generator, 3, 2, 8, 9), torch.rand(shape, generator=generator) < 0.6)
    x = noise(generator, 3, 8, 9)
    torch.testing.assert_close(op.normal(x), op.adjoint(op(x)), rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("shape", [(34,), (1, 34), (17, 1), (38, 1)])
def test_few_lines_of_an_awkward_length_are_a_product(
    shape: tuple[int, ...], generator: torch.Generator
) -> None:
    height = max(17, shape[0] if len(shape) == 2 else 0)
    mask = torch.rand(shape, generator=generator) < 0.3
    op = MultiCoilMRI(noise(generator, 3, 2, height, 34), mask)
    x = noise(generator, 4, 3, height, 34)
    assert op._few_lines is not None
    torch.testing.assert_close(op.normal(x), op.adjoint(op(x)), rtol=0, atol=DOUBLE)


def test_other_lines_are_left_to_ffts() -> None:
    assert [largest_factor(n) for n in (1, 2, 188, 256, 372, 97)] == [1, 2, 47, 2, 31, 97]
    assert few_lines_of(torch.ones(256)) is None  # a quick length
    assert few_lines_of(torch.ones(188)) is None  # too many lines
    assert few_lines_of(torch.eye(188)[0].to(torch.complex64)) is not None
    assert few_lines_of(torch.eye(17)[0].to(torch.complex64)) is not None
    slices = MultiCoilMRI(torch.ones(2, 1, 1, 17) + 0j, torch.eye(17)[:2].reshape(2, 1, 17))
    assert slices._few_lines is None  # each its own


def test_matches_sigpy(generator: torch.Generator) -> None:
    linop = pytest.importorskip("sigpy.mri.linop")
    maps, mask = noise(generator, 4, 15, 18), torch.rand(15, 18, generator=generator) < 0.4
    op = MultiCoilMRI(maps, mask)
    peer = linop.Sense(maps.numpy(), weights=mask.numpy().astype(float))
    x = noise(generator, 15, 18)
    np.testing.assert_allclose(op(x).numpy(), peer(x.numpy()), atol=DOUBLE)
    y = op(x)
    np.testing.assert_allclose(op.adjoint(y).numpy(), peer.H(y.numpy()), atol=DOUBLE)


def test_nothing_is_measured_outside_the_mask(generator: torch.Generator) -> None:
    for width in (9, 10):
        mask = torch.rand(width, generator=generator) < 0.5
        op = MultiCoilMRI(noise(generator, 2, 6, width), mask)
        y = op(noise(generator, 6, width))
        assert not y[..., ~mask].any()
        assert y[..., mask].abs().min() > 0


def test_coil_blocks_change_nothing(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    op = MultiCoilMRI(noise(generator, 2, 5, 6, 7), torch.rand(7, generator=generator) < 0.5)
    x, y = noise(generator, 2, 6, 7), noise(generator, 2, 5, 6, 7)
    whole = op.normal(x), op.adjoint(y)
    monkeypatch.setattr(mri_module, "_BLOCK_BYTES", 2 * 2 * 6 * 7 * 16)
    for a, b in zip(whole, (op.normal(x), op.adjoint(y)), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=DOUBLE)


def test_single_coil_is_a_masked_transform(generator: torch.Generator) -> None:
    mask = torch.rand(7, generator=generator) < 0.5
    op = MultiCoilMRI.single_coil(mask, (3, 6, 7), dtype=torch.complex128)
    x = noise(generator, 3, 6, 7)
    assert op.out_shape == (3, 1, 6, 7)
    assert op.slice_ndim == 1
    torch.testing.assert_close(op(x)[:, 0], fft2c(x) * mask, rtol=0, atol=DOUBLE)
    torch.testing.assert_close(op.adjoint(op(x)), ifft2c(fft2c(x) * mask), rtol=0, atol=DOUBLE)


def test_full_sampling_is_inverted(generator: torch.Generator) -> None:
    maps = noise(generator, 4, 8, 9)
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    op = MultiCoilMRI(maps, torch.ones(9))
    x = noise(generator, 8, 9)
    torch.testing.assert_close(op.adjoint(op(x)), x)
    torch.testing.assert_close(op.pinv(op(x)), x / 1.001, rtol=INVERSE, atol=INVERSE)
    assert op.norm() == pytest.approx(1)


def test_pinv_beats_zero_filling(generator: torch.Generator) -> None:
    t = torch.linspace(-1, 1, 32, dtype=torch.float64)
    angles = torch.arange(6) * (2 * torch.pi / 6)
    centres = torch.stack([torch.cos(angles), torch.sin(angles)], 1)
    distance = (t[:, None] - centres[:, :1, None]) ** 2 + (t - centres[:, 1:, None]) ** 2
    maps = torch.exp(-distance / 1.5) * torch.exp(1j * angles[:, None, None])
    maps = maps / torch.linalg.vector_norm(maps, dim=0)
    mask = torch.zeros(32)
    mask[::2] = 1
    op = MultiCoilMRI(maps, mask)
    x = (((t[:, None]) ** 2 + t**2) < 0.7).to(torch.complex128)
    y = op(x)
    assert (op.pinv(y) - x).norm() < 0.2 * (op.adjoint(y) - x).norm()


def test_real_images_and_their_gradient(generator: torch.Generator) -> None:
    op = MultiCoilMRI.example(generator)
    x = torch.randn(op.in_shape, generator=generator, requires_grad=True)
    op(x).abs().square().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * op.normal(x.detach().to(torch.complex64)).real)


def test_bad_arrays_are_refused(generator: torch.Generator) -> None:
    maps = noise(generator, 3, 6, 7)
    with pytest.raises(ShapeError, match="complex"):
        MultiCoilMRI(maps.real, torch.ones(7))
    with pytest.raises(ShapeError, match="broadcasts"):
        MultiCoilMRI(maps, torch.ones(6))
    with pytest.raises(ShapeError, match="broadcasts"):
        MultiCoilMRI(maps, torch.ones(3, 6, 7))
    with pytest.raises(ConfigError, match="0 and 1"):
        MultiCoilMRI(maps, torch.full((7,), 0.5))
    with pytest.raises(ShapeError, match="slices"):
        MultiCoilMRI.single_coil(torch.ones(7), (7,))


@pytest.mark.slow
def test_faster_than_with_shifts(generator: torch.Generator) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    maps = torch.randn(8, 320, 320, generator=generator, dtype=torch.complex64)
    op = MultiCoilMRI(maps, torch.rand(320, generator=generator) < 0.3)
    x, y = maps[0].clone(), maps.clone()

    def shifted() -> None:
        naive(op, x)
        (op.maps.conj() * ifft2c(y * op.mask)).sum(-3)

    def folded() -> None:
        op(x)
        op.adjoint(y)

    best = {shifted: 1e9, folded: 1e9}
    for _ in range(15):
        for run in best:
            start = time.perf_counter()
            run()
            best[run] = min(best[run], time.perf_counter() - start)
    torch.set_num_threads(threads)
    assert best[shifted] > 1.8 * best[folded]
