"""Few-step reconstruction: the steps of a model that was distilled for one family of operators, as it learnt them.

Chen, Zhang, Li, Zhao, Yu, Zhao, Chen, Zhang, "Invertible diffusion models for compressed sensing" (IDM), IEEE TPAMI
2025; models are made by `restore distill`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

from restore.config import setting
from restore.priors.distilled import DistilledPrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.samplers.toolbox.consistency import ProximalStep
from restore.samplers.toolbox.levels import place
from restore.samplers.toolbox.smooth_start import smoothest
from restore.samplers.toolbox.wired import coupled, moved

CG_ITERS = 20
"""Of a data step without closed form, in training as in the sampler."""


@dataclasses.dataclass(frozen=True)
class FewStep(Sampler):
    """The chain that a distilled model was trained as, end to end.

    From the smoothest image x_0 = v_0 that explains y (`toolbox.smooth_start`), with the levels s_k, weights w_k and
    mixes c_k of the model's card:
    x0 = D(x, s_k); xh = argmin_v w_k ||A v - y||^2 / 2 + ||v - x0||^2 / 2; f = xh + s_{k+1}/s_k (x - x0);
    (x, v) <- ((1 - c_k) f + c_k v, x). The last step ends at xh. Nothing is drawn: the answer is one image, near the
    posterior mean, since the training's loss is the distance from the truth.

    Differs from the paper:
    - it begins at A^H y; with 70 % of the pixels missing that is 14 dB worse a start than the smoothest image.
    - the data step is the proximal point with a learnt weight, where the paper subtracts A^H (A x - y).
    - steps are invertible, the blocks inside the network are not: a U-Net of two million numbers fits. Memory of a
      training therefore holds one step, where the paper's holds one block.
    - the last step is not wired, so that the result fits the data; the paper adds the second stream by a learnt share.
    - no injectors: the measurement enters by the data steps alone, and the network keeps the denoiser's shape.
    - the levels are told to the network, as the denoiser was; the paper removes them.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("distilled",)
    tasks: ClassVar[tuple[str, ...]] = ("superres", "inpaint", "deblur", "denoise")
    reference: ClassVar[str] = (
        "Chen and others: Invertible diffusion models for compressed sensing, IEEE TPAMI 2025"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"tuned": {}, "published": {}}

    n_steps: int = setting(
        3, "evaluations, as many as the model was distilled for", between=(1, 100)
    )

    @property
    def draws_noise(self) -> bool:
        """None is: the answer is one image."""
        return False

    def steps(self, problem: Problem, prior: DistilledPrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds the estimate after its data step."""
        chain = prior.steps
        consistent = ProximalStep(problem, cg_iters=CG_ITERS, term=problem.unweighted)
        x = v = smoothest(problem)
        for k, (sigma, weight, carry) in enumerate(
            zip(chain.sigmas, chain.weights, chain.carries, strict=True)
        ):
            x0 = prior(x, sigma)
            xh = consistent(x0, weight)
            yield self.step(place(k, chain.count, sigma), xh, prior.evaluations)
            if k < chain.count - 1:
                x, v = coupled(moved(x, x0, xh, carry), v, chain.mixes[k]), x
