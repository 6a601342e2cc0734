"""RED-diff: the image as the variable of an optimiser, pulled to the data and to a denoiser at one noise level a step.

Mardani, Song, Kautz, Vahdat, "A variational perspective on solving inverse problems with diffusion models", ICLR 2024.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError
from restore.linalg.conjugate_gradients import cg
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import OperatorTraits, Planned
from restore.samplers.toolbox.chain import Chain, blank, centre_of
from restore.samplers.toolbox.consistency import ProximalStep
from restore.samplers.toolbox.items import item_size
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.optimiser import Adam, TailMean, curvature

Weight = Literal["linear", "sqrt", "square", "log", "trunc_linear", "power2over3", "const"]
Order = Literal["descending", "random", "ascending"]
DataWeight = Literal["annealed", "sigma", "unit"]
Reduction = Literal["sum", "mean", "official"]

WILD, CALM = 50.0, 10.0
"""Times the median magnitude of a start, beyond which pixels are noise that was divided by next to nothing, and the
deviation of the images that such a start is solved for with."""

# f of rho, the standard deviation of the noise over that of the signal: sigma, in x0 + sigma n.
_WEIGHTS: dict[str, Callable[[float], float]] = {
    "linear": lambda rho: rho,
    "sqrt": math.sqrt,
    "square": lambda rho: rho**2,
    "log": math.log1p,
    "trunc_linear": lambda rho: min(rho, 1.0),
    "power2over3": lambda rho: rho ** (2 / 3),
    "const": lambda rho: 1.0,
}

_PUBLISHED: dict[str, Any] = {
    "n_steps": 1000, "schedule": "vp", "weight": "linear", "lam": 0.25, "data_weight": "unit", "reduction": "mean",
    "lr": 0.1, "lr_unit": "one", "lr_decay": 0.0, "turns": False,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class REDdiff(Chain):
    """Regularisation by a denoising diffusion process.

    At each level sigma (rho of the paper): x0 = mu + sigma_x0 z, e = (x - D(x, sigma)) / sigma at x = x0 + sigma n, and
    one step of Adam (lr, beta1, beta2, eps) on mu along obs_weight v A^H (A x0 - y) + lam f(sigma) (e - n); weight: f.
    The network is not differentiated. Complex images: real and imaginary part are variables of their own.

    data_weight: "unit" (v = 1), "sigma" (v is the precision of the data, lam counts in nats; "unit" where the noise is
    unknown), or "annealed": with L the largest curvature of the noise-weighted data term, that term times
    (f(sigma)/sigma) / (L + 1/sigma^2), or over L where the noise is unknown.

    optimiser: "adam", or "newton" (linear operators), which takes the share lr of the way to the minimum of both terms
    with D held: mu + lr (argmin_v w f(v) + ||v - D(x, sigma)||^2 / 2 - mu), f the data term, w = obs_weight sigma^2 /
    lam. That is the same gradient, preconditioned by the curvature of its data term; at lr 1 it is DDS with eta 1.

    Differs from the paper:
    - means are per item and Adam's eps is in units of a pixel's gradient: in the released code ("official") means run
      over the batch and eps is of the size of the gradients, so that results depend on batch and image size.
    - the estimate is mu after the last step: the released code saves the x0 before it (result "x0").
    - "annealed" data weight, lr by the image, cosine decay, levels from sigma_start, turns of the network: the tuned
      presets, ours. Against tuned DDS at 30 to 60 evaluations (one seed, two crops of 96 x 96, the ones it was tuned
      on): 70 % inpainting and x4 +0.1 dB, deblurring equal.
    - "newton" in the tuned presets of scans. The curvature of a scan spans decades: along the many directions of little
      curvature Adam's hundred steps do not arrive (CT, 30 views: 31.60 dB where DDS has 34.09), and where there is
      nothing but noise, in air, Adam divides the gradient by its own size and walks on at full length (MRI, 4x:
      SSIM 0.849 where DDS has 0.941). With newton 34.28 dB, and 31.02 dB with SSIM 0.937 (DDS 30.92 dB): the mean of
      several draws of the noise that lr < 1 makes. Measured on slice 45 of a thorax and slice 100 of a head.
    - the published settings are for images in -1..1. They are used here as they stand, on images in 0..1.
    - the fixed point is not the posterior mean: on a Gaussian prior N(m, C) the prior's precision is the mean over the
      levels of lam f(rho) rho (C + rho^2)^-1 in place of C^-1. Several samples differ by the noise of the optimiser,
      which is not the posterior's.
    - no classifier guidance, no parallel variant.
    """  # fmt: skip

    needs: ClassVar[frozenset[str]] = frozenset()
    takes_start: ClassVar[bool] = False
    explains_exact: ClassVar[bool] = True
    reference: ClassVar[str] = "Mardani and others: RED-diff, ICLR 2024"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned inpaint": {"start": "filled", "sigma_start": 1.0},
        "tuned superres": {"sigma_start": 1.0, "lr": 0.1},
        "tuned mri": {
            "optimiser": "newton", "n_steps": 60, "sigma_start": 0.25, "sigma_end": 0.005, "lam": 0.5, "lr": 0.8,
            "lr_decay": 0.0, "cg_iters": 20,
        },
        "tuned ct": {
            "optimiser": "newton", "n_steps": 60, "sigma_start": 0.1, "sigma_end": 0.005, "lam": 1 / 3, "lr": 0.5,
            "lr_decay": 0.0, "cg_iters": 15,
        },
        # The released scripts by task: x4 super-resolution, free-form masks, sigma_y 0.1, deblurring and non-linear
        "published": _PUBLISHED,
        "published-inpainting": {**_PUBLISHED, "lr": 0.25},
        "published-noisy": {**_PUBLISHED, "lr": 0.25, "lam": 1.0},
        "published-nonlinear": {**_PUBLISHED, "lr": 0.5},
        # Zheng and others, "InverseBench", ICLR 2025: gradient of the whole square (hence 2), no means
        "published-inversebench": {
            **_PUBLISHED, "schedule": "continuous", "start": "zeros", "weight": "const", "obs_weight": 2.0,
            "reduction": "sum", "lr": 0.02,
        },
    }  # fmt: skip

    n_steps: int = shared(Chain, "n_steps", 100)
    schedule: Literal["karras", "ve", "vp", "continuous"] = shared(Chain, "schedule")
    sigma_end: float = shared(Chain, "sigma_end", 0.01)
    order: Order = setting("descending", "of the levels; random: one order a seed, for all items")
    start: Literal["degraded", "filled", "zeros"] = setting(
        "degraded", "where mu starts; filled: lost pixels from their neighbourhood"
    )
    weight: Weight = setting("const", "f, the weight of the prior by level")
    lam: float = setting(0.05, "weight of the prior", at_least=0)
    data_weight: DataWeight = setting("annealed", "v, the weight of the data, see above")
    obs_weight: float = setting(1.0, "a factor of it", at_least=0)
    reduction: Reduction = setting(
        "sum", "sum over samples and pixels; mean over each, per item, all of it times the number of pixels; official: "
        "means over the batch, as released. Means count real numbers",
    )  # fmt: skip
    optimiser: Literal["adam", "newton"] = setting("adam", "how mu moves, see above")
    cg_iters: int = setting(15, "CG steps of newton without closed form", at_least=1)
    lr: float = setting(0.05, "learning rate of Adam, or the share of newton's way", above=0)
    lr_unit: Literal["image", "one"] = setting(
        "image", "Adam's lr is in units of the largest magnitude of the item's start, or of one"
    )
    lr_decay: float = setting(
        1.0, "share of the steps, the last, over which lr falls to 0", between=(0, 1)
    )
    beta1: float = setting(0.9, "of Adam", at_least=0, below=1)
    beta2: float = setting(0.99, "of Adam", at_least=0, below=1)
    eps: float = setting(1e-8, "of Adam", above=0)
    average: float = setting(
        0.0, "share of the steps, the last, whose mu are averaged", between=(0, 1)
    )
    sigma_x0: float = setting(0.0, "noise added to mu", at_least=0)
    result: Literal["mu", "x0"] = setting(
        "mu", "what a Step holds: mu after the step, or the x0 that entered it"
    )
    official_double_scaling: bool = setting(
        False, "the network is given x / sqrt(1 + sigma^2), as in InverseBench's released code"
    )

    def _check_together(self) -> None:
        super()._check_together()
        if self.data_weight == "annealed" and self.reduction != "sum":
            raise ConfigError(
                f"REDdiff: data_weight 'annealed' needs reduction 'sum', got '{self.reduction}'; "
                "means go with 'unit' and 'sigma'"
            )
        if self.optimiser == "newton" and (self.data_weight != "annealed" or not self.lam):
            raise ConfigError(
                "REDdiff: optimiser 'newton' weighs the data by sigma^2 / lam; it needs data_weight 'annealed' and lam "
                f"above 0, got '{self.data_weight}' and {self.lam}"
            )

    @classmethod
    def _preset(cls, preset: str, operator: OperatorTraits) -> dict[str, Any]:
        """The tuned presets of scans solve with A; a non-linear operator has none and keeps Adam."""
        known = operator.abilities
        if preset == "tuned" and known is not None and "linear" not in known:
            operator = Planned("image", operator.task)
        return super()._preset(preset, operator)

    def weight_at(self, sigma: float) -> float:
        """The weight of the prior, lam f(rho)."""
        return self.lam * _WEIGHTS[self.weight](sigma)

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the optimiser; each Step holds what `result` says, and `lr` in its info. Raises DivergenceError."""
        levels, mu = self.for_problem(problem)._visited(draws), self.start_image(problem)
        way = (Newton if self.optimiser == "newton" else Descent)(self, problem, prior, draws)
        mean = TailMean(round(self.average * len(levels)))
        for i, level in enumerate(levels):
            x0, direction = way(mu, level)
            lr = self._rate(i, level.n)
            mu = self.finite(mu - lr * direction, level)
            shown = x0 if self.result == "x0" else mean(mu, level.n - i)
            yield Step(i, level.n, level.sigma, shown, prior.evaluations, {"lr": lr})

    def gradient_of(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Gradient:
        """The stochastic gradient of this sampler's objective on a problem."""
        return Gradient(self, problem, prior, draws)

    def start_image(self, problem: Problem) -> Tensor:
        """Where mu starts. Adam does not come back from pixels that an inverse without damping blew up: such a start
        (weights near zero) is solved for anew, with the noise."""
        if self.start == "zeros":
            return torch.zeros_like(blank(problem))
        start = centre_of(problem, self.start)
        if "linear" not in problem.operator.abilities or problem.precision is None:
            return start
        usual = _median_size(start, problem.item_ndim)
        wild = item_size(start, problem.item_ndim) > WILD * usual
        if not bool(wild.any()):
            return start
        term, precision = problem.data, (CALM * usual) ** -2
        calm = cg(
            lambda v: term.normal(v) + precision * v,
            term.rhs,
            iters=self.cg_iters,
            item_ndim=problem.item_ndim,
        )
        return torch.where(wild, calm.x, start)

    def _visited(self, draws: Draws) -> list[NoiseLevel]:
        """The levels in the order of the run, numbered by it."""
        levels = self.levels()
        if self.order == "random":
            g = torch.Generator().manual_seed(draws.seed % 2**63)
            levels = [levels[k] for k in torch.randperm(len(levels), generator=g).tolist()]
        elif self.order == "ascending":
            levels = levels[::-1]
        return [level._replace(i=i) for i, level in enumerate(levels)]

    def _rate(self, i: int, n: int) -> float:
        """lr of step i of n: constant, then a cosine to 0, which the step after the last would reach."""
        left, falling = n - i, self.lr_decay * n
        if left > falling:
            return self.lr
        return self.lr * 0.5 * (1 - math.cos(math.pi * left / (falling + 1)))


class Descent:
    """Adam's direction at mu for a level, in units of the image."""

    def __init__(
        self, settings: REDdiff, problem: Problem, prior: ImagePrior, draws: Draws
    ) -> None:
        mu = settings.start_image(problem)
        self.gradient = settings.gradient_of(problem, prior, draws)
        self.adam = Adam(mu, settings.beta1, settings.beta2, settings.eps)
        self.unit: Tensor | float = 1.0
        if settings.lr_unit == "image":
            self.unit = item_size(mu, problem.item_ndim)

    def __call__(self, mu: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """x0 and the direction to go against. mu: (*batch, *in_shape)."""
        x0, g = self.gradient(mu, level)
        return x0, self.unit * self.adam.direction(g)


class Newton:
    """From mu to the minimum of the data term and of the distance to the denoised image. Raises ConfigError."""

    def __init__(
        self, settings: REDdiff, problem: Problem, prior: ImagePrior, draws: Draws
    ) -> None:
        if "linear" not in problem.operator.abilities:
            raise ConfigError(
                f"REDdiff: {problem.operator} is not linear, and optimiser 'newton' solves with it; use optimiser=adam"
            )
        self.settings, self.problem, self.prior, self.draws = settings, problem, prior, draws
        self.consistent = ProximalStep(problem, cg_iters=settings.cg_iters)

    def __call__(self, mu: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """x0 and the direction to go against. mu: (*batch, *in_shape)."""
        s, k = self.settings, self.problem.item_ndim
        x0 = noised(mu, s.sigma_x0, self.draws, k)
        x = x0 + level.sigma * self.draws.normal_like(mu, k)
        denoised = s.denoised(self.prior, x, level)
        weight = s.obs_weight * level.sigma**2 / s.lam
        return x0, mu - self.consistent(denoised, weight)


def _median_size(x: Tensor, item_ndim: int) -> Tensor:
    """Median magnitude of each item's pixels that are not zero, shaped to broadcast over x; 1 where all are."""
    sizes = x.abs().flatten(-item_ndim)
    middle = torch.where(sizes > 0, sizes, torch.nan).nanmedian(-1).values.nan_to_num(1.0)
    return middle.reshape(*middle.shape, *[1] * item_ndim)


def noised(mu: Tensor, sigma: float, draws: Draws, item_ndim: int) -> Tensor:
    """mu + sigma z, z ~ N(0, I); nothing is drawn for sigma 0."""
    return mu + sigma * draws.normal_like(mu, item_ndim) if sigma else mu


class Gradient:
    """A draw of the gradient at mu for a noise level: data term plus prior, each with its weight.

    Draws z of sigma_x0 (where it is not zero) before n of the noise level, as released code does.
    """

    def __init__(
        self, settings: REDdiff, problem: Problem, prior: ImagePrior, draws: Draws
    ) -> None:
        self.settings, self.problem, self.prior, self.draws = settings, problem, prior, draws
        self.curvature: Tensor | None = None
        if settings.data_weight == "annealed":
            self.curvature = curvature(problem, settings.start_image(problem))
        self.data_scale, self.prior_scale = _scales(problem, settings.reduction)

    def __call__(self, mu: Tensor, level: NoiseLevel) -> tuple[Tensor, Tensor]:
        """x0 and the gradient there. mu: (*batch, *in_shape)."""
        s, k, sigma = self.settings, self.problem.item_ndim, level.sigma
        x0 = noised(mu, s.sigma_x0, self.draws, k)
        n = self.draws.normal_like(mu, k)
        difference = self._difference(x0, n, level)
        data = self.problem.gradient(x0, weighted=s.data_weight != "unit")
        v = s.obs_weight * self.data_scale * self._annealed(sigma)
        return x0, v * data + self.prior_scale * s.weight_at(sigma) * difference

    def _difference(self, x0: Tensor, n: Tensor, level: NoiseLevel) -> Tensor:
        """e - n, which is (x0 - D(x, sigma)) / sigma: without the cancellation that costs single precision digits."""
        s, sigma = self.settings, level.sigma
        x = x0 + sigma * n
        if not s.official_double_scaling:
            return (x0 - s.denoised(self.prior, x, level)) / sigma
        x = x / (1 + sigma**2) ** 0.5
        return (x - s.denoised(self.prior, x, level)) / sigma - n

    def _annealed(self, sigma: float) -> Tensor | float:
        """What "annealed" multiplies the noise-weighted data term with: data of curvature L, seen from an image
        uncertain by sigma, weigh L/(L + 1/sigma^2); so noisy data lose to the prior as sigma falls below their noise.
        """
        if self.curvature is None:
            return 1.0
        known = self.problem.precision is not None
        level = _WEIGHTS[self.settings.weight](sigma) / sigma
        return level / (self.curvature + (1 / sigma**2 if known else 0.0))


def _scales(problem: Problem, reduction: Reduction) -> tuple[float, float]:
    """Factors of the data term and of the prior's term."""
    if reduction == "sum":
        return 1.0, 1.0
    measured = problem.y.numel() * (1 + problem.y.is_complex())
    pixels = math.prod(problem.image_shape) * (1 + problem.operator.is_complex)
    if reduction == "mean":
        return pixels / max(measured, 1), 1.0
    return 1 / max(measured, 1), 1 / pixels
