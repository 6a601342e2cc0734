"""What a model says of itself, in memory or on its card: all that a choice goes by before weights are read.

Called by `restore.priors.choosing`, the pipelines, lists and docs; reads cards, never weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from restore.errors import ConfigError, WeightsError
from restore.priors.acquisition import Acquisition
from restore.priors.base import Denoiser
from restore.priors.cascade import CascadeModel
from restore.priors.conditional import ConditionalModel
from restore.priors.distilled import DistilledModel, FewSteps
from restore.priors.latent import LatentModel
from restore.priors.network_options import split_options
from restore.priors.operator_family import OperatorFamily, families_of
from restore.priors.tiles import USUAL, Tiling

Model = Denoiser | ConditionalModel | LatentModel | CascadeModel
"""A network with its contract."""

DENOISING = ("denoiser", "region")
"""Kinds whose models are each a `Denoiser`."""


@dataclasses.dataclass(frozen=True)
class Traits:
    """What a model says of itself, in memory or on its card; as in the contracts."""

    name: str
    kind: str
    channels: int = 1
    sigma_range: tuple[float, float] = (0.0, float("inf"))
    intensity: tuple[float, float] = (0.0, 1.0)
    complex_mode: str = "separate"
    tasks: tuple[str, ...] = ()
    bridge: str = ""
    head: str = "x0"
    local: bool = True
    coded: bool = False
    knows_error: bool = True
    knows_images: bool = True
    scaling: Mapping[str, str] = dataclasses.field(default_factory=dict)
    families: tuple[OperatorFamily, ...] = ()
    evaluations: int = 0
    acquisition: Acquisition | None = None
    subjects: str = ""
    tiling: Tiling = USUAL


def model_traits(model: Model) -> Traits:
    """What a model in memory says of itself."""
    if isinstance(model, ConditionalModel):
        return Traits(
            model.name, model.kind, model.channels, intensity=model.intensity, tasks=model.tasks,
            bridge=model.bridge, head=model.head, coded=model.coded, families=model.families,
        )  # fmt: skip
    if isinstance(model, CascadeModel):
        return Traits(
            model.name, model.kind, scaling=model.scaling, acquisition=model.acquisition, subjects=model.subjects
        )  # fmt: skip
    noise = (model.sigma_min, model.sigma_max)
    if isinstance(model, LatentModel):
        return Traits(model.name, model.kind, model.channels, noise, model.intensity)
    found = Traits(
        model.name, model.kind, model.channels, noise, model.intensity, model.complex_mode,
        local=model.local, knows_error=model.knows_error, knows_images=model.knows_images, scaling=model.scaling,
        tiling=model.tiling,
    )  # fmt: skip
    if not isinstance(model, DistilledModel):
        return found
    return _distilled(found, model.family, model.steps.count)


def _distilled(found: Traits, family: OperatorFamily, evaluations: int) -> Traits:
    """What a distilled model adds; of its spectra nobody asks."""
    return dataclasses.replace(
        found, tasks=(family.task,) if family.task else (), families=(family,), evaluations=evaluations,
        knows_error=True, knows_images=True,
    )  # fmt: skip


def card_traits(name: str | Path) -> Traits:
    """What the card of a bundled name or weight file says. Raises WeightsError."""
    from restore.priors.converted import ALONE, converted_from, is_converted
    from restore.priors.store import kind_of, read_card

    card, options = read_card(name), split_options(name)[1]
    if is_converted(card):
        kind = kind_of(name)  # the card makes sense
        if kind in ALONE:
            raise WeightsError(f"{name}: a converted {kind}, which is no prior by itself")
        return model_traits(converted_from(card).model())
    if not kind_of(name):
        raise WeightsError(
            f"{name}: architecture '{card.get('architecture')}' makes no prior, or is unknown to this version"
        )
    try:
        low, high = map(float, card.get("sigma_range", (0.0, float("inf"))))
        dark, bright = map(float, card.get("intensity", (0.0, 1.0)))
        kind = kind_of(name)
        found = Traits(
            str(card["name"]), kind, int(card["network"].get("channels", 1)), (low, high), (dark, bright),
            str(card.get("complex_mode", "separate")), tuple(map(str, card.get("tasks", ()))),
            str(card.get("bridge", "")), knows_error=kind not in DENOISING or "error_spectrum" in card,
            knows_images=kind not in DENOISING or "image_spectrum" in card, scaling=dict(card.get("scaling", {})),
            tiling=USUAL if options is None else options.tiling,
            acquisition=Acquisition.from_card(card["acquisition"]) if kind == "cascade" else None,
            subjects=str(card.get("subjects", "")), families=families_of(card),
        )  # fmt: skip
        if kind != "distilled":
            return found
        family = OperatorFamily.from_card(card["family"])
        return _distilled(found, family, FewSteps.from_card(card["few_steps"]).count)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise WeightsError(
            f"{name}: the card does not describe a prior ({type(error).__name__}: {error})"
        ) from error
