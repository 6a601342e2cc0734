"""Sinograms that are none of line integrals, and sound ones of low dose and few views: discs in closed form."""

from __future__ import annotations

import re

import numpy as np
import pytest

from restore.datasets.ct.checks.consistency import findings, unseen
from restore.operators.ct.geometry import ParallelBeam, equispaced

MU = 0.02
BODY = ((6.0, -4.0, 40.0, MU), (18.0, 10.0, 9.0, 0.5 * MU), (-15.0, 12.0, 6.0, -MU))
"""x, y, radius in mm, 1/mm: water, bone, air."""


def scan(views: int = 90, arc: float = 180.0, n_det: int = 128) -> ParallelBeam:
    return ParallelBeam(equispaced(views, arc), n_det, 1.0, (100, 100))


def lines(geometry: ParallelBeam) -> np.ndarray:
    theta = np.asarray(geometry.angles)[:, None]
    u = np.arange(geometry.n_det) - (geometry.n_det - 1) / 2
    y = np.zeros(geometry.sinogram_shape)
    for x0, y0, radius, mu in BODY:
        distance = u - x0 * np.cos(theta) - y0 * np.sin(theta)
        y += 2 * mu * np.sqrt(np.clip(radius**2 - distance**2, 0, None))
    return y


def counted(geometry: ParallelBeam, photons: float, seed: int = 0) -> np.ndarray:
    """Line integrals after Poisson noise; a ray without any count is half a count."""
    counts = np.random.default_rng(seed).poisson(photons * np.exp(-lines(geometry)))
    return -np.log(np.maximum(counts, 0.5) / photons)


@pytest.mark.parametrize("views", [4, 8, 12, 30, 90, 128, 360])
@pytest.mark.parametrize("photons", [50.0, 300.0, 4096.0, 1e5, 1e9])
def test_sound_scans_of_any_dose_raise_nothing(views: int, photons: float):
    for seed, arc in enumerate((180.0, 360.0)):
        geometry = scan(views, arc)
        assert findings(counted(geometry, photons, seed), geometry, MU) == ()


def dead(y: np.ndarray) -> np.ndarray:
    y[:, 60] = 0
    return y


def hot(y: np.ndarray) -> np.ndarray:
    y[:, 70] += 1
    return y


def flat_first(y: np.ndarray) -> np.ndarray:
    y[0] = 0
    return y


WRONG = {
    "intensities": (lambda y: np.exp(-y), "intensities", "seem to be intensities"),
    "intensities, filled up": (
        lambda y: np.exp(-y) * (np.abs(np.arange(128) - 63.5) < 60),
        "intensities", "seem to be intensities",
    ),
    "counts": (lambda y: np.round(1e4 * np.exp(-y)), "intensities", r"brightest \(1.*e\+04\)"),
    "intensities of another scale": (lambda y: 0.4 * np.exp(-y), "perhaps intensities", "store -log"),
    "no minus sign": (lambda y: -y, "sign", "store them with the other sign"),
    "dead bin": (dead, "dead bins", r"bin\(s\) 60 read otherwise"),
    "hot bin": (hot, "dead bins", r"bin\(s\) 70 read otherwise"),
    "flat field as first view": (flat_first, "odd views", r"view\(s\) 0 of 90 differ.*100 %"),
    "air above zero": (lambda y: y + 0.7, "air", "read 0.* all alike.*factor of 2"),
    "air below zero": (lambda y: y - 0.3, "air", "read -0.* all alike"),
    "cut off": (lambda y: np.minimum(y, 1.0), "saturated", r"same largest value, 1:"),
    "lengths in cm": (lambda y: 10 * y, "level", "10 times as much as water|9.* times"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("photons", [500.0, 1e6])
def test_what_is_wrong_is_named(case: str, photons: float):
    change, cause, said = WRONG[case]
    geometry = scan()
    found = {
        f.cause: f.sentence for f in findings(change(counted(geometry, photons)), geometry, MU)
    }
    assert cause in found
    assert re.search(said, found[cause])


def test_a_slice_of_air_raises_nothing():
    geometry = scan()
    y = 0.02 * np.random.default_rng(1).standard_normal(geometry.sinogram_shape)
    assert findings(y, geometry, MU) == ()


def test_a_detector_that_sees_a_part_of_the_image():
    geometry = ParallelBeam(equispaced(90), 128, 0.1, (100, 100))
    (found,) = (f for f in findings(lines(geometry), geometry) if f.cause == "narrow detector")
    assert "sees 6.4 mm to a side of the axis, the image reaches 50 mm" in found.sentence


@pytest.mark.parametrize("views", [1, 2, 3])
def test_too_few_directions_are_said(views: int):
    found = unseen(scan(views))
    assert found is not None
    assert f"{views} direction(s) only" in found.sentence
