"""The one place where a prior is chosen: a name becomes a model that fits, and a model a prior of one run.

Called by `restore.solve`, the pipelines and the benchmarks, before the work: for a bundled name or a file its card
alone is read until everything fits. Samplers are given a prior that fits and check nothing. A *model* is a network with
its contract (`Denoiser`, `ConditionalModel`, `LatentModel`); a *prior* is a model made to fit the images of one run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.precision import autocast, checked
from restore.priors.base import Denoiser
from restore.priors.cascade import CascadeModel, CascadePrior
from restore.priors.coded_bridge import CodedConditional, CodedConditionalPrior
from restore.priors.conditional import ConditionalModel, ConditionalPrior
from restore.priors.demand import Demand, bundled_for
from restore.priors.distilled import DistilledModel, DistilledPrior
from restore.priors.door import recognised, tried
from restore.priors.image_prior import ImagePrior
from restore.priors.kept import loaded
from restore.priors.latent import LatentModel, LatentPrior
from restore.priors.matching import check, trained_by
from restore.priors.network_precision import precision_for
from restore.priors.networks import copied_to, in_eval_mode
from restore.priors.traits import Model, card_traits, model_traits

Prior = ImagePrior | ConditionalPrior | LatentPrior | CascadePrior
Given = Model | Callable[..., Any] | str | Path | None
"""What people name a prior by: "auto", a bundled name, a weight file, a model, any function D(x, sigma)."""


class Chosen(NamedTuple):
    """A model that fits and is ready to run (None for classical samplers), what a user must know of it, and the
    precision in which its networks compute."""

    model: Model | None
    notes: tuple[str, ...]
    precision: torch.dtype = torch.float32


@contextmanager
def chosen(given: Given, demand: Demand, like: Tensor, precision: str = "auto") -> Iterator[Chosen]:
    """The model for one run: checked, on the device of `like`, its networks in eval mode; given back as found.

    Somebody else's denoiser is tried on one image before (`restore.priors.door`). precision: one of
    `restore.precision.WORDS`. Raises ConfigError, WeightsError.
    """
    checked(precision)
    if not demand.kinds:
        yield Chosen(None, ())
        return
    if given is None or isinstance(given, str | Path):
        name = name_of(given, demand)
        notes = check(card_traits(name), demand)
        model: Model = loaded(name)
    else:
        model = recognised(given)
        notes = check(model_traits(model), demand)
    model = copied_to(model, like.device)
    dtype, said = precision_for(model, precision, like, demand.gradients)
    notes += said
    with in_eval_mode(model):
        if isinstance(model, Denoiser) and model.foreign:
            with autocast(dtype, like.device):
                model, found = tried(
                    model, demand.picture_shape, demand.is_complex, like, demand.gradients
                )
            notes = tuple(dict.fromkeys([*check(model_traits(model), demand), *notes, *found]))
        yield Chosen(model, notes, dtype)


def fit(
    model: Model | None, demand: Demand, precision: torch.dtype = torch.float32
) -> Prior | None:
    """The prior that a sampler calls, with counters of its own: one a run and sample. precision: of its networks."""
    if model is None:
        return None
    if isinstance(model, CodedConditional):
        return CodedConditionalPrior(model, demand.item_shape, demand.intensity, precision)
    if isinstance(model, ConditionalModel):
        return ConditionalPrior(
            model, demand.item_shape, demand.intensity, precision, wrap=demand.wrap
        )
    if isinstance(model, CascadeModel):
        return CascadePrior(model, precision)
    if isinstance(model, LatentModel):
        return LatentPrior(model, demand.item_shape, precision)
    if isinstance(model, DistilledModel):
        return DistilledPrior(model, demand.picture_shape, demand.is_complex, precision)
    pixels = ImagePrior(
        model, demand.picture_shape, demand.is_complex, precision, planes=demand.planes or (0,)
    )
    return LatentPrior(pixels, demand.item_shape) if "latent" in demand.kinds else pixels


def name_of(given: str | Path | None, demand: Demand) -> str:
    """The bundled name or file that is meant; "auto": the bundled one that serves best. Raises ConfigError."""
    kinds = " or ".join(demand.kinds)
    if given is None:
        raise ConfigError(
            f"{demand.sampler} needs a prior ({kinds}): a bundled name, a weight file, a model, or a function "
            "D(x, sigma)"
        )
    if str(given) != "auto":
        return str(given)
    name = bundled_for(demand)
    if not name:
        raise ConfigError(
            f"{demand.sampler} needs a {kinds} prior, and no bundled one serves {demand.operator}: train one with "
            f"`restore {trained_by(demand.kinds[0])}`, or use a sampler for denoisers, such as dds or reddiff"
        )
    return name
