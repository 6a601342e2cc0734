"""Whether the noise level that a user states for a volume is one that the volume shows.

Called by the tasks. Pure functions of arrays. What a volume shows errs upwards, for its texture looks like noise: a
level far above it is wrong, one below it only where the difference is more than texture.
"""

from __future__ import annotations

import math

import numpy as np

from restore.pipelines.volume.noise_level import BACKGROUND, Levels
from restore.pipelines.volume.noise_spectrum import NoiseSpectrum
from restore.unexplained import TOO_BAD
from restore.unknown_noise import FINE_TEXTURE, TOO_GOOD


def doubts_of_level(
    stated: float, scale: float, levels: Levels, spectrum: NoiseSpectrum | None
) -> list[str]:
    """A note where a stated deviation and what is seen of the noise contradict each other.

    scale: the intensity range, in the volume's units as all of them. levels: of the slices, by their finest wavelets,
    which take texture for noise, or by their background, which has none. spectrum: of the flattest patches, None where
    there are none. The louder of the two counts: wavelets miss noise that was interpolated, patches lie where the noise
    is weak.
    """
    flat = 0.0 if spectrum is None else spectrum.std
    usual, most = (max(float(np.quantile(levels.of, q)), flat) for q in (0.5, 0.9))
    texture = 0.0 if levels.found_in == BACKGROUND else FINE_TEXTURE * scale
    level = f"the noise is stated as {stated:.3g}"
    if most < TOO_GOOD * stated:
        return [f"{level}, and the volume shows {most:.3g} at most: details were lost for it"]
    if usual > math.hypot(TOO_BAD * stated, texture):
        return [f"{level}, and the volume shows about {usual:.3g}: noise was left in it"]
    return []
