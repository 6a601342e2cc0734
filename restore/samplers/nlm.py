"""NLM: non-local means, a pixel as the mean of those whose surroundings look alike; a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor

from restore.config import setting
from restore.noise import Exact
from restore.noise_estimation import white_noise_std
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.arrays import Planes, by_item


@dataclasses.dataclass(frozen=True)
class NonLocalMeans(Sampler):
    """Weights exp(-max(d^2 - 2 s^2, 0) / (strength s)^2), d^2 the mean squared difference of two patches, s the noise.

    Buades, Coll, Morel, "A non-local algorithm for image denoising", CVPR 2005, in the fast form of Darbon and
    others, ISBI 2008 (`skimage.restoration.denoise_nl_means`). The patches of a colour picture are compared in
    all channels at once, those of a complex one in both parts. Where the noise is not known it is estimated
    (`restore.noise_estimation`); an exact picture stays as it is. On 128 x 128 photographs with noise of 0.05 to 0.2
    strengths of 0.55 to 0.7 are within 0.3 dB of the best; patches of 3 pixels are better for less noise. On the CPU.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    fits_data: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("denoise",)
    needs: ClassVar[frozenset[str]] = frozenset({"linear", "identity"})
    reference: ClassVar[str] = "Buades, Coll, Morel: non-local image denoising, CVPR 2005"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"strength": (0.4, 0.5, 0.6, 0.7, 0.9)}

    strength: float = setting(0.6, "of the smoothing, relative to the noise", above=0)
    patch: int = setting(5, "side of the patches in pixels", between=(1, 31))
    reach: int = setting(
        6, "farthest centre of a patch that is compared, in pixels", between=(1, 64)
    )

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step."""
        from skimage.restoration import denoise_nl_means

        y, levels = problem.unit_y, _levels(problem)

        def denoised(planes: Planes, k: int) -> Planes:
            if not levels[k]:
                return planes
            # scikit-image 0.26 gives nonsense for one channel that leads: such planes go in as they are.
            single = len(planes) == 1
            found = denoise_nl_means(
                planes[0] if single else planes, self.patch, self.reach, self.strength * levels[k],
                sigma=levels[k], channel_axis=None if single else 0,
            )  # fmt: skip
            return found[None] if single else found

        yield Step(0, 1, 0.0, by_item(y, problem.item_ndim, denoised), 0)


def _levels(problem: Problem) -> list[float]:
    """Noise deviation of every item: as stated (root mean square over it), else estimated; 0 where there is none."""
    y, ndim = problem.unit_y, problem.item_ndim
    items = y.reshape(-1, *y.shape[y.ndim - ndim :])
    precision = problem.precision
    if isinstance(problem.noise, Exact):
        return [0.0] * len(items)
    if precision is None:
        found = white_noise_std(items).reshape(len(items), -1)
        return [float(level) for level in (found**2).mean(1) ** 0.5]
    p: Tensor = torch.as_tensor(precision, device=y.device, dtype=y.real.dtype)
    variance = (1 / p).expand(y.shape).reshape(len(items), -1).mean(1)
    return [float(v) ** 0.5 for v in variance]
