"""Phase retrieval and Fourier ptychography against numpy and scipy, and what their classical inverse recovers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.diagonal import Identity
from restore.operators.phase.coded_fourier import CodedFourier
from restore.operators.phase.magnitudes import Magnitudes
from restore.operators.phase.pupil_views import PupilViews
from restore.operators.phase.starts import spectral_start
from restore.operators.verify import check

DOUBLE = 1e-11  # of numbers up to a hundred, by FFTs in double precision; 1e-13 seen
RECOVERED = (
    1e-3  # what is left of the error after the default iterations, which fall linearly; 1e-6 seen
)


def picture(n: int = 24) -> Tensor:
    rows, columns = torch.meshgrid(
        *[torch.linspace(-1, 1, n, dtype=torch.float64)] * 2, indexing="ij"
    )
    disc = (rows**2 + (columns - 0.2) ** 2 < 0.4).double()
    return 0.2 + 0.5 * disc + 0.2 * torch.cos(7 * rows) * columns


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def test_oversampled_intensities_are_the_spectrum_of_the_autocorrelation() -> None:
    x = torch.randn(6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = Magnitudes(CodedFourier.plain((6, 7), 2))(x)
    found = np.fft.ifft2(y[0].numpy() ** 2).real * y[0].numel()
    full = scipy.signal.correlate2d(x.numpy(), x.numpy())  # lag zero at (5, 6)
    wanted = np.zeros((12, 14))
    wanted[:11, :13] = full
    np.testing.assert_allclose(found, np.roll(wanted, (-5, -6), (0, 1)), rtol=0, atol=DOUBLE)


def test_views_are_windows_of_the_spectrum(generator: torch.Generator) -> None:
    op = PupilViews.example(generator).to(torch.float64)
    x = torch.randn(9, 10, generator=generator, dtype=torch.complex128)
    spectrum = np.fft.fftshift(np.fft.fft2(x.numpy(), norm="ortho"))
    for tilt, got in zip(op.tilts.tolist(), op(x), strict=True):
        top, left = 4 + tilt[0] - 2, 5 + tilt[1] - 2
        window = spectrum[top : top + 4, left : left + 5] * op.pupil.numpy()
        wanted = np.fft.ifft2(np.fft.ifftshift(window), norm="ortho")
        np.testing.assert_allclose(got.numpy(), wanted, rtol=0, atol=DOUBLE)


def test_an_open_pupil_sees_the_field_itself(generator: torch.Generator) -> None:
    op = PupilViews(
        torch.ones(8, 6, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.int64), (8, 6)
    )
    x = torch.randn(8, 6, generator=generator, dtype=torch.complex128)
    torch.testing.assert_close(op(x)[0], x, rtol=0, atol=DOUBLE)
    torch.testing.assert_close(op.pinv(op(x)), x, rtol=0, atol=DOUBLE)


@pytest.mark.parametrize("linear", ["masks", "views"])
def test_constructors_keep_the_norm_at_one(linear: str, generator: torch.Generator) -> None:
    masks = CodedFourier.random_phases((8, 8), 3, generator)
    views = PupilViews.array((16, 16), size=6, radius=3, side=3, step=3)
    # Lanczos from below, single precision
    assert {"masks": masks, "views": views}[linear].norm() == pytest.approx(1, abs=1e-3)


def test_complex_objects_keep_the_laws(generator: torch.Generator) -> None:
    op = Magnitudes(PupilViews.example(generator), real_images=False)
    assert check(op, laws=["shapes", "derivative", "gradients", "batches", "pinv"]).ok


def test_the_spectral_start_points_at_the_image() -> None:
    x = picture()
    masks = CodedFourier.random_phases((24, 24), 6, torch.Generator().manual_seed(0)).to(
        torch.float64
    )
    start = spectral_start(masks, masks(x).abs(), lambda image: image.real, 60)
    cosine = float((start * x).sum().abs() / start.norm() / x.norm())
    assert cosine > 0.7  # a random image has 1/24
    assert float(start.norm()) == pytest.approx(float(x.norm()), rel=0.3)


def test_coded_masks_determine_the_image() -> None:
    x = torch.stack([picture(), 0.5 * picture().flip(1)])
    op = Magnitudes(CodedFourier.random_phases((2, 24, 24), 4, torch.Generator().manual_seed(0)))
    found = op.to(torch.float64).pinv(op.to(torch.float64)(x))
    for got, wanted in zip(found, x, strict=True):
        assert relative(got, wanted) < RECOVERED
    assert (
        relative(op.pinv(op(-x.float())).double(), x) < RECOVERED
    )  # the sign is that of a positive sum


def test_complex_images_are_found_up_to_a_phase() -> None:
    x = picture() * torch.exp(1j * picture().flip(0))
    masks = CodedFourier.random_phases((24, 24), 5, torch.Generator().manual_seed(0))
    op = Magnitudes(masks, real_images=False, start_steps=200).to(torch.float64)
    found = op.pinv(op(x))
    assert relative(found, x * torch.sgn(x.sum()).conj()) < RECOVERED


def test_ptychography_exceeds_the_resolution_of_one_view() -> None:
    x = picture(32)
    linear = PupilViews.array((32, 32), size=12, radius=5, side=5, step=4).to(torch.float64)
    op = Magnitudes(linear)
    best = relative(linear.pinv(linear(x)).real, x)  # the phases known: what the windows cover
    one = Magnitudes(PupilViews(linear.pupil, torch.zeros(1, 2, dtype=torch.int64), (32, 32)))
    assert relative(op.pinv(op(x)), x) < min(1.5 * best, 0.7 * relative(one.pinv(one(x)), x))


ONES = torch.ones(4, 4)
TILT = torch.zeros(1, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("make", "kind", "what"),
    [
        (lambda: CodedFourier(torch.ones(4, 4), (4, 4)), ShapeError, "masks"),
        (lambda: CodedFourier(torch.ones(1, 4, 4), (4,)), ShapeError, "image shape"),
        (lambda: CodedFourier(torch.ones(1, 4, 4), (4, 4), 0), ConfigError, "oversampling"),
        (lambda: CodedFourier(torch.full((1, 4, 4), torch.inf), (4, 4)), ConfigError, "finite"),
        (lambda: PupilViews(torch.ones(4), TILT, (8, 8)), ShapeError, "pupil"),
        (lambda: PupilViews(ONES, TILT.float(), (8, 8)), ShapeError, "whole numbers"),
        (lambda: PupilViews(ONES, TILT + 3, (8, 8)), ConfigError, "leave the spectrum"),
        (lambda: PupilViews(ONES * torch.nan, TILT, (8, 8)), ConfigError, "finite"),
        (lambda: Magnitudes(Identity((4, 4))), ConfigError, "complex linear"),
        (lambda: Magnitudes(CodedFourier.plain((4, 4)), start_steps=0), ConfigError, "start_steps"),
    ],
)
def test_refusals(make, kind, what) -> None:
    with pytest.raises(kind, match=what):
        make()
