"""Time segments against the sum over pixels written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from fourier_sums import anywhere, drawn, fourier_sums, relative

from restore.errors import ConfigError, ShapeError
from restore.operators import check
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.mri.time_segments import off_resonance

pytest.importorskip("finufft")

SHAPE = (7, 6)
ENOUGH = 0.01  # what the segments are chosen for, beside the whole map; 3e-3 seen


def field() -> torch.Tensor:
    """-60 to 60 Hz."""
    row = torch.linspace(-1, 1, SHAPE[0])[:, None]
    return 60 * row * torch.ones(SHAPE)


def test_segments_are_the_sum_over_pixels():
    trajectory = anywhere(SHAPE, 3, 40)
    times = torch.linspace(
        0, 0.02, 40, dtype=torch.float64
    )  # 2.4 turns between the fastest and the slowest
    op = off_resonance(NonCartesianMRI(drawn(2, *SHAPE), trajectory), field(), times)
    x = drawn(*SHAPE, seed=1)
    turned = torch.exp(-2j * math.pi * times[:, None] * field().double().flatten())
    matrix = fourier_sums(trajectory, SHAPE) * turned
    coils = (drawn(2, *SHAPE) * x).flatten(1)
    assert relative(op(x), torch.einsum("rsp,cp->crs", matrix, coils)) < ENOUGH
    assert op.kind == "mri"
    check(op, laws=["adjoint", "linear", "batches", "looks"])


def test_cartesian_lines_and_an_even_field():
    """A field that is the same everywhere is a phase of each sample."""
    encoding = MultiCoilMRI(drawn(2, 3, 4, 6), torch.ones(6))
    times = torch.linspace(0, 0.01, 6, dtype=torch.float64)
    op = off_resonance(encoding, torch.full((4, 6), 40.0), times, segments=2)
    x = drawn(2, 4, 6, seed=1)
    assert (op.slice_ndim, op.out_shape) == (1, (2, 3, 4, 6))
    assert (
        relative(op(x), encoding(x) * torch.exp(-2j * math.pi * 40 * times)) < 1e-9
    )  # one frequency: exact


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        ({"segments": 2}, ConfigError, "2 segments leave an error of .* use more"),
        ({"segments": -1}, ConfigError, "segments is -1"),
        ({"field_hz": torch.zeros(5, 6)}, ShapeError, r"field_hz has shape \(5, 6\)"),
        ({"times_s": torch.zeros(39)}, ShapeError, r"times_s has shape \(39,\)"),
        ({"times_s": torch.full((40,), np.nan)}, ConfigError, "times_s is empty or not finite"),
    ],
)
def test_bad_values_are_named(change, error, found):
    encoding = NonCartesianMRI(drawn(2, *SHAPE), anywhere(SHAPE, 3, 40))
    settings = {"field_hz": field(), "times_s": torch.linspace(0, 0.05, 40)} | change
    with pytest.raises(error, match=found):
        off_resonance(encoding, **settings)
