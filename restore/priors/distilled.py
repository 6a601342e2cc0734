"""A denoiser distilled to a few steps for one family of operators: network, numbers of the steps, what they are for.

Made by `restore.training.distillation`, read and written by the store, run by the sampler `fewstep` alone: its network
no longer answers with a posterior mean at every level, so that no other sampler may have it. Touches no files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from restore.errors import ConfigError
from restore.priors.base import Denoiser
from restore.priors.image_prior import ImagePrior
from restore.priors.operator_family import OperatorFamily

LEAST_MIX, MOST_MIX = 0.1, 0.9
"""Range of the wires: going back over one divides by its mix, so that each loses at most one decimal digit."""


@dataclasses.dataclass(frozen=True)
class FewSteps:
    """The learnt numbers of a chain of n evaluations, in unit intensities.

    sigmas: n levels that the network is told. weights: n, of the data in the proximal steps. mixes: n - 1, the share of
    the state before the last in the next one, `LEAST_MIX` to `MOST_MIX`. Raises ConfigError.
    """

    sigmas: tuple[float, ...]
    weights: tuple[float, ...]
    mixes: tuple[float, ...]

    def __post_init__(self) -> None:
        positive = all(0 < v < math.inf for v in (*self.sigmas, *self.weights))
        wired = all(LEAST_MIX <= m <= MOST_MIX for m in self.mixes)
        counts = (len(self.sigmas), len(self.weights), len(self.mixes) + 1)
        if not (positive and wired and counts[0] > 0 and len(set(counts)) == 1):
            raise ConfigError(
                f"{self}: expected as many positive weights as levels, one mix less, each in {LEAST_MIX}..{MOST_MIX}"
            )

    @classmethod
    def from_card(cls, entry: Mapping[str, Any]) -> FewSteps:
        """Of a card's entry "few_steps". Raises KeyError, TypeError, ValueError, ConfigError for an impossible one."""
        named = ("sigmas", "weights", "mixes")
        sigmas, weights, mixes = (tuple(map(float, entry[k])) for k in named)
        return cls(sigmas, weights, mixes)

    @property
    def count(self) -> int:
        """Network evaluations of a run."""
        return len(self.sigmas)

    @property
    def carries(self) -> tuple[float, ...]:
        """The share of what the network took away that goes on to the next state: sigma'/sigma, 0 for the last."""
        pairs = zip(self.sigmas[1:], self.sigmas[:-1], strict=True)
        return (*(after / before for after, before in pairs), 0.0)


class DistilledModel(Denoiser):
    """Network, steps and family. denoiser: with the fine-tuned network, in the form that it was trained in."""

    kind: ClassVar[str] = "distilled"

    def __init__(
        self, denoiser: Denoiser, steps: FewSteps, family: OperatorFamily, *, name: str = ""
    ) -> None:
        self.denoiser, self.steps, self.family, self.name = denoiser, steps, family, name
        self.channels, self.intensity = denoiser.channels, denoiser.intensity
        self.sigma_min, self.sigma_max = denoiser.sigma_min, denoiser.sigma_max
        self.complex_mode, self.scaling = denoiser.complex_mode, dict(denoiser.scaling)
        self.foreign, self.local, self.halves = False, denoiser.local, denoiser.halves

    def __call__(self, x: torch.Tensor, sigma: float | torch.Tensor) -> torch.Tensor:
        """What the network makes of a state of the chain. x: (N, channels, H, W); sigma: one of `steps.sigmas`."""
        return self.denoiser(x, sigma)


class DistilledPrior(ImagePrior):
    """A distilled model for items of one shape; `steps`: the numbers of its chain."""

    def __init__(
        self,
        model: DistilledModel,
        item_shape: tuple[int, ...],
        complex_: bool,
        precision: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(model, item_shape, complex_, precision)
        self.steps = model.steps
