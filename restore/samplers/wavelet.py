"""Wavelet: l1-wavelet regularised least squares by FISTA, the classical compressed-sensing baseline."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import torch

from restore.config import setting
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem, Step
from restore.randomness import Draws
from restore.samplers.base import Sampler
from restore.solvers.sparse import wavelet_l1_steps
from restore.solvers.wavelet import Family


@dataclasses.dataclass(frozen=True)
class WaveletL1(Sampler):
    """min 1/2 ||A x - y||_Lambda^2 + weight * max|A^H Lambda y| ||details of W x||_1, randomly shifted Daubechies.

    Lustig, Donoho, Pauly, "Sparse MRI", MRM 2007; Beck and Teboulle, FISTA, 2009. The weight has no unit.
    """

    prior_kinds: ClassVar[tuple[str, ...]] = ()
    reference: ClassVar[str] = "Lustig, Donoho, Pauly: Sparse MRI, MRM 2007"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "tuned": {},
        "tuned ct": {"weight": 3e-4},
    }
    tunable: ClassVar[dict[str, tuple[float, ...]]] = {"weight": (1e-4, 3e-4, 1e-3, 3e-3)}

    n_steps: int = setting(100, "FISTA iterations", at_least=1)
    weight: float = setting(1e-3, "of the details, without unit", at_least=0)
    wavelet: Family = setting("db4", "Daubechies wavelet")
    levels: int = setting(4, "levels of the transform", at_least=1)

    def steps(self, problem: Problem, prior: ImagePrior | None, draws: Draws) -> Iterator[Step]:
        """One step per FISTA iteration. The shifts are the same for every item, whatever the batch."""
        iterates = wavelet_l1_steps(
            problem.data, self.weight, iters=self.n_steps, wavelet=self.wavelet, levels=self.levels,
            generator=torch.Generator().manual_seed(draws.seed),
        )  # fmt: skip
        for i, x in enumerate(iterates):
            yield Step(i, self.n_steps, 0.0, x, 0)
