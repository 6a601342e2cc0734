"""Unsupervised Wiener: a Wiener filter that finds the strengths of noise and image itself; a classical baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from restore.config import setting
from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.arrays import Planes, by_item
from restore.samplers.toolbox.response import is_circular, point_response


@dataclasses.dataclass(frozen=True)
class UnsupervisedWiener(Sampler):
    """Posterior mean of a stationary Gaussian image behind a blur, its two precisions drawn together with it.

    Orieux, Giovannelli, Rodet, "Bayesian estimation of regularization and point spread function parameters for
    Wiener-Hunt deconvolution", JOSA A 2010 (`skimage.restoration.unsupervised_wiener`, whose chain the settings are
    those of). A stated noise is not used. Every channel has its own chain; its numbers come from the seed and the
    item's name. On the CPU.

    The method wants periodic pictures. One that the blur mirrors at its border is continued to a period: mirrored, and,
    where the kernel is not its own mirror image (motion), corrected by what the two blurs make of an estimate. On
    128 x 128 photographs with noise of 0.01 that is worth 5 dB to a Gaussian of 1.6 pixels against taking them for
    periodic, and 11 dB to a motion of 9 pixels; a second round adds 0.1 to 1.5 dB to motion and nothing to others.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ("deblur",)
    reference: ClassVar[str] = "Orieux, Giovannelli, Rodet: Wiener-Hunt deconvolution, JOSA A 2010"
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}

    threshold: float = setting(
        1e-4, "of change of the mean, relative, at which the chain ends", above=0
    )
    burn_in: int = setting(15, "first draws that do not count", at_least=0)
    at_least: int = setting(30, "draws that count, at least", at_least=1)
    at_most: int = setting(200, "draws in all, at most", at_least=2)
    rounds: int = setting(
        2, "of continuing a picture whose kernel is not mirror-symmetric", at_least=1
    )

    def _check_together(self) -> None:
        if self.burn_in + self.at_least > self.at_most:
            raise ConfigError(
                f"unsupervised-wiener: burn_in {self.burn_in} and at_least {self.at_least} draws are more than "
                f"at_most {self.at_most}"
            )

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step. Raises ConfigError for complex images and for measurements smaller than the image."""
        operator, y = (
            problem.linear,
            problem.unit_y.to(torch.promote_types(problem.unit_y.dtype, torch.float64)),
        )
        same = operator.in_shape == operator.out_shape
        if not same or y.is_complex() or min(operator.in_shape[-2:]) < 3:
            raise ConfigError(
                "unsupervised-wiener is for real pictures of the image's own size (boundary circular or reflect), at "
                f"least 3 x 3, not for {operator}; use tv or richardson-lucy"
            )
        operator, ndim = operator.to(torch.float64), problem.item_ndim
        response = point_response(operator, y)
        if is_circular(operator, response):
            psf = response.cpu().numpy()
            x = by_item(y, ndim, lambda v, k: self._restored(v, psf, draws.seeds[k]))
        else:
            x = self._mirrored(operator, y, response, ndim, draws.seeds)
        yield Step(0, 1, 0.0, x.to(problem.unit_y.dtype), 0)

    def _mirrored(
        self, operator: LinearOperator, y: Tensor, response: Tensor, item_ndim: int, seeds: tuple[int, ...]
    ) -> Tensor:  # fmt: skip
        """Of pictures that the blur mirrors about their outermost pixels: a period is (2 H - 2, 2 W - 2)."""
        height, width = response.shape
        kernel = response.new_zeros(2 * height - 2, 2 * width - 2)
        kernel[:height, :width] = response
        kernel = kernel.roll((-(height // 2), -(width // 2)), (0, 1))
        transfer = torch.fft.rfft2(kernel)
        middle = (kernel.shape[0] // 2, kernel.shape[1] // 2)
        psf = kernel.roll(middle, (0, 1)).cpu().numpy()
        x = operator.pinv(y)
        for _ in range(1 if _symmetric(kernel) else self.rounds):
            blurred = torch.fft.irfft2(transfer * torch.fft.rfft2(_mirror(x)), s=kernel.shape)
            period = _mirror(y - operator(x)) + blurred  # where y was measured this is y
            found = by_item(period, item_ndim, lambda v, k: self._restored(v, psf, seeds[k]))
            x = found[..., :height, :width]
        return x

    def _restored(self, planes: Planes, psf: Planes, seed: int) -> Planes:
        """planes: (channels, H, W), periodic. psf: (H, W), its middle at (H // 2, W // 2)."""
        from skimage.restoration import unsupervised_wiener

        chain = {
            "threshold": self.threshold, "burnin": self.burn_in, "min_num_iter": self.at_least,
            "max_num_iter": self.at_most,
        }  # fmt: skip
        rng = np.random.default_rng(seed)
        found = [
            # A constant plane has no detail whose strength could be drawn.
            unsupervised_wiener(plane, psf, user_params=chain, clip=False, rng=rng)[0]
            if np.ptp(plane) > 0
            else plane / psf.sum()
            for plane in planes
        ]
        return np.stack(found)


def _mirror(x: Tensor) -> Tensor:
    """One period of the picture mirrored about its outermost rows and columns."""
    x = torch.cat([x, x[..., 1:-1, :].flip(-2)], -2)
    return torch.cat([x, x[..., 1:-1].flip(-1)], -1)


def _symmetric(kernel: Tensor) -> bool:
    """Whether a kernel with its middle at (0, 0) is its own mirror image along rows and along columns."""
    mirrored = [kernel.flip(axis).roll(1, axis) for axis in (0, 1)]
    # Kernels are stored in single precision: 6e-8 of the largest value.
    return all(bool((m - kernel).abs().max() <= 1e-6 * kernel.abs().max()) for m in mirrored)
