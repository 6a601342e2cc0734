"""A member's share of another one's prior: images that it is handed through the denoiser of a name.

Held by every helper, in Ray's actors and in `split_processes`. What travels are names and arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.precision import autocast, resolve
from restore.priors.base import Denoiser
from restore.priors.kept import Spread, loaded, weights_kept
from restore.priors.networks import copied_to
from restore.priors.split_rows import Borders, SplitDenoiser
from restore.priors.spread import Helper, SpreadDenoiser
from restore.priors.traits import Model

Planes = NDArray[Any]


class Share:
    """Denoisers by name on one device, read once. weights: models that are in memory already."""

    def __init__(self, device: torch.device, weights: dict[str, Model]) -> None:
        self.device, self.weights = device, weights
        self._there: dict[str, Denoiser] = {}

    def denoise(self, name: str, planes: Planes, sigma: float, precision: str) -> Planes:
        """D(x, sigma) of planes (N, C, H, W) by the denoiser of that name, its network in numbers of that word."""
        if name not in self._there:
            with weights_kept(self.weights):
                model = copied_to(loaded(name), self.device)
            assert isinstance(model, Denoiser)  # noqa: S101  (for the type checker: `shared` has seen it)
            self._there[name] = model
        x = torch.from_numpy(np.array(planes)).to(self.device)
        with torch.no_grad(), autocast(resolve(precision, self.device), self.device):
            out = self._there[name](x, sigma)
        found: Planes = out.to(x.dtype).cpu().numpy()
        return found


def sharing(helpers_of: Callable[[str], Sequence[Helper]], split: Borders | None = None) -> Spread:
    """Denoisers shared out among helpers of their name; other models, which go with codes or pictures, stay here.

    split: None for images one by one; else also strips of one image, with these borders (`SplitDenoiser`).
    """

    def shared(name: str, model: Model) -> Model:
        if not isinstance(model, Denoiser):
            return model
        helpers = helpers_of(name)
        if split is None:
            return SpreadDenoiser(model, helpers)
        return SplitDenoiser(model, helpers, split)

    return shared
