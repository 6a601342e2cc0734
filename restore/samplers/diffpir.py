"""DiffPIR: the denoised image is fitted to the data by a proximal step, and noise is put back, partly the old one.

Zhu, Zhang, Liang, Cao, Wen, Timofte, Van Gool, "Denoising diffusion models for plug-and-play image restoration",
CVPR workshops (NTIRE) 2023; without noise its forerunner: Zhang, Li, Zuo, Zhang, Van Gool, Timofte, "Plug-and-play
image restoration with deep denoiser prior" (DPIR), IEEE TPAMI 2022.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError
from restore.noise import Gaussian
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.chain import Chain, renoised
from restore.samplers.toolbox.consistency import ProximalStep
from restore.samplers.toolbox.graded import Graded, of_one_level
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.solved import SolvedChain

_PUBLISHED: dict[str, Any] = {
    "n_steps": 100, "schedule": "quadratic", "start": "observed", "lam": 0.25, "zeta": 0.1, "last_data_step": False,
    "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class DiffPIR(SolvedChain):
    """Denoising diffusion model for plug-and-play image restoration.

    A step (algorithm 1), with e = (x - x0)/s:
    xh = D(x, s); x0 = argmin ||y - A x||^2 + rho ||x - xh||^2, rho = lam sigma_y^2/s^2;
    x' = x0 + s' (sqrt(1 - zeta) e + sqrt(zeta) n).
    x0 is a closed form where there is one (`solvers.closed_form`), else cg_iters steps of CG from xh. Unknown noise is
    taken as unknown_std; CG steps then regularise.

    On a Gaussian prior many small steps give the posterior mean at lam = 1, whatever zeta, and (1 + sqrt(1 - zeta))/2
    of its covariance: half of it at zeta 1, 92 % at zeta 0.3 (preset "posterior"), 97 % at 0.1; the smaller zeta, the
    more steps that takes. A lam below 1 leans to the data, one above 1 to the prior.

    renoise False is DPIR, half-quadratic splitting: x = argmin ||y - A x||^2 + rho ||x - z||^2, then z = D(x, s), from
    the measurement as a picture; z of the last level is the result. follow_noise: the last level is the noise of the
    measurement, sigma_end at least. Preset "dpir": eight levels from 49/255 down to that, lam 0.23, another orientation
    each, as its authors' deblurring has them. On a Gaussian prior it ends at a fixed point of neither the mean nor any
    draw: nothing in it is random.

    Preset "volume" is that for the noise of volumes: two levels, 1 and 0.4 deviations of it (in_noise), and at each the
    mean of what the network says to all planes of the volume (planes "mean"): 3-D context from a 2-D network, where
    errors of one direction (stripes) average out. "correlated" is the same behind a whitening, where noise has more
    than its mean power at some frequencies: from 1.5 to 0.5 deviations. Deblurring takes the planes by turns. Noise
    that varies smoothly over the voxels is taken out level by level of a ladder (`toolbox.graded`).

    Differs from the paper:
    - one unit for both noise levels: released code takes sigma_y for images in 0..1 and sigma for images in -1..1, so
      that its lambda of 1 is lam = 1/4 here; the presets "published*" say 0.25.
    - any linear operator, by CG; a noise level for each sample where it is known.
    - the tuned presets start from the degraded image at a low noise level, on the Karras grid.
    - the network sees the image in another of its eight orientations at every step (turns).
    """

    explains_exact: ClassVar[bool] = True
    reference: ClassVar[str] = (
        "Zhu and others: Denoising diffusion models for plug-and-play image restoration, CVPRW 2023"
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # those of dds, whose step this is at zeta 1, with lam for 1/gamma
        "tuned": {},
        "tuned mri": {"n_steps": 60, "sigma_start": 0.25, "lam": 0.5, "cg_iters": 20},
        "tuned ct": {"n_steps": 60, "sigma_start": 0.1, "cg_iters": 15},
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": "auto"},
        "tuned denoise": {"lam": 1.0},
        # On a Gaussian prior: means within 5 % of the distance to the prior's, deviations 1 to 5 % small
        "posterior": {
            "n_steps": 600, "schedule": "ve", "sigma_start": 3.0, "sigma_end": 0.01, "start": "noise", "lam": 1.0,
            "zeta": 0.3, "cg_iters": 20, "turns": False,
        },
        "published": _PUBLISHED,
        "published-inpainting": {**_PUBLISHED, "n_steps": 20, "zeta": 1.0},
        "dpir": {
            "n_steps": 8, "schedule": "ve", "sigma_start": 49 / 255, "sigma_end": 0.001, "start": "observed",
            "lam": 0.23, "renoise": False, "follow_noise": True, "cg_iters": 40,
        },
        "dpir inpaint": {"start": "filled"},  # eight calls do not light a hole that begins at zero
        # benchmarks/VOLUMES.md
        "volume denoise": {
            "n_steps": 2, "schedule": "ve", "sigma_start": 1.0, "sigma_end": 0.4, "start": "observed", "lam": 0.37,
            "renoise": False, "in_noise": True, "planes": "mean",
        },
        "volume": {},
        "correlated": {
            "n_steps": 2, "schedule": "ve", "sigma_start": 1.5, "sigma_end": 0.5, "start": "observed", "lam": 0.15,
            "renoise": False, "in_noise": True, "planes": "mean",
        },
        "volume deblur": {
            "n_steps": 8, "schedule": "ve", "sigma_start": 0.1, "sigma_end": 0.001, "start": "observed", "lam": 0.23,
            "renoise": False, "follow_noise": True, "cg_iters": 15,
        },
    }  # fmt: skip

    fresh: ClassVar[str] = "zeta"

    schedule: Literal["karras", "ve", "quadratic"] = shared(Chain, "schedule")
    start: Literal["observed", "degraded", "filled", "noise", "gaussian"] = setting(
        "degraded", "noise of the first level is added to the measurement as a picture (observed: the paper), to the "
        "degraded image, to it with lost pixels filled from their neighbourhood (filled), to nothing (noise), or to "
        "the posterior mean under the Gaussian that the prior's images are like (gaussian)",
    )  # fmt: skip
    lam: float = setting(0.33, "weight of the prior: below 1 it leans to the data", above=0)
    zeta: float = setting(1.0, "share of fresh noise in the variance of a step", between=(0, 1))
    cg_iters: int = setting(10, "CG steps of a data step without closed form", at_least=1)
    unknown_std: float = setting(
        0.001, "deviation taken where there is no noise, in unit intensities", above=0
    )
    last_data_step: bool = setting(
        True, "fit the data on the last step too; the paper returns the denoised image"
    )

    renoise: bool = setting(True, "noise is put back after a step; DPIR adds none")
    follow_noise: bool = setting(False, "end at the noise of the measurement, not below sigma_end")
    in_noise: bool = setting(
        False, "sigma_start and sigma_end count in deviations of the measurement's noise"
    )
    planes: Literal["turns", "mean"] = setting(
        "turns",
        "of a volume shown in several directions: one a level, or the mean of the answers to all (renoise False)",
    )

    def _check_together(self) -> None:
        super()._check_together()
        if not self.renoise and (self.start == "gaussian" or not self.chosen_solver().plain):
            raise ConfigError(
                "DiffPIR: renoise=False has neither noise nor steps for a solver; leave solver, momentum and "
                "compensation as they are, and take another start than gaussian"
            )
        if self.in_noise and self.sigma_start == "auto":
            raise ConfigError(
                "DiffPIR: in_noise=True counts in deviations of the noise, sigma_start=auto in intensities; give a "
                "number"
            )
        if self.renoise and self.planes == "mean":
            raise ConfigError(
                "planes='mean' is for renoise=False; a chain with new noise takes the planes by turns"
            )

    def cost(self, problem: Problem | None = None) -> int:
        """n_steps, times the directions of a volume's planes with planes 'mean'"""
        each = 1 if problem is None or self.planes == "turns" else max(1, len(problem.planes))
        return each * super().cost(problem)

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds x0. Raises DivergenceError."""
        levels = self._to_noise(problem).levels()
        shown = Graded.of(prior, problem) if self.in_noise else prior
        alike = problem if shown is prior else of_one_level(problem)
        proximal = ProximalStep(self._with_noise(alike), cg_iters=self.cg_iters)
        if not self.renoise:
            bare = self.first(problem, draws, levels[0]._replace(sigma=0.0))
            yield from self._splitting(bare, shown, proximal, levels)
            return
        x, history = self.begun(problem, draws, levels[0], prior), self.history()
        for level in levels:
            x0 = self.denoised(prior, x, level)
            if level.next or self.last_data_step:
                x0 = proximal(x0, level.sigma**2 / self.lam)
            yield self.step(level, x0, prior.evaluations)
            if level.next:
                n, k = draws.normal_like(x0, problem.item_ndim), self.zeta**0.5
                if history:
                    x = history.next(x, x0, n, level, k)
                else:
                    x = renoised(x0, (x - x0) / level.sigma, n, level.next, k)

    @property
    def draws_noise(self) -> bool:
        """Half-quadratic splitting draws none."""
        return self.renoise

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest level of this problem."""
        return super(DiffPIR, self._to_noise(problem)).noise_range(problem)

    def _splitting(
        self,
        z: Tensor,
        prior: ImagePrior | Graded,
        proximal: ProximalStep,
        levels: list[NoiseLevel],
    ) -> Iterator[Step]:
        """DPIR: data, then denoiser, no noise."""
        for level in levels:
            x = proximal(z, level.sigma**2 / self.lam)
            if self.planes == "turns":
                z = prior(x, level.told, turn=self.turn(level))
            else:
                z = self._every_plane(prior, x, level)
            yield self.step(level, z, prior.evaluations)

    def _every_plane(self, prior: ImagePrior | Graded, x: Tensor, level: NoiseLevel) -> Tensor:
        """The mean of the answers to the planes of all directions, each in an orientation of the level's turn."""
        count = len(prior.planes)
        total = torch.zeros_like(x)
        for k in range(count):
            total += prior(x, level.told, turn=self.turn(level) * count + k)
        return total / count

    def _to_noise(self, problem: Problem) -> DiffPIR:
        """With levels in unit intensities, and the last one at the noise of the measurement where that is asked for.

        Raises ConfigError for levels in deviations of a noise that is not known, and of `for_problem`.
        """
        if self.sigma_start == "auto":
            return self.for_problem(problem)._to_noise(problem)
        if not (self.follow_noise or self.in_noise):
            return self
        if problem.precision is None:
            if not self.in_noise:
                return self
            raise ConfigError("these levels count in deviations of the noise: give noise=std")
        measured = torch.as_tensor(problem.precision)
        noise = float(measured[measured > 0].mean()) ** -0.5
        if self.in_noise:
            return dataclasses.replace(
                self,
                sigma_start=self.sigma_start * noise,
                sigma_end=self.sigma_end * noise,
                in_noise=False,
            )
        return dataclasses.replace(
            self, sigma_end=min(max(noise, self.sigma_end), self.sigma_start)
        )

    def _with_noise(self, problem: Problem) -> Problem:
        """Released code never takes a measurement for exact."""
        if problem.precision is not None:
            return problem
        std = self.unknown_std * problem.scaling.scale
        return dataclasses.replace(problem, noise=Gaussian(std))
