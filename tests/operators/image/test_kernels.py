"""Point spread functions: mass, centre, width, direction, and the text form."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from restore.errors import ConfigError
from restore.operators.image.kernels import disk, gaussian, motion, parse_kernel


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
    for kernel in (gaussian(size), motion(size, angle), disk(size)):
        assert kernel.dtype == torch.float32
        assert kernel.shape[0] == kernel.shape[1]
        assert kernel.shape[0] % 2 == 1
        assert kernel.min() >= 0
        assert float(kernel.double().sum()) == pytest.approx(1, abs=1e-6)
        row, column, *_ = moments(kernel.double())
        assert abs(row) + abs(column) < 1e-5


def test_widths() -> None:
    _, _, rows, columns, mixed = moments(gaussian(2.0, dtype=torch.float64))
    assert rows == pytest.approx(4, rel=2e-3)
    assert columns == pytest.approx(rows)
    assert mixed == pytest.approx(0, abs=1e-12)
    # Uniform disk: second moment radius^2 / 4 along each axis, plus the pixel's own 1/12.
    _, _, rows, _, _ = moments(disk(5.0, dtype=torch.float64))
    assert rows == pytest.approx(25 / 4, rel=0.02)


def test_motion_runs_where_it_should() -> None:
    flat = motion(5, 0)
    assert torch.count_nonzero(flat.sum(1)) == 1
    torch.testing.assert_close(flat[2, 1:-1], torch.full((3,), 0.25), atol=0.02, rtol=0)
    torch.testing.assert_close(motion(9, 90), motion(9, 0).T)
    *_, mixed = moments(motion(9, 45, dtype=torch.float64))
    assert mixed < 0  # columns grow while rows fall: up and to the right
    # Uniform line of length L: variance about (L - 1)^2 / 12 along it.
    _, _, rows, columns, _ = moments(motion(15, 30, dtype=torch.float64))
    assert rows + columns == pytest.approx(14**2 / 12, rel=0.05)
    assert rows / columns == pytest.approx(math.tan(math.radians(30)) ** 2, rel=0.05)


def test_tiny_kernels_do_nothing() -> None:
    for kernel in (gaussian(1e-3), motion(1, 33), disk(0.4)):
        middle = kernel.shape[0] // 2
        assert kernel[middle, middle] == pytest.approx(1)


def test_text_form() -> None:
    assert torch.equal(parse_kernel("gaussian:1.6"), gaussian(1.6))
    assert torch.equal(parse_kernel(" motion:15, 45"), motion(15, 45))
    assert parse_kernel("disk:3", dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gausian:2", "did you mean 'gaussian'"),
        ("blob", "expected one of gaussian, motion, disk"),
        ("gaussian", "expected 1 number"),
        ("motion:15", "motion:15,45"),
        ("disk:x", "disk:3"),
        ("disk:-1", "positive"),
        ("gaussian:nan", "positive"),
        ("motion:3,inf", "degrees"),
    ],
)
def test_bad_text_is_explained(text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        parse_kernel(text)
