"""Noise level of a sinogram, and the photons of a ray, from its rays through air.

Called by the readers, the set-up and `restore.unknown_noise`; touches nothing but its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.median_deviation import std_by_median

EDGE_FRACTION = 0.03
"""Share of the detector at each end where rays through air are looked for."""

AIR_SHARE, SPREAD = 0.25, 4.0
"""Ends of views that are taken for air: the quarter whose means are least, and all whose mean lies above the middle of
theirs by so many deviations at most (of air alone, that middle lies 1.15 of them too low). A body that reaches the ends
in other views is left out so."""

AIR_LIMIT = 0.05
"""Largest median line integral of rays that pass for air."""

MIN_SAMPLES = 64

UNLIKE = 3.0
"""Factor between a stated level and that of air: a filter before the body takes light off the ends, rebinning averages
a few rays."""


def sinogram_noise_std(sinogram: NDArray[Any]) -> float | None:
    """Standard deviation of post-log line integrals through air, from the detector's ends in the views that show air.

    sinogram: (views, detectors) or (slices, views, detectors). A ray of line integral y has about
    exp(y / 2) times this deviation, and 1 / std^2 estimates the unattenuated counts. Returns None
    where no end looks like air, or where air holds no noise.
    """
    count = max(2, round(EDGE_FRACTION * sinogram.shape[-1]))
    ends = np.stack([sinogram[..., :count], sinogram[..., -count:]], dtype=np.float64)
    if ends.size < MIN_SAMPLES:
        return None
    air = _through_air(ends.reshape(-1, count))
    centre = np.median(air)
    if not abs(centre) < AIR_LIMIT:
        return None
    level = float(std_by_median(air - centre))
    return level if np.isfinite(level) and level > 0 else None


def _through_air(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rows (ends of views, bins) that show the least."""
    bins = ends.shape[1]
    means = ends.mean(axis=1)
    enough = max(round(AIR_SHARE * len(ends)), -(-MIN_SAMPLES // bins))
    least = np.argsort(means, kind="stable")[:enough]
    # Deviations from a row's own mean do not depend on which means are chosen; they lose 1/bins of the variance.
    level = std_by_median(ends[least] - means[least, None]) * (bins / (bins - 1)) ** 0.5
    return ends[means <= np.median(means[least]) + SPREAD * level * bins**-0.5]


def photons_of_air(sinograms: Iterable[NDArray[Any]]) -> float | None:
    """Counts of a ray through air, 1/std^2 of the median level of the sinograms; None where none of them shows air.

    With it rays are weighted by what comes through, exp(-y), as the law of Beer and Lambert has it
    (`restore.noise.PostLogPoisson`): one level for all would trust thick parts far too much.
    """
    levels = [level for y in sinograms if (level := sinogram_noise_std(y)) is not None]
    return float(np.median(levels)) ** -2 if levels else None


def note_of_air(photons: float) -> str:
    """The note on a noise that nobody gave, by `photons_of_air`."""
    return (
        f"the noise was not given: estimated as {photons:.3g} photons a ray, from rays through air "
        f"(noise_std {photons**-0.5:.3g}); rays are weighted by what comes through"
    )


def completed_by_air(
    photons: float | None,
    noise_std: float | None,
    views: Callable[[], NDArray[Any]],
    notes: list[str],
) -> tuple[float | None, float | None]:
    """Photons and noise of a ray through air where a file states one of them, or neither; `notes` says what was done.

    views: a sinogram, asked for where neither is stated. None where it shows no air.
    """
    if photons is not None:
        return photons, photons**-0.5 if noise_std is None else noise_std
    if noise_std is not None:
        photons = noise_std**-2
        notes.append(
            f"noise_std {noise_std:.3g} is that of a ray through air, {photons:.3g} photons a ray: rays are weighted "
            "by what comes through (--noise-std is one level for all)"
        )
    elif (photons := photons_of_air([views()])) is not None:
        notes.append(note_of_air(photons))
        noise_std = photons**-0.5
    return photons, noise_std


def doubt_of_air(stated: float | None, sinograms: Iterable[NDArray[Any]]) -> str:
    """A sentence where rays through air are much noisier or smoother than stated; "" else, or where no ray shows air.

    stated: standard deviation of a ray through air, as a file, its photons or a caller say; None or 0 says nothing.
    """
    found = [level for y in sinograms if (level := sinogram_noise_std(y)) is not None]
    if not stated or not found:
        return ""
    level = float(np.median(found))
    if stated / UNLIKE <= level <= stated * UNLIKE:
        return ""
    worse = "noise stays in the result" if level > stated else "details are lost"
    return (
        f"the noise of a ray through air is stated as {stated:.3g} ({stated**-2:.3g} photons), and the rays at the "
        f"detector's ends have {level:.3g} ({level**-2:.3g} photons): where the latter is right, state it, for {worse}"
    )
