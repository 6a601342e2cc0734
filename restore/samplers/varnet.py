"""Unrolled network: steps towards the data by turns with those of a network that was trained on such scans.

Sriram and others, "End-to-end variational networks for accelerated MRI reconstruction", MICCAI 2020; Yiasemis and
others, "Recurrent variational network", CVPR 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from restore.priors.cascade import CascadePrior, LeastSquares
from restore.priors.varnet import VarNetConfig
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.levels import NoiseLevel


@dataclasses.dataclass(frozen=True)
class Unrolled(Sampler):
    """z, h' = x + N_k(x, g, h), g = A^H (A x - y) / L; x' = argmin ||A x - y||^2 / L + w_k ||x - z||^2: one a cascade.

    L is the largest eigenvalue of A^H A. There is nothing to set: the networks N_k and the weights w_k are the model's.
    It serves the acceleration, the mask and the coils that its card names, and says where a scan has others.

    Differs from the papers:
    - coil maps are the operator's (of the file, or by ESPIRiT), not a second network's; so any number of coils and any
      sampling is measured against, also off a grid, though not learnt.
    - the steps are taken in the image and not in k-space, where the published ones are the same step through F S.
    - a step ends nearest to data and network, by twenty conjugate gradients (as MoDL does), not after one gradient step
      beside the network, which the networks see instead: 26.0 dB after 213 steps of training (with ten of them) on a
      slice of a T1 head at 4x, against 25.5 dB after 341 with gradient steps (CG-SENSE 24.6 dB).
    - the start is the classical image (ten steps of CG-SENSE), not the zero-filled one.
    - one small U-Net that is told the number of the step stands for one U-Net a step; of the recurrent network's hidden
      states the planes h are left, at the resolution of the image.
    - all steps are scored in training, by root mean squares and not by SSIM: a time limit finds an image after any.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("cascade",)
    kinds: ClassVar[tuple[str, ...]] = ("mri",)
    components: ClassVar[bool] = False
    reference: ClassVar[str] = (
        "Sriram and others: End-to-end variational networks, MICCAI 2020; Yiasemis and others: Recurrent variational "
        "network, CVPR 2022"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}}

    @property
    def draws_noise(self) -> bool:
        """None is: the answer is one image."""
        return False

    def steps(self, problem: Problem, prior: CascadePrior, draws: Draws) -> Iterator[Step]:
        """One step a cascade."""
        count = prior.model.cascades
        data = LeastSquares(problem.unweighted)
        for k, x in enumerate(prior.walk(problem.degraded, data)):
            yield self.step(NoiseLevel(k, count, 0.0, 0.0, 0.0), x, prior.evaluations)

    def cost(self, problem: Problem | None = None) -> int:
        """the cascades of the model, 6 by default

        Whatever the problem; a model of another number has that.
        """
        return VarNetConfig().cascades
