"""Joint: the image and the structured noise of a measurement at once, each with a diffusion prior of its own.

Stevens, van Gorp, Meral, Shin, Yu, Robert, van Sloun, "Removing structured noise with diffusion models", TMLR 2025
(arXiv 2302.05290, 2023); Stevens, Meral, Yu, Apostolakis, Robert, van Sloun, "Dehazing ultrasound using diffusion
models", IEEE TMI 43:3546, 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, Self, final

import torch
from torch import Tensor

from restore.config import setting, shared
from restore.errors import ConfigError, ShapeError
from restore.operators.base import LinearOperator, SameShape
from restore.operators.superposition import Superposition
from restore.priors.image_prior import ImagePrior
from restore.priors.network_options import split_options
from restore.priors.second import Known, SecondUnknown, Seen, StructuredNoise
from restore.priors.sought import Sought
from restore.priors.store import bundled
from restore.priors.structured import STRUCTURES, Numbers, check_name, second_unknown
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import OperatorTraits, traits_of
from restore.samplers.dds import DDS, noise_weights, raised_start
from restore.samplers.toolbox.chain import Chain, renoised
from restore.samplers.toolbox.consistency import weighted_term
from restore.samplers.toolbox.levels import NoiseLevel
from restore.samplers.toolbox.seeking import level_range, search_cost, seek
from restore.solvers.proximal import DataTerm, data_step

FOUND = (
    "{}: found in {} of {} measurements and taken off; without it they are likelier by {:.0f} to {:.0f} nats; {}; look "
    "at OUT_structured"
)
NOT_FOUND = (
    "{}: none is shown, and none was taken off: the prior finds what was measured likelier without any by {:.0f} nats "
    "at most, and {:g} are asked"
)
"""On what was sought, and what finding it rests on (docs/structured-noise.md)."""


@dataclasses.dataclass(frozen=True)
class Joint(Chain):
    """Joint posterior sampling of image x and structured noise u, y = A x + B u + e.

    Both walk the same levels. At level s: x0 = D(x, s), and (u0, R) of the second prior: the mean of u and the root of
    its error's covariance over s. Then one data step of dds for both,
    (xh, v) = argmin w f(x, v) + (||x - x0||^2 + ||v||^2)/2, f(x, v) = ||A x + B (u0 + R v) - y||^2 in noise deviations,
    uh = u0 + R v, w = gamma s^2; and x' = xh + s' (sqrt(1 - eta^2) e + eta n), u' likewise with noise of its own. CG
    starts at (x0, 0). A prior that is sure of zeros (R = 0 there) is also told what the data show, y - A x0, so that
    what it missed at a high level comes back at a lower one. u begins at noise
    alone. Unknown noise, or none: a deviation of 0.01 s ||A|| is assumed, which fades along the chain.
    The result is the last xh; `Step.structured` is B uh, the structured noise as it was measured.

    On Gaussian priors many small steps give the joint posterior mean at gamma = 1 - sqrt(1 - eta^2), and nearly its
    covariance at small eta (preset "posterior"), as dds does for one unknown.
    Where the second prior finds nothing, R is zero: every step is that of dds, with the same noise. Haze and stripes
    are sought before the chain (`toolbox.seeking`) and then known: R is zero, and u0 is what was found.

    Differs from the papers:
    - the data step of dds with the levels of dds, for their guidance by a gradient at noised measurements.
    - the second prior may tell its own error, R; with the identity in its place (any function as prior) the noise takes
      a share of whatever the image does not explain yet: 1 dB at 4x where there was none.
    - analytic second priors beside learnt ones.
    """

    reference: ClassVar[str] = (
        "Stevens and others: Removing structured noise with diffusion models, TMLR 2025"
    )
    takes_start: ClassVar[bool] = False
    separates: ClassVar[bool] = True
    components: ClassVar[bool] = False
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        # Those of dds but for its starts of CG and the spared imaginary part
        "tuned": {},
        "tuned mri": {
            "n_steps": 60, "sigma_start": 0.25, "gamma_end": 1.5, "cg_iters": 20, "cg_residual": 2e-4,
        },
        "tuned ct": {"n_steps": 60, "sigma_start": 0.1, "few_data": 1.2},
        "tuned inpaint": {"start": "filled", "n_steps": 60, "sigma_start": "auto"},
        "tuned denoise": {"gamma": 1.0},
        "posterior": {
            "n_steps": 300, "sigma_start": 5.0, "sigma_end": 0.003, "eta": 0.5, "gamma": 0.134, "cg_iters": 20,
        },
    }  # fmt: skip

    schedule: Literal["karras", "ve"] = setting(
        "karras", "levels: karras or ve (geometric) from sigma_start to sigma_end"
    )
    start: Literal["degraded", "filled", "noise"] = shared(Chain, "start")
    second_prior: str = setting(
        "", "structured noise: herringbone, zipper (MRI), stripes (CT), haze (pictures), or a weight file"
    )  # fmt: skip
    second_std: float | None = setting(
        None, "its deviation where it is, in unit intensities of the image; none: the kind's own", above=0
    )  # fmt: skip
    second_rate: float | None = setting(
        None, "share of samples, tones or bins that are hit; none: the kind's own", above=0, below=1
    )
    second_width: float | None = setting(
        None, "share of the height over which haze varies; none: the kind's own", above=0
    )
    few_data: float = shared(DDS, "few_data")
    eta: float = shared(DDS, "eta")
    gamma: float = shared(DDS, "gamma")
    gamma_end: float | None = shared(DDS, "gamma_end")
    cg_iters: int = setting(10, "CG steps of a data step, at most", at_least=1)
    cg_residual: float = shared(DDS, "cg_residual")

    @classmethod
    def configured(
        cls, preset: str, operator: OperatorTraits | type, settings: dict[str, Any]
    ) -> Self:
        """As every sampler; a second prior that such measurements do not have is refused here. Raises ConfigError."""
        made = super().configured(preset, operator, settings)
        if made.second_prior:
            check_name(made.second_prior, traits_of(operator).kind, made._numbers)
        return made

    def for_samples(self, samples: int) -> tuple[Self, tuple[str, ...]]:
        """Itself. Raises ConfigError without a second prior."""
        self._check_told()
        return self, ()

    @property
    def differentiates(self) -> bool:
        """Whether something is sought before the chain."""
        return self._sought is not None

    def cost(self, problem: Problem | None = None) -> int:
        """n_steps; haze and stripes: about 300 more, 240 of them with gradients"""
        return super().cost(problem) + (search_cost(self._sought) if self._sought else 0)

    def remarks(self, ends: list[dict[str, Any]]) -> tuple[str, ...]:
        """Whether what was sought was found."""
        nats = [n for end in ends for n in end.get("found_nats", ())]
        if self._sought is None or not nats:
            return ()
        there, name = [n for n in nats if n > self._sought.odds], self._sought.name
        if not there:
            return (NOT_FOUND.format(name, max(nats), self._sought.odds),)
        counts = len(there), len(nats), min(there), max(there)
        return (FOUND.format(name, *counts, self._sought.caution),)

    def steps(self, problem: Problem, prior: ImagePrior, draws: Draws) -> Iterator[Step]:
        """Run the chain; each Step holds xh and `structured`.

        Raises ConfigError (no second prior, or one that does not fit), ShapeError, DivergenceError.
        """
        levels = self._raised(problem).levels()
        walk = _Walk(self, problem, self.second_unknown(problem), prior, draws)
        x, u = self.first(problem, draws, levels[0]), walk.first(levels[0])
        for level, weight in zip(
            levels, noise_weights(levels, self.gamma, self.gamma_end), strict=True
        ):
            x0 = self.denoised(prior, x, level)
            xh, u0, uh = walk.data_step(x0, u, level, weight)
            structured = self.finite(walk.second.operator(uh), level)
            step = self.step(level, xh, prior.evaluations, cg=walk.result, **walk.told)
            yield dataclasses.replace(step, structured=structured)
            if level.next:
                n = draws.normal_like(xh, problem.item_ndim)
                x = renoised(xh, (x - x0) / level.sigma, n, level.next, self.eta)
                u = renoised(uh, (u - u0) / level.sigma, walk.noise(uh), level.next, self.eta)

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest level of this problem."""
        asked = super(Joint, self._raised(problem)).noise_range(problem)
        if asked is None or self._sought is None:
            return asked
        low, high = level_range(self._sought, _deviation(problem))
        return min(low, asked[0]), max(high, asked[1])

    def second_unknown(self, problem: Problem) -> SecondUnknown:
        """The structured noise of a problem's measurements. Raises ConfigError, ShapeError (does not fit)."""
        self._check_told()
        levels = [level.sigma for level in self._raised(problem).levels()]
        return second_unknown(
            self.second_prior, problem.linear, self._numbers, (levels[-1], levels[0])
        )

    def _check_told(self) -> None:
        if not self.second_prior:
            raise ConfigError(
                "joint: no second prior; say what the structured noise is, such as second_prior=herringbone (MRI), "
                "stripes (CT), haze (pictures) or a weight file, or use dds, which knows of none"
            )

    def _raised(self, problem: Problem) -> Self:
        first = self.for_problem(problem).highest
        start = raised_start(problem, first, self.few_data, self.start)
        return dataclasses.replace(self, sigma_start=start)

    @property
    def _sought(self) -> type[Sought] | None:
        known = STRUCTURES.get(self.second_prior)
        return None if known is None else known.sought

    @property
    def _numbers(self) -> Numbers:
        return Numbers(self.second_std, self.second_rate, self.second_width)


