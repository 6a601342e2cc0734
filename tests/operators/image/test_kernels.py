"""Point spread functions: mass, centre, width, direction, and the text form."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import ConfigError
from restore.operators.image.kernels import defocus, gaussian, motion, parse_kernel

SINGLE = 1e-6  # kernels are float32 with a sum of 1; 5e-8 seen
MOMENT = 1e-5  # float32 weights times places of up to 15, summed in float64
WIDTH = 2e-3  # the Gaussian's tails are cut at four deviations
DOUBLE = 1e-12  # float64: a sum that cancels by symmetry
DISC = 0.02  # the disc's edge in pixels
PIXELS = 0.05  # a line of 15 pixels, drawn with soft edges
RESAMPLED = 1e-4  # float32 rotation of the line's ends; 1e-7 seen


def moments(kernel: torch.Tensor) -> tuple[float, float, float, float, float]:
    """Mean row, mean column and second moments (rows, columns, mixed) about the middle."""
    n = kernel.shape[0]
    t = torch.arange(n, dtype=kernel.dtype) - n // 2
    r, c = kernel.sum(1), kernel.sum(0)
    mixed = float(t @ kernel @ t)
    return float(t @ r), float(t @ c), float(t**2 @ r), float(t**2 @ c), mixed


@given(st.floats(0.05, 12), st.floats(-400, 400))
@settings(max_examples=60, deadline=None)
def test_mass_shape_and_centre(size: float, angle: float) -> None:
    for kernel in (gaussian(size), motion(size, angle), defocus(size)):
        assert kernel.dtype == torch.float32
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert float(kernel.double().sum()) == pytest.approx(1, abs=SINGLE)
        row, column, *_ = moments(kernel.double())
        assert abs(row) + abs(column) < MOMENT


def test_widths() -> None:
    _, _, rows, columns, mixed = moments(gaussian(2.0, dtype=torch.float64))
    assert rows == pytest.approx(4, rel=WIDTH)
    assert columns == pytest.approx(rows)
    assert mixed == pytest.approx(0, abs=DOUBLE)
    # Uniform disk: second moment radius^2 / 4 along each axis, plus the pixel's own 1/12.
    _, _, rows, _, _ = moments(defocus(5.0, dtype=torch.float64))
    assert rows == pytest.approx(25 / 4, rel=DISC)


def test_motion_runs_where_it_should() -> None:
    flat = motion(5, 0)
    torch.testing.assert_close(flat[2], torch.full((5,), 0.2))
    assert torch.count_nonzero(flat.sum(1)) == 1
    # Turned by sines and cosines in double precision and rounded to single: 1e-7.
    torch.testing.assert_close(motion(9, 90), motion(9, 0).T, atol=SINGLE, rtol=0)
    *_, mixed = moments(motion(9, 45, dtype=torch.float64))
    assert mixed < 0  # columns grow while rows fall: up and to the right
    # L pixels in a row have a variance of (L^2 - 1) / 12 along it.
    _, _, rows, columns, _ = moments(motion(15, 30, dtype=torch.float64))
    assert rows + columns == pytest.approx((15**2 - 1) / 12, rel=PIXELS)
    assert rows / columns == pytest.approx(math.tan(math.radians(30)) ** 2, rel=PIXELS)


@pytest.mark.parametrize("angle", [0.0, 30.0, 215.0])
def test_odd_lengths_are_those_of_kornia(angle: float) -> None:
    from kornia.filters import get_motion_kernel2d

    for length, direction in ((3, 0.0), (15, 0.0), (9, -0.7)):
        expected = get_motion_kernel2d(length, angle, direction, mode="bilinear")[0]
        # Theirs in single precision: angles of 215 degrees to 1e-5, times a slope of 1/3.
        torch.testing.assert_close(
            motion(length, angle, direction), expected, atol=RESAMPLED, rtol=0
        )


def test_lengths_between_lie_between() -> None:
    line = motion(8, 0, dtype=torch.float64)[4]
    torch.testing.assert_close(line * 8, torch.tensor([0.5, *[1.0] * 7, 0.5]).double())
    spread = [sum(moments(motion(n / 4, 30, dtype=torch.float64))[2:4]) for n in range(4, 60)]
    steps = torch.tensor(spread).diff()
    assert (steps > 0).all()
    assert steps.max() < 1  # no jump: the last is (15^2 - 14.75^2) / 12 = 0.6


def test_motion_with_a_direction_is_brightest_where_it_began() -> None:
    first = motion(5, 0, 1.0)[2]
    torch.testing.assert_close(first, torch.tensor([0.4, 0.3, 0.2, 0.1, 0.0]))
    torch.testing.assert_close(motion(5, 0, -1.0)[2], first.flip(0))
    up = motion(9, 90, 1.0).sum(1)  # upwards: it began below
    assert up[-1] > up[0] + 0.1


def test_tiny_kernels_do_nothing() -> None:
    for kernel in (gaussian(1e-3), motion(1, 33), defocus(0.4)):
        middle = kernel.shape[0] // 2
        assert kernel[middle, middle] == pytest.approx(1)


def test_text_form() -> None:
    assert torch.equal(parse_kernel("gaussian:1.6"), gaussian(1.6))
    for text in (" motion:15, 45", "motion:15:45", "motion:15:45:0"):
        assert torch.equal(parse_kernel(text), motion(15, 45))
    assert torch.equal(parse_kernel("motion:8.5:-30:0.5"), motion(8.5, -30, 0.5))
    assert torch.equal(parse_kernel("defocus:5"), defocus(5))
    assert torch.equal(parse_kernel("disk:5"), defocus(5))
    assert parse_kernel("defocus:3", dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gausian:2", "did you mean 'gaussian'"),
        ("defocsu:2", "did you mean 'defocus'"),
        ("blob", "expected one of gaussian, motion, defocus"),
        ("gaussian", "expected 1 number"),
        ("motion:15", "motion:15:30"),
        ("motion:15:30:0:1", "expected 2 or 3 number"),
        ("motion:15:30:2", "direction"),
        ("defocus:x", "defocus:5"),
        ("disk:-1", "positive"),
        ("gaussian:nan", "positive"),
        ("gaussian:1e6", "at most 1000"),
        ("motion:3,inf", "degrees"),
    ],
)
def test_bad_text_is_explained(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_kernel(text)
