"""DiffPIR: the denoised image is fitted to the data by a proximal step, and noise is put back, partly the old one.

Zhu, Zhang, Liang, Cao, Wen, Timofte, Van Gool, "Denoising diffusion models for plug-and-play image restoration",
CVPR workshops (NTIRE) 2023.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import Tensor

from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.priors.adapter import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers import schedules
from restore.samplers.base import Sampler, finite
from restore.samplers.consistency import ProximalStep
from restore.samplers.guidance import blank, check_prior

_PUBLISHED: dict[str, Any] = {
    "n_steps": 100, "schedule": "quadratic", "start": "observed", "lam": 0.25, "zeta": 0.1, "last_data_step": False,
    "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DiffPIR(Sampler):
    """Denoising diffusion model for plug-and-play image restoration.

    n_steps: network evaluations. schedule: "karras" or "ve" (geometric) from sigma_start to sigma_end, or "quadratic"
    (the published grid on the linear DDPM schedule, coarse where the noise is high; sigma_start unused). start: noise
    of the first level added to the measurement as a picture ("observed": the paper), to the degraded image
    ("degraded") or to nothing ("noise"). A step (algorithm 1), with e = (x - x0)/sigma:
    xh = D(x, sigma); x0 = argmin ||y - A x||^2 + rho ||x - xh||^2, rho = lam sigma_y^2/sigma^2;
    x' = x0 + sigma' (sqrt(1 - zeta) e + sqrt(zeta) n).
    x0 is a closed form where there is one (`solvers.closed_form`), else cg_iters steps of CG from xh. Unknown noise is
    taken as unknown_std, in unit intensities of the measurement (released code: 0.001); CG steps then regularise.
    last_data_step: fit the data on the last step too (the paper and its code return the denoised image).

    On a Gaussian prior many small steps give the posterior mean at lam = 1, whatever zeta, and (1 + sqrt(1 - zeta))/2
    of its covariance: half of it at zeta 1, 92 % at zeta 0.3 (preset "posterior"), 97 % at 0.1; the smaller zeta, the
    more steps that takes. A lam below 1 leans to the data, one above 1 to the prior.

    Differs from the paper:
    - one unit for both noise levels: released code takes sigma_y for images in 0..1 and sigma for images in -1..1, so
      that its lambda of 1 is lam = 1/4 here; the presets "published*" say 0.25.
    - any linear operator, by CG; a noise level for each sample where it is known.
    - the tuned presets start from the degraded image at a low noise level, on the Karras grid.
    - the network sees the image in another of its eight orientations at every step (turns).
    """

    reference: ClassVar[str] = (
        "Zhu and others: Denoising diffusion models for plug-and-play image restoration, CVPRW 2023"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # those of dds, whose step this is at zeta 1, with lam for 1/gamma
        "tuned": {},
        "tuned MultiCoilMRI": {"n_steps": 60, "sigma_start": 0.25, "lam": 0.5, "cg_iters": 20},
        "tuned ParallelBeamCT": {"n_steps": 60, "sigma_start": 0.1, "cg_iters": 15},
        "tuned Inpainting": {"n_steps": 60, "sigma_start": 1.0},
        "tuned Identity": {"lam": 1.0},
        # On a Gaussian prior: means within 5 % of the distance to the prior's, deviations 1 to 5 % small
        "posterior": {
            "n_steps": 600, "schedule": "ve", "sigma_start": 3.0, "sigma_end": 0.01, "start": "noise", "lam": 1.0,
            "zeta": 0.3, "cg_iters": 20, "turns": False,
        },
        "published": _PUBLISHED,
        "published-inpainting": {**_PUBLISHED, "n_steps": 20, "zeta": 1.0},
    }  # fmt: skip

    n_steps: int = 30
    schedule: Literal["karras", "ve", "quadratic"] = "karras"
    sigma_start: float = 0.3
    sigma_end: float = 0.005
    start: Literal["observed", "degraded", "noise"] = "degraded"
    lam: float = 0.33
    zeta: float = 1.0
    cg_iters: int = 10
    unknown_std: float = 0.001
    last_data_step: bool = True
    turns: bool = True

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.cg_iters < 1:
            raise ConfigError(
                f"DiffPIR: n_steps and cg_iters must be at least 1, got {self.n_steps} and {self.cg_iters}"
            )
        if not 0 <= self.zeta <= 1:
            raise ConfigError(f"DiffPIR: zeta must lie in 0..1, got {self.zeta}")
        if not (0 < self.lam < math.inf and 0 < self.unknown_std < math.inf):
            raise ConfigError(
                f"DiffPIR: lam and unknown_std must be positive and finite, got {self.lam} and {self.unknown_std}"
            )
        self.sigmas()

    def sigmas(self) -> list[float]:
        """The noise levels at which the network is called, descending."""
        if self.schedule == "quadratic":
            return _quadratic(self.n_steps)
        levels = schedules.karras if self.schedule == "karras" else schedules.geometric
        return levels(self.n_steps, self.sigma_start, self.sigma_end).tolist()

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds x0. Raises ConfigError, DivergenceError."""
        prior, sigmas, k = check_prior("DiffPIR", prior), self.sigmas(), problem.item_ndim
        proximal = ProximalStep(self._with_noise(problem), cg_iters=self.cg_iters)
        n = draws.normal_like(blank(problem), k)
        x = self._centre(problem) + sigmas[0] * n
        for i, (s, s_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
            x0 = prior(x, s, turn=i if self.turns else 0)
            if s_next or self.last_data_step:
                x0 = proximal(x0, s * self.lam**-0.5)
            finite(self, x0, i, len(sigmas), s)
            yield Step(i, len(sigmas), s, x0, prior.evaluations)
            if s_next:
                e, n = (x - x0) / s, draws.normal_like(x0, k)
                x = x0 + s_next * ((1 - self.zeta) ** 0.5 * e + self.zeta**0.5 * n)

    def _centre(self, problem: Problem) -> Tensor | float:
        if self.start == "noise":
            return 0.0
        return problem.observed if self.start == "observed" else problem.degraded

    def _with_noise(self, problem: Problem) -> Problem:
        """Released code never takes a measurement for exact."""
        if problem.noise is not None:
            return problem
        return dataclasses.replace(
            problem, noise=Gaussian(self.unknown_std * problem.scaling.scale)
        )


def _quadratic(n_steps: int) -> list[float]:
    """Times 999 - int(1000 sqrt(i/(n - 1))) of the linear DDPM schedule, the last at 0."""
    sigmas = schedules.alpha_bar_to_sigma(schedules.vp_alphas_cumprod())
    times = [max(999 - math.isqrt(10**6 * i // max(n_steps - 1, 1)), 0) for i in range(n_steps)]
    return [float(sigmas[t]) for t in times]