@dataclasses.dataclass(frozen=True)
class JointWith(Joint):
    """Joint with a second unknown of your own, in the place of a name.

    second: its operator B gives measurements of the image's operator's shape, slices in front where that has them.
    """

    second: SecondUnknown | None = None

    def second_unknown(self, problem: Problem) -> SecondUnknown:
        """`second`. Raises ConfigError, ShapeError (does not fit)."""
        given, A = self._given(), problem.linear
        k, B = A.slice_ndim, given.operator
        if B.out_shape != A.out_shape or B.in_shape[:k] != A.in_shape[:k]:
            slices = f", and the slices {A.in_shape[:k]} in front of both" if k else ""
            raise ShapeError(
                f"joint: the structured noise {B} does not go with the image {A}: expected measurements of the shape "
                f"{A.out_shape}{slices}"
            )
        return given

    @property
    def _sought(self) -> type[Sought] | None:
        prior = self.second.prior if isinstance(self.second, SecondUnknown) else None
        return type(prior) if isinstance(prior, Sought) else None

    def _check_told(self) -> None:
        self._given()

    def _given(self) -> SecondUnknown:
        if not isinstance(self.second, SecondUnknown) or self.second_prior:
            raise ConfigError(
                f"joint: second is a {type(self.second).__name__} and second_prior '{self.second_prior}', expected a "
                "restore.priors.second.SecondUnknown and no name beside it"
            )
        return self.second


