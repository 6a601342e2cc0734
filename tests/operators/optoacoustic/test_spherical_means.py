"""Spherical means against the closed form of discs and balls, and their inversion."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.operators.optoacoustic.shells import pixel_centres
from restore.operators.optoacoustic.spherical_means import SphericalMeans
from restore.operators.verify import check

BALL = 0.03  # discretisation: pixels that the rim cuts, shells half a pixel thick; 0.019 in the plane, 0.021 in space
MIDDLE = 0.02  # the same at the middle of the ball, far from the rim; 0.003 seen
INVERTED = {2: 0.12, 3: 0.2}  # discretisation of the rim, relative to the ball; 0.08 and 0.16 seen
EVEN = 0.05  # the grain of two sub-points along each axis of a pixel; 0.02 seen


def plane(pixels: int = 48, **told: float) -> SphericalMeans:
    return SphericalMeans.circle(
        (pixels, pixels), detectors=2 * pixels, pixel_mm=48 / pixels, radius_mm=45.0, **told
    )


def space() -> SphericalMeans:
    return SphericalMeans.sphere((16, 16, 16), detectors=120)


def ball(op: SphericalMeans, radius: float, middle: tuple[float, ...]) -> tuple[Tensor, np.ndarray]:
    """The image of a ball, its rim by the share of pixels within, and the exact means (detectors, radii).

    The circle about d cuts the disc in an arc of half-angle acos((R^2 + r^2 - a^2) / (2 R r)); the sphere cuts the
    ball in a cap of (a^2 - (R - r)^2) / (4 R r) of its area, with R the distance of d from the middle.
    """
    away = np.linalg.norm(pixel_centres(op.in_shape, op.pixel_mm) - np.array(middle), axis=1)
    image = np.clip((radius - away) / op.pixel_mm + 0.5, 0, 1).reshape(op.in_shape)
    far = np.linalg.norm(op.detectors_mm.numpy() - np.array(middle), axis=1)[:, None]
    r = op.radii_mm[None]
    if len(middle) == 3:
        return torch.from_numpy(image).float(), np.clip(
            (radius**2 - (far - r) ** 2) / (4 * far * r), 0, None
        )
    angle = np.arccos(np.clip((far**2 + r**2 - radius**2) / (2 * far * r), -1, 1))
    return torch.from_numpy(image).float(), angle / math.pi


def error(got: Tensor | np.ndarray, wanted: Tensor | np.ndarray) -> float:
    return float(
        np.linalg.norm(np.asarray(got) - np.asarray(wanted)) / np.linalg.norm(np.asarray(wanted))
    )


@pytest.mark.parametrize(
    ("op", "radius", "middle"), [(plane(), 14.0, (1.0, -2.0)), (space(), 5.0, (1.0, -2.0, 0.5))]
)
def test_a_ball_by_its_closed_form(
    op: SphericalMeans, radius: float, middle: tuple[float, ...]
) -> None:
    image, means = ball(op, radius, middle)
    assert error(op(image), means) < BALL
    found = op.pinv(torch.from_numpy(means).float())
    assert error(found, image) < INVERTED[len(middle)]
    at = tuple(round(m + (n - 1) / 2) for m, n in zip(middle, op.in_shape, strict=True))
    assert float(found[at]) == pytest.approx(1, abs=MIDDLE)


def test_the_error_falls_with_the_pixels() -> None:
    errors = []
    for pixels in (24, 48):
        image, means = ball(plane(pixels), 14.0, (1.0, -2.0))
        errors.append(error(plane(pixels)(image), means))
    assert errors[1] < errors[0] / 1.8


def test_a_circle_within_a_constant_has_mean_one() -> None:
    op = SphericalMeans(torch.zeros(1, 2), (32, 32), 1.0, 10, 0.5, 6.0)
    assert float((op(torch.ones(32, 32)) - 1).abs().max()) < EVEN


def test_a_limited_view_keeps_its_intensity() -> None:
    op = plane(arc_deg=180.0)
    image, means = ball(op, 10.0, (0.0, 0.0))
    found = op.pinv(torch.from_numpy(means).float())
    assert float(found[23:25, 23:25].mean()) == pytest.approx(1, abs=MIDDLE)
    # what lies along the missing directions is blurred: worse than all around, better than nothing
    assert 2 * error(plane().pinv(plane()(image)), image) < error(found, image) < 0.6


def test_volumes_keep_the_laws() -> None:
    op = SphericalMeans.sphere((4, 5, 3), detectors=15, cap_deg=120.0)
    assert check(op, laws=["shapes", "adjoint", "linear", "pinv"]).ok


@pytest.mark.parametrize(
    ("make", "kind", "what"),
    [
        (
            lambda: SphericalMeans(torch.zeros(4, 3), (8, 8), 1.0, 9, 1.0, 1.0),
            ShapeError,
            "detectors_mm",
        ),
        (lambda: SphericalMeans(torch.zeros(4, 2), (8,), 1.0, 9, 1.0, 1.0), ShapeError, "shape"),
        (
            lambda: SphericalMeans(torch.full((4, 2), math.nan), (8, 8), 1.0, 9, 1.0, 1.0),
            ConfigError,
            "not finite",
        ),
        (
            lambda: SphericalMeans(torch.zeros(4, 2), (8, 8), 1.0, 9, 1.0, 0.0),
            ConfigError,
            "first_mm",
        ),
        (lambda: SphericalMeans(torch.zeros(4, 2), (8, 8), 1.0, 2, 1.0, 1.0), ConfigError, "radii"),
        (
            lambda: SphericalMeans.circle((8, 8), detectors=4, radius_mm=5.0),
            ConfigError,
            "radius_mm",
        ),
        (lambda: SphericalMeans.circle((8, 8), detectors=0), ConfigError, "detectors"),
        (
            lambda: SphericalMeans.sphere((8, 8, 8), detectors=5, cap_deg=200.0),
            ConfigError,
            "cap_deg",
        ),
    ],
)
def test_refusals(make, kind, what) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(kind, match=what):
        make()
