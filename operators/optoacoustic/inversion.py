"""What is done to the means of each detector before they are projected back: the exact inversions for closed surfaces.

Called by `spherical_means` alone; matrices over the radii, in double precision. In the plane the formula of Finch,
Haltmeier, Rakesh, "Inversion of spherical means and the wave equation in even dimensions", SIAM J. Appl. Math. 68,
2007; in space universal back-projection: Xu, Wang, "Universal back-projection algorithm for photoacoustic computed
tomography", Phys. Rev. E 71, 2005. Both are time reversal for detectors all around in a medium of one speed of sound.
"""

from __future__ import annotations

import numpy as np


def plane_filter(radii_mm: np.ndarray) -> np.ndarray:
    """(radii, radii): M -> q(s) = integral of d/dr(r dM/dr) log|r^2 - s^2| dr; the image is the mean over the
    detectors of q(|x - detector|). The logarithm is integrated exactly over each step."""
    step, slope = float(radii_mm[1] - radii_mm[0]), _slope(radii_mm)
    half = (radii_mm - step / 2, radii_mm + step / 2)
    kernel = sum(
        _integrated_log(half[1][None] + sign * radii_mm[:, None])
        - _integrated_log(half[0][None] + sign * radii_mm[:, None])
        for sign in (-1, 1)
    )
    return np.asarray(kernel @ slope @ (radii_mm[:, None] * slope))


def space_filter(radii_mm: np.ndarray) -> np.ndarray:
    """(radii, radii): M -> b = 2 p - 2 r dp/dr with the pressure p = d(r M)/dr, which is 2 (M - r M' - r^2 M'')."""
    pressure = _slope(radii_mm) * radii_mm[None]
    return 2 * (pressure - radii_mm[:, None] * (_slope(radii_mm) @ pressure))


def _slope(radii_mm: np.ndarray) -> np.ndarray:
    """Central differences; beyond the first and last radius the means are zero."""
    n = len(radii_mm)
    return (np.eye(n, k=1) - np.eye(n, k=-1)) / (2 * (radii_mm[1] - radii_mm[0]))


def _integrated_log(u: np.ndarray) -> np.ndarray:
    """The antiderivative of log|u|, zero at zero."""
    size = np.abs(u)
    return u * np.log(np.where(size > 0, size, 1)) - u