class _Walk:
    """One run: its second unknown, and what is done to both. told: of what was sought, for the log."""

    def __init__(
        self,
        settings: Joint,
        problem: Problem,
        second: SecondUnknown,
        prior: ImagePrior,
        draws: Draws,
    ) -> None:
        self.settings, self.problem, self.second = settings, problem, second
        # Own draws, so that those of the image are those of dds.
        self.draws = Draws(draws.seed, [f"{name}/structured" for name in draws.ids])
        self.result, self.told = 0, dict[str, list[float]]()
        if isinstance(second.prior, Sought):
            if not second.prior.any_brightness:
                _check_knows_brightness(prior, second.prior.name)
            noise = _deviation(problem)
            found = seek(second.prior, problem.unit_y, noise, prior, self.draws)
            self.noise_prior: StructuredNoise = Known(found.noise)
            self.told = {"found_nats": [round(float(n), 1) for n in found.nats]}
        else:
            self.noise_prior = second.prior

    def first(self, level: NoiseLevel) -> Tensor:
        """u at the first level: noise alone."""
        empty = self.second.operator.adjoint(torch.zeros_like(self.problem.unit_y))
        return level.sigma * self.noise(empty)

    def noise(self, u: Tensor) -> Tensor:
        """N(0, I) like u."""
        lead = len(self.problem.image_shape) - self.problem.item_ndim
        return self.draws.normal_like(u, u.ndim - lead)

    def data_step(
        self, x0: Tensor, u: Tensor, level: NoiseLevel, weight: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """xh, u0 and uh."""
        p, B = self.problem, self.second.operator
        base = weighted_term(p, level.sigma)
        seen = u + B.adjoint(p.operator.project(p.unit_y - p.linear(x0)) - B(u))
        found = self.noise_prior.estimate(
            u, level.sigma, Seen(seen, (level.sigma**2 + self._variance(base, u)) ** 0.5)
        )
        both = Superposition(
            (p.linear, B @ _Root(B.in_shape, B.is_complex, B.slice_ndim, found.root))
        )
        y = p.unit_y - B(found.mean)
        term = DataTerm(both, y, base.precision)
        solution = data_step(
            term, both.joined([x0, torch.zeros_like(u)]), weight,
            iters=self.settings.cg_iters, tol=self.settings.cg_residual,
        )  # fmt: skip
        self.result = int(solution.worst)
        xh, v = both.parted(solution.x)
        return xh, found.mean, found.mean + found.root(v)

    def _variance(self, term: DataTerm, u: Tensor) -> float | Tensor:
        """Of the measurement's noise, the largest of each item, shaped to broadcast to u."""
        known = term.precision
        if not isinstance(known, Tensor):
            return 0.0 if known is None else 1 / known
        each = torch.where(known > 0, 1 / known, 0).broadcast_to(term.y.shape)
        lead = each.shape[: each.ndim - self.problem.operator.measured_ndim]
        return each.flatten(len(lead)).amax(-1).reshape(*lead, *[1] * (u.ndim - len(lead)))


def _check_knows_brightness(prior: ImagePrior, what: str) -> None:
    """Refuse the bundled priors, whose pictures may have any brightness: of a photograph without haze `natural` is sure
    that it has some, by 26 nats, and 15 dB are lost. Raises ConfigError."""
    name, _ = split_options(prior.prior.name)
    if name in bundled():
        raise ConfigError(
            f"joint: the bundled prior '{name}' is of pictures of any brightness, and {what} is told by the "
            "brightness that pictures have without it; name a prior of such pictures (--prior FILE), made by `restore "
            f"train denoiser` from pictures without {what}"
        )


def _deviation(problem: Problem) -> float:
    """Of the measurement's noise, the largest, in unit intensities; 0 where it is unknown or none."""
    known = problem.precision
    if not isinstance(known, Tensor):
        return 0.0 if known is None else known**-0.5
    return float(known[known > 0].min()) ** -0.5 if bool((known > 0).any()) else 0.0


@final
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class _Root(SameShape, LinearOperator):
    """The root of a covariance as an operator, for images of the second unknown."""

    shape: tuple[int, ...]
    complex_: bool
    slices: int
    function: Callable[[Tensor], Tensor]

    @property
    def slice_ndim(self) -> int:
        """As told."""
        return self.slices

    @property
    def is_complex(self) -> bool:
        """As told."""
        return self.complex_

    def _apply(self, x: Tensor) -> Tensor:
        return self.function(x)

    def _adjoint(self, y: Tensor) -> Tensor:
        return self.function(y)
