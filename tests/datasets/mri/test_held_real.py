"""Partial Fourier k-space whose image is held real: a phantom with a smooth phase, by numpy, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.scan import SetupOptions
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError
from restore.front_door import solve_problem
from restore.priors.store import load_prior

N, SHORT = 48, 8
"""Pixels along a side; columns before the middle of k-space that were measured."""
NOISE = 0.003
REAL = SetupOptions(partial_fourier="real")
CPU = torch.device("cpu")
ROWS, COLUMNS = np.mgrid[-1 : 1 : N * 1j, -1 : 1 : N * 1j]  # type: ignore[misc]
BEHIND = np.arange(N) >= N // 2 - SHORT


def phantom() -> NDArray[np.float64]:
    """Positive, with edges and stripes."""
    head = ((ROWS / 0.8) ** 2 + (COLUMNS / 0.65) ** 2 < 1) * 0.6
    hole = ((ROWS + 0.3) ** 2 + (COLUMNS + 0.1) ** 2 < 0.03) * 0.5
    stripes = (np.sin(14 * COLUMNS + 9 * ROWS) > 0.5) * 0.3
    return np.asarray(head - hole + stripes * (head > 0) * (hole == 0))


def smooth() -> NDArray[np.complex128]:
    """A phase of second order."""
    turned = 1.2 * ROWS - 1.5 * COLUMNS + 1.1 * ROWS * COLUMNS + 0.8 * COLUMNS**2 + 0.4
    return np.asarray(np.exp(1j * turned))


def coils() -> NDArray[np.complex128]:
    """Four, with sum |S|^2 = 1."""
    places = ((1, 0), (-1, 0), (0, 1), (0, -1))
    seen = np.stack(
        [
            np.exp(-((ROWS - a) ** 2 + (COLUMNS - b) ** 2) / 1.5 + 1j * (a * ROWS + b * COLUMNS))
            for a, b in places
        ]
    )
    return np.asarray(seen / np.linalg.norm(seen, axis=0))


def transform(
    image: NDArray[np.complex128], axes: tuple[int, ...] = (-2, -1)
) -> NDArray[np.complex128]:
    moved = np.fft.fftn(np.fft.ifftshift(image, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(moved, axes=axes)


def measured(phase: NDArray[np.complex128]) -> NDArray[np.complex64]:
    generator = np.random.default_rng(0)
    whole = transform(coils() * (phantom() * phase))
    noise = generator.standard_normal((2, *whole.shape))
    return ((whole + NOISE * (noise[0] + 1j * noise[1])) * BEHIND).astype(np.complex64)


def scan(
    phase: NDArray[np.complex128] | None = None, mask: NDArray[np.bool_] = BEHIND, maps: bool = True
) -> MRIScan:
    kspace = measured(smooth() if phase is None else phase) * mask
    stored = coils().astype(np.complex64)
    return MRIScan(
        path=Path("partial.h5"), slice_indices=(0,), kspace=LazyStack((1, 4, N, N), lambda i: kspace),
        mask=mask, recon_shape=(N, N), noise_std=NOISE,
        maps=LazyStack((1, 4, N, N), lambda i: stored) if maps else None,
    )  # fmt: skip


def error(of: MRIScan, sampler: str, options: SetupOptions) -> float:
    """Of the magnitude, relative."""
    problem = of.setup(options).problem(range(1), CPU)
    prior = load_prior("medical") if sampler == "dds" else None
    steps = {"n_steps": 4} if sampler == "dds" else {}
    found = solve_problem(problem, prior=prior, sampler=sampler, **steps).image
    return off(of.in_source_units(found)[0])


def off(magnitude: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(magnitude - phantom()) / np.linalg.norm(phantom()))


@pytest.mark.parametrize("sampler", ["zerofilled", "cgsense", "tv", "wavelet", "dds"])
def test_a_smooth_phase_tells_the_other_side(sampler: str) -> None:
    best = min(error(scan(), one, SetupOptions()) for one in ("zerofilled", "cgsense"))
    bar = 0.55 if sampler == "zerofilled" else 0.4  # 0.39 seen, and 0.19 to 0.22 of the others
    assert error(scan(), sampler, REAL) < bar * best
    if sampler == "cgsense":  # maps estimated from the middle
        assert error(scan(maps=False), sampler, REAL) < bar * best


def test_zerofilled_is_homodyne_reconstruction() -> None:
    """By numpy: the phase of the symmetric middle under a Hann window, twice the samples of one side, the real part."""
    kspace, maps, place = measured(smooth()), coils(), np.arange(N) - N // 2
    window = np.where(abs(place) <= SHORT, np.cos(np.pi / 2 * place / (SHORT + 1)) ** 2, 0)
    along_rows = np.cos(np.pi / 2 * place / (N // 2 + 1)) ** 2
    back = lambda k: np.conj(transform(np.conj(k)))  # noqa: E731
    low = (maps.conj() * back(kspace * window * along_rows[:, None])).sum(0)
    # Both of 0 and -N/2 are their own other side; rows of either sign were measured.
    whole = (maps.conj() * back(kspace * np.where(place > SHORT, 2, 1))).sum(0)
    expected = np.abs((whole * np.conj(low / abs(low))).real)
    problem = scan().setup(REAL).problem(range(1), CPU)
    found = problem.linear.gridded(problem.unit_y)[0].abs().numpy() * problem.scaling.scale
    # Single precision of some thousand sums, 1e-7 each; the phase of nearly no signal is worth nothing outside.
    inside = phantom() > 0
    assert np.abs(found - expected)[inside].max() < 1e-4 * expected.max()


def test_phase_that_is_not_smooth_is_lost_and_said() -> None:
    spot = (ROWS - 0.3) ** 2 + (COLUMNS - 0.2) ** 2 < 0.01
    one = scan(smooth() * np.where(spot, 1j, 1))
    problem = one.setup(REAL).problem(range(1), CPU)
    result = solve_problem(problem, sampler="cgsense")
    shown = one.in_source_units(result.image)[0]
    assert shown[spot].mean() < 0.85 * phantom()[spot].mean()
    assert (
        problem.misfit(problem.scaling.to_unit(result.image)) > 3
    )  # which raises the alarm of `restore recon`
    (note,) = [note for note in one.notes if "partial Fourier" in note]
    assert "8 columns before and 23 behind" in note
    assert "phase that is not smooth" in note


def test_noise_of_its_own_for_each_slice_and_no_noise_told() -> None:
    one = scan()
    setup = dataclasses.replace(one.setup(REAL), levels=(2 * NOISE,))
    assert solve_problem(setup.problem(range(1), CPU), sampler="tv", n_steps=2).image.shape == (
        1,
        N,
        N,
    )
    unknown = dataclasses.replace(setup, levels=(), noise=None).problem(range(1), CPU)
    notes = solve_problem(unknown, sampler="cgsense").notes
    assert any("from the corners of k-space" in note for note in notes)


FEW = np.arange(N) >= N // 2 - 2


@pytest.mark.parametrize(
    ("mask", "options", "words"),
    [
        (np.ones(N, bool), {}, "no side was left out"),
        (
            FEW,
            {},
            "5 columns about the middle of k-space are fully sampled on both sides, expected",
        ),
        (BEHIND, {"remove_phase": False}, "leave out --keep-phase"),
        (BEHIND, {"maps": "joint"}, "leave out --maps joint"),
        (BEHIND, {"maps": "espirit", "maps_sets": 2}, "one set of maps"),
    ],
)
def test_refusals(mask: NDArray[np.bool_], options: dict[str, object], words: str) -> None:
    one = scan(mask=mask)
    for refuses in (one.check, one.setup):
        with pytest.raises(ConfigError, match=words):
            refuses(dataclasses.replace(REAL, **options))


PROFILE = np.cos(np.pi * (np.arange(16) - 8) / 16) ** 2
"""Of a slab."""


def volume(mask: NDArray[np.bool_]) -> CartesianVolumeScan:
    """Slices of a slab, each turned further than the one before."""
    along = PROFILE * np.exp(0.1j * np.arange(16))
    slices = along[:, None, None] * (phantom() * smooth())
    whole = transform(coils() * slices[:, None], axes=(0, 2, 3))
    kspace = (whole * mask[:, None]).astype(np.complex64)
    stored = coils().astype(np.complex64)
    return CartesianVolumeScan(
        path=Path("volume.h5"), slice_indices=tuple(range(16)), recon_shape=(N, N), mask=mask, noise_std=0.0,
        partitions=LazyStack(kspace.shape, lambda d: kspace[d]),
        slice_maps=LazyStack(kspace.shape, lambda d: stored),
    )  # fmt: skip


def test_a_volume_that_lacks_partitions_and_columns() -> None:
    mask = np.ones((16, N, N), bool) & BEHIND
    mask[:4] = False
    truth = PROFILE[:, None, None] * phantom()
    errors = []
    for options in (SetupOptions(), REAL):
        one = volume(mask)
        problem = one.setup(options).problem(range(16), CPU)
        shown = one.in_source_units(solve_problem(problem, sampler="cgsense", n_steps=15).image)
        errors.append(np.linalg.norm(shown - truth) / np.linalg.norm(truth))
    assert errors[1] < 0.5 * errors[0], errors
    with pytest.raises(ConfigError, match="no side was left out"):
        volume(np.ones((16, N, N), bool)).check(REAL)
