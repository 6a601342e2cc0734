"""Few lines in the middle of k-space: filled before maps are estimated, from data made with numpy's FFT."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from people_kspace import centred_fft, coil_maps, noise, phantom

from restore.operators.mri.coil_maps import espirit
from restore.operators.mri.filling import (
    FILLED,
    WORSE,
    calibration_data,
    filled_centre,
    left_by_maps,
    needs_filling,
)

SHAPE, COILS, STD = (56, 52), 8, 0.002
TRUTH, MAPS = phantom(SHAPE), coil_maps(SHAPE, COILS)
FULL = centred_fft(MAPS * TRUTH) + noise((COILS, *SHAPE), STD)
MIDDLE = SHAPE[1] // 2


def lines(few: int, seed: int) -> np.ndarray:
    """One line in four by chance, and so many in the middle."""
    mask = np.random.default_rng(seed).random(SHAPE[1]) < 0.25
    mask[MIDDLE - 8 : MIDDLE + 8 : 2] = False
    first = MIDDLE - few // 2
    mask[first - 1], mask[first + few] = False, False
    mask[first : first + few] = True
    return mask


def region(few: int) -> tuple[slice, slice]:
    first = MIDDLE - few // 2
    return slice(0, SHAPE[0]), slice(first, first + few)


def unexplained(maps: torch.Tensor) -> float:
    """What images of fully sampled k-space have across the maps: 0 where maps are right, of the object alone."""
    images = torch.from_numpy(MAPS * TRUTH).to(maps)
    along = (maps.conj() * images).sum(0, keepdim=True) * maps
    return float(torch.linalg.vector_norm(images - along) / torch.linalg.vector_norm(images))


@pytest.mark.parametrize(("few", "seed"), [(4, 1), (7, 2)])
def test_maps_of_a_filled_middle_are_nearer_to_the_coils(few: int, seed: int) -> None:
    mask = torch.from_numpy(lines(few, seed))
    kspace = torch.from_numpy((FULL * mask.numpy()).astype(np.complex64))
    assert needs_filling(region(few), mask, tuple(kspace.shape))
    alone, _ = espirit(kspace, region(few))
    middle, (rows, cols) = filled_centre(kspace, mask)
    filled, _ = espirit(middle, (rows, cols))
    # 0.032 and 0.010 of the signal lie across the maps of the lines alone, 0.55 and 0.64 times as much across these.
    assert unexplained(filled) < 0.8 * unexplained(alone)
    assert (rows.stop - rows.start, cols.stop - cols.start) == (FILLED, FILLED)
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[rows, cols] = True
    assert bool((middle[:, ~inside] == 0).all())
    measured = inside & mask
    assert bool((middle[:, measured] == kspace[:, measured]).all())
    # 0.6 of what is missing; zeros in its place would leave 1.
    error = middle - torch.from_numpy(FULL).to(middle)
    filled_in = inside & ~mask
    away = torch.linalg.vector_norm(error[:, filled_in])
    assert away < 0.8 * np.linalg.norm(FULL[:, filled_in.numpy()])


@pytest.mark.parametrize(("few", "taken"), [(4, "filled"), (7, "filled"), (10, "lines alone")])
def test_the_middle_is_filled_where_that_explains_the_samples_better(few: int, taken: str) -> None:
    """Ten lines have kernels of three samples: filling explains 1.07 times as well, which says nothing (four: 2.1)."""
    mask = torch.from_numpy(lines(few, 2))
    kspace = torch.from_numpy((FULL * mask.numpy()).astype(np.complex64))
    middle, place = filled_centre(kspace, mask)
    alone, filled = (
        left_by_maps(kspace, mask, *which) for which in ((kspace, region(few)), (middle, place))
    )
    noise_share = STD * np.sqrt(2 * COILS * SHAPE[0] * float(mask.sum()))
    assert filled < 2 * noise_share / float(torch.linalg.vector_norm(kspace))
    assert (alone > WORSE * filled) == (taken == "filled")
    chosen, where, estimate = calibration_data(kspace, mask, region(few))
    assert estimate is not None
    assert where == (place if taken == "filled" else region(few))
    assert torch.equal(chosen, middle if taken == "filled" else kspace)


def test_zeros_leave_nothing() -> None:
    mask = torch.from_numpy(lines(5, 1))
    nothing = torch.zeros(COILS, *SHAPE, dtype=torch.complex64)
    assert left_by_maps(nothing, mask, nothing, region(5)) == 0
    assert calibration_data(nothing, mask, region(5))[1] == region(5)


def test_long_middles_single_coils_and_even_patterns_are_left_alone() -> None:
    mask = torch.from_numpy(lines(13, 1))
    assert not needs_filling(region(13), mask, (COILS, *SHAPE))
    few = torch.from_numpy(lines(5, 1))
    assert needs_filling(region(5), few, (COILS, *SHAPE))
    assert not needs_filling(region(5), few, (1, *SHAPE))
    # One line in four and nothing else: an image folded upon itself explains it as well.
    even = torch.arange(SHAPE[1]) % 4 == MIDDLE % 4
    assert not needs_filling((slice(0, SHAPE[0]), slice(MIDDLE, MIDDLE + 1)), even, (COILS, *SHAPE))
