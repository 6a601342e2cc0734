"""Masks have the acceleration and centre that were asked for; coils and phase are smooth."""

from __future__ import annotations

import numpy as np
import pytest

from restore.datasets.mri.pattern.masks import MASKS, make_mask
from restore.datasets.mri.pattern.sampling import (
    compact,
    measured_samples,
    sampling_pattern,
    slice_mask,
)
from restore.datasets.simulate.coils import birdcage, smooth_phase
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError

SINGLE = 5e-6  # float32: eight squares and a root; 2.4e-7 seen
WHOLE_LINES = 0.06  # an acceleration of 4 on whole lines

EXACT = ["random", "gaussian1d", "random2d", "poisson2d"]


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize(("acceleration", "fraction"), [(4, 0.08), (8, 0.04), (3.3, 0.1)])
def test_exact_count(kind: str, acceleration: float, fraction: float) -> None:
    mask = make_mask(kind, (48, 91), acceleration, fraction, seed=7)
    assert mask.sum() == round(mask.size / acceleration)


def test_equispaced_fraction_is_close_to_the_asked_acceleration() -> None:
    for seed in range(10):
        mask = make_mask("equispaced-fraction", (16, 320), 4, 0.08, seed)
        assert mask.size / mask.sum() == pytest.approx(4, rel=WHOLE_LINES)


def test_equispaced_keeps_its_comb() -> None:
    mask = make_mask("equispaced", (16, 320), 4, 0.08, seed=3)
    comb = [mask[offset::4].all() for offset in range(4)]
    assert sum(comb) == 1
    columns = np.arange(comb.index(True), 320, 4)
    in_centre = int(((columns >= 147) & (columns < 173)).sum())
    assert mask.sum() == 80 + 26 - in_centre


@pytest.mark.parametrize("kind", sorted(MASKS))
@pytest.mark.parametrize("shape", [(40, 64), (41, 63)])
def test_centre_is_measured_and_seeds_matter(kind: str, shape: tuple[int, int]) -> None:
    mask = make_mask(kind, shape, 4, 0.08, seed=1)
    low = round(0.08 * shape[1])
    centre = slice((shape[1] - low + 1) // 2, (shape[1] - low + 1) // 2 + low)
    assert centre.start <= shape[1] // 2 < centre.stop
    assert mask[..., shape[0] // 2, centre].all() if mask.ndim == 2 else mask[centre].all()
    assert (mask == make_mask(kind, shape, 4, 0.08, seed=1)).all()
    assert any((mask != make_mask(kind, shape, 4, 0.08, seed=s)).any() for s in range(2, 6))


def test_poisson_points_keep_their_distance() -> None:
    mask = make_mask("poisson2d", (64, 64), 8, 0, seed=2)
    points = np.argwhere(mask)
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))
    radius = np.linalg.norm(points - 32, axis=1)
    assert gaps.min(1)[radius > 30].min() >= 2
    assert gaps.min(1)[radius > 30].mean() > 1.5 * gaps.min(1)[radius < 12].mean()


def test_acceleration_one_measures_everything() -> None:
    for kind in ("random", "equispaced", "equispaced-fraction", "random2d"):
        assert make_mask(kind, (9, 10), 1, 0.2, seed=0).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "spiral"}, "unknown mask 'spiral'; known: random"),
        ({"acceleration": 0.5}, "at least 1"),
        ({"acceleration": float("nan")}, "at least 1"),
        ({"center_fraction": 1.5}, r"\[0, 1\]"),
        ({"acceleration": 20.0}, "centre alone"),
        ({"acceleration": 500.0, "center_fraction": 0.0}, "no k-space line"),
    ],
)
def test_refusals(change: dict[str, object], message: str) -> None:
    settings = {"kind": "random", "acceleration": 4.0, "center_fraction": 0.08, **change}
    with pytest.raises(ConfigError, match=message):
        make_mask(shape=(64, 100), seed=0, **settings)  # type: ignore[arg-type]


def test_pattern_of_zero_filled_kspace() -> None:
    kspace = np.zeros((3, 2, 6, 8), complex)
    kspace[:, :, :, [1, 4, 5]] = 1

    def pattern() -> np.ndarray:
        stack = LazyStack(kspace.shape, lambda i: kspace[i])
        return sampling_pattern(measured_samples(stack))

    assert pattern().tolist() == [c in (1, 4, 5) for c in range(8)]
    kspace[:, :, 0] = 0
    assert pattern().shape == (6, 8)
    kspace[1, :, :, 7] = 1
    assert pattern().shape == (3, 6, 8)
    assert [int(slice_mask(pattern(), i).sum()) for i in range(3)] == [15, 21, 15]
    assert compact(np.ones((6, 8), bool)).shape == (8,)


@pytest.mark.parametrize("coils", [1, 4, 8])
def test_birdcage_is_normalised_and_smooth(coils: int) -> None:
    maps = birdcage((45, 64), coils)
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(0), 1, atol=SINGLE)
    inner = maps[:, 8:-8, 8:-8]
    assert max(np.abs(np.diff(inner, axis=axis)).max() for axis in (1, 2)) < 0.1
    gram = np.einsum("ahw,bhw->ab", maps, maps.conj())
    assert np.linalg.matrix_rank(gram) == coils


def test_phase_is_smooth_in_all_directions() -> None:
    stack = np.array(
        [smooth_phase((40, 50), z, np.random.default_rng(5)) for z in np.linspace(0, 1, 21)]
    )
    assert 0.5 * np.pi < np.abs(stack).max() < np.pi
    assert max(np.abs(np.diff(stack, axis=axis)).max() for axis in range(3)) < 0.4
    assert (stack[0] != smooth_phase((40, 50), 0, np.random.default_rng(6))).any()
    with pytest.raises(ConfigError, match="coil"):
        birdcage((8, 8), 0)
