"""The sampler contract: a frozen dataclass of settings with one method, `steps`, and what it says of itself.

An algorithm never prints, never draws from a global generator, never clips and holds no state between runs; progress,
snapshots, time limits and cancelling live in whoever consumes the steps. What algorithms share lies in
`restore.samplers.toolbox`.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from restore.config import check_settings, did_you_mean, from_settings
from restore.errors import ConfigError, DivergenceError
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.toolbox.levels import NoiseLevel


class OperatorTraits(Protocol):
    """What an operator is, in words: every operator says so, its class as far as it can, and `Planned` for a plan."""

    @property
    def kind(self) -> str:
        """ "mri", "ct" or "image"."""

    @property
    def task(self) -> str:
        """ "denoise", "inpaint", "deblur", "superres", ...; "" where it is no task of restoration."""

    @property
    def abilities(self) -> frozenset[str] | None:
        """Words of `restore.operators.base.ABILITIES`; None where they are not known yet."""


@dataclasses.dataclass(frozen=True)
class Planned:
    """Traits of an operator that is not there yet: a scan whose data have not been read. kind: "" where even that is
    not known, so that only slips in names and values are found."""

    kind: str
    task: str = ""
    abilities: frozenset[str] | None = None


@dataclasses.dataclass(frozen=True)
class Sampler(ABC):
    """Abstract sampler. Settings are fields, declared by `restore.config.setting` and checked whoever makes one.

    `prior_kinds`: which kinds of prior it can use, the usual one first ("denoiser", "conditional", "latent",
    "distilled", "cascade", "region"), none for classical methods. `kinds` and `tasks` of operators that it serves, any
    where both are empty; `needs`: abilities that an operator must have (`restore.operators.base`); `on`: what else a
    measurement must be, in words.
    `gradients`: whether network calls are also differentiated; `error`: whether the prior's knowledge of its own error
    is used. `takes_start`: whether one chosen noise may serve all of its images (`restore.starts`). `fits_data`:
    whether it looks for an image that explains the measurement, so that a large misfit is a fault. `explains_exact`:
    whether it leaves next to nothing of an exact one, in few steps too. `separates`: whether its steps hold structured
    noise beside the image. `components`: whether it serves images of several components (soft SENSE). `bridge`,
    `heads`, `intensity`: of samplers of conditional models: whose schedule a model must have been trained on, if on one
    alone; what it may predict; the range of the chain. `reference`: the paper.

    `presets`: named settings, the published ones ("published", ...) and our tuned ones: "tuned", with what differs for
    a kind of operator in "tuned KIND" and for a task in "tuned TASK", as for every other name. `tunable`: the setting
    that depends most on the data, with values to try (`restore bench tune`).

    Raises ConfigError for a value that is no word, or out of range, and for values that contradict each other.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ("denoiser",)
    kinds: ClassVar[tuple[str, ...]] = ()
    tasks: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset({"linear"})
    on: ClassVar[str] = ""
    gradients: ClassVar[bool] = False
    error: ClassVar[bool] = False
    takes_start: ClassVar[bool] = False
    fits_data: ClassVar[bool] = True
    explains_exact: ClassVar[bool] = False
    separates: ClassVar[bool] = False
    components: ClassVar[bool] = True
    bridge: ClassVar[str] = ""
    heads: ClassVar[tuple[str, ...]] = ()
    intensity: ClassVar[tuple[float, float]] = (0.0, 1.0)
    reference: ClassVar[str] = ""
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {}

    def __post_init__(self) -> None:
        check_settings(self)
        self._check_together()

    def _check_together(self) -> None:  # noqa: B027  (most have none)
        """Refuse settings that contradict each other. Raises ConfigError."""

    @abstractmethod
    def steps(self, problem: Problem, prior: Any, draws: Draws) -> Iterator[Step]:
        """Yield the steps; the last one's x0 is the result (unit intensities).

        prior: an `ImagePrior`, `ConditionalPrior`, `LatentPrior`, `DistilledPrior` or `CascadePrior`, as `prior_kinds`
        says, or None.
        """

    def cost(self, problem: Problem | None = None) -> int:
        """n_steps, 0 without a prior

        Network evaluations an image and sample: the first line of this docstring says so in words for the tables.
        """
        return int(getattr(self, "n_steps", 1)) if self.prior_kinds else 0

    @property
    def differentiates(self) -> bool:
        """Whether this one follows gradients through the denoiser; its kind's `gradients` where settings change
        nothing."""
        return self.gradients

    @property
    def draws_noise(self) -> bool:
        """Whether noise is drawn with these settings, so that another seed gives another image."""
        return True

    def wrapped_pixels(self, operator: OperatorTraits) -> int:
        """Pixels that a conditional model is shown beyond each border, from the opposite one: of periodic operators."""
        return 0

    @property
    def couples_slices(self) -> bool:
        """Whether the slices of a volume depend on each other, so that it has to be given whole."""
        return False

    @property
    def begins_with_images(self) -> bool:
        """Whether it starts from what the prior knows of its images."""
        return False

    @property
    def couples_frames(self) -> bool:
        """Whether the frames of a measurement over time are found together, and not each by itself."""
        return False

    @property
    def least_frames(self) -> int:
        """How many frames over time it needs; 1 where it asks for no time."""
        return 2 if self.couples_frames else 1

    @property
    def remembered(self) -> int:
        """Images that each of its states keeps from level to level, beside what every sampler holds."""
        return 0

    @property
    def states(self) -> int:
        """How many images of every item it walks at once."""
        return 1

    def for_samples(self, samples: int) -> tuple[Self, tuple[str, ...]]:
        """Itself as so many samples of one measurement need it, and notes on what had to change."""
        return self, ()

    def for_problem(self, problem: Problem) -> Self:
        """Itself with settings that were left to the problem, which records of a run hold as found.

        A sampler that is run by hand finds the same in `steps`. Raises ConfigError.
        """
        return self

    def noise_range(self, problem: Problem) -> tuple[float, float] | None:
        """The lowest and the highest noise at which a denoiser will be asked, None where it shows in the run only."""
        return None

    def mean_by(self, operator: OperatorTraits) -> Sampler | None:
        """Whose runs give the mean of several samples, these being moved to it: better ones than their own mean.

        None: their own mean. It uses the same kind of prior.
        """
        return None

    def remarks(self, ends: list[dict[str, Any]]) -> tuple[str, ...]:
        """What a user must know of runs that are done. ends: the last record of each sample's log."""
        return ()

    def step(self, level: NoiseLevel, x0: Tensor, evaluations: int = 0, **info: Any) -> Step:
        """The step of a level with its estimate, which is checked. Raises DivergenceError."""
        return Step(level.i, level.n, level.sigma, self.finite(x0, level), evaluations, info)

    def finite(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """x itself, checked in one pass over it. Raises DivergenceError naming the step."""
        if not bool(torch.isfinite(x.sum())):
            raise DivergenceError(
                f"{type(self).__name__}: a non-finite value at step {level.i + 1} of {level.n}, sigma {level.sigma:.4g}"
            )
        return x

    @classmethod
    def configured(
        cls, preset: str, operator: OperatorTraits | type, settings: dict[str, Any]
    ) -> Self:
        """The sampler of a preset ("tuned": as the operator's kind and task have it), with some settings replaced.

        operator: an operator, its class, or `Planned`. Raises ConfigError for unknown presets, those that say nothing
        of such a task, unknown settings and values out of range.
        """
        return from_settings(cls, cls._preset(preset, traits_of(operator)) | settings)

    @classmethod
    def _preset(cls, preset: str, operator: OperatorTraits) -> dict[str, Any]:
        if preset != "tuned" and preset not in cls.presets:
            raise ConfigError(
                f"{cls.__name__}: no preset '{preset}'{did_you_mean(preset, cls.presets)}"
            )
        names = (preset, f"{preset} {operator.kind}", f"{preset} {operator.task}")
        parts = [cls.presets[name] for name in names if name in cls.presets]
        others = [n.split(maxsplit=1)[1] for n in cls.presets if n.startswith(f"{preset} ")]
        if preset != "tuned" and others and not any(parts) and operator.kind:
            raise ConfigError(
                f"{cls.__name__}: preset '{preset}' is for {' and '.join(others)}, not for "
                f"{operator.task or operator.kind}"
            )
        return {k: v for part in parts for k, v in part.items()}

    @classmethod
    def fits(cls, operator: OperatorTraits | type) -> bool:
        """Whether it serves this operator, its class, or what is planned; abilities count where they are known."""
        found = traits_of(operator)
        if (cls.kinds or cls.tasks) and found.kind not in cls.kinds and found.task not in cls.tasks:
            return False
        return found.abilities is None or cls.needs <= found.abilities

    @classmethod
    def serves(cls) -> str:
        """What it serves, in words."""
        if {"conditional", "distilled"} & {*cls.prior_kinds}:
            return "what its model was trained on"
        named = [_WORDS[word] for word in (*cls.kinds, *cls.tasks)]
        needed = [_WORDS[word] for word in sorted(cls.needs - {"linear"})]
        if not named:
            named = ["any linear operator" if "linear" in cls.needs else _ANY]
        parts = [" and ".join(named), *([f"with {' and '.join(needed)}"] if needed else []), cls.on]
        return " ".join(filter(None, parts))


def traits_of(operator: OperatorTraits | type) -> OperatorTraits:
    """What an operator is, also before there is one: a class knows its kind and task, not its abilities."""
    if not isinstance(operator, type):
        return operator
    said = (getattr(operator, "kind", ""), getattr(operator, "task", ""))
    kind, task = (
        word if isinstance(word, str) else "" for word in said
    )  # a property: not said by the class
    return Planned(kind or "image", task)


_ANY = "any operator, non-linear ones included"
_WORDS = {
    "mri": "MRI", "ct": "CT", "image": "pictures",
    "denoise": "denoising", "inpaint": "inpainting", "deblur": "deblurring", "superres": "super-resolution",
    "declip": "saturation", "counts": "photon counts",
    "svd": "a singular value decomposition", "identity": "the image itself as measurement",
    "selects": "pixels as they are", "interpolates": "an interpolation to the image's size",
    "backprojects": "filtered backprojection",
}  # fmt: skip
