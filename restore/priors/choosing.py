"""The one place where a prior is chosen and checked: what a run asks for, what a model says, whether they fit.

Called by `restore.solve`, the pipelines and the benchmarks, before the work: for a bundled name or a file its card
alone is read until everything fits. Samplers are given a prior that fits and check nothing. A *model* is a network with
its contract (`Denoiser`, `ConditionalModel`, `LatentModel`); a *prior* is a model made to fit the images of one run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from restore.errors import ConfigError, WeightsError
from restore.precision import autocast, checked
from restore.priors.acquisition import Acquisition, Seen, notes_on
from restore.priors.auto import automatic
from restore.priors.base import ROUNDING, Denoiser, check_level
from restore.priors.cascade import CascadeModel, CascadePrior
from restore.priors.coded_bridge import CodedConditional, CodedConditionalPrior
from restore.priors.conditional import ConditionalModel, ConditionalPrior
from restore.priors.distilled import (
    DistilledModel,
    DistilledPrior,
    FewSteps,
    OperatorFamily,
    Strength,
)
from restore.priors.door import recognised, tried
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import CODES, LatentModel, LatentPrior
from restore.priors.network_options import split_options
from restore.priors.network_precision import precision_for
from restore.priors.networks import copied_to, in_eval_mode
from restore.priors.tiles import USUAL, Tiling
from restore.scaling import PEAK_RULE, PICTURE_RULE, WINDOW_RULE

Model = Denoiser | ConditionalModel | LatentModel | CascadeModel
Prior = ImagePrior | ConditionalPrior | LatentPrior | CascadePrior
Given = Model | Callable[..., Any] | str | Path | None
Spread = Callable[[str, Model], Model]
"""What people name a prior by: "auto", a bundled name, a weight file, a model, any function D(x, sigma)."""

DENOISING = ("denoiser", "region")  # kinds whose models are each a `Denoiser`
_UNITS = {"mri": ("MR", PEAK_RULE), "ct": ("CT", WINDOW_RULE), "image": ("picture", PICTURE_RULE)}
"""Of what a kind of measurement is, and how its intensities become [0, 1]."""
PLANE = 2
"""Dimensions of a slice."""
_SEEN = 0.0025
"""Noise below this share of the intensity range, half a grey level of 8 bits, is not worth a word."""


@dataclasses.dataclass(frozen=True)
class Demand:
    """What a run asks of its prior.

    sampler: its name. kinds: the kinds of prior that it can use, the usual one first; none for classical ones. kind,
    task, operator: what the measurement is of, as `Operator` has them, and its operator in words. item_shape: of one
    image, (H, W) or (C, H, W), or (D, H, W) where `volume`; empty where it is not known yet. planes: of a volume, as
    `Problem` has them. is_complex: of the images.
    levels: the lowest and the highest noise at which a denoiser will be asked, None where that is not known before.
    gradients: it is differentiated. error, images: it uses what the denoiser knows of its own error, of its images.
    bridge, heads, intensity: of conditional samplers: the chain, what the model may predict (any where empty), and the
    range in which it runs. strength, noise: of the measurement, as `Operator.strength` has it and in unit intensities
    (None: unknown), and evaluations: of the sampler; for distilled models, which know one of each.
    measured: of samplers of cascades: how the data were, None where that is not known yet.
    """

    sampler: str
    kinds: tuple[str, ...]
    kind: str = "image"
    task: str = ""
    operator: str = "this measurement"
    item_shape: tuple[int, ...] = ()
    volume: bool = False
    planes: tuple[int, ...] = ()
    is_complex: bool = False
    levels: tuple[float, float] | None = None
    gradients: bool = False
    error: bool = False
    images: bool = False
    bridge: str = ""
    heads: tuple[str, ...] = ()
    intensity: tuple[float, float] = (0.0, 1.0)
    strength: Strength = dataclasses.field(default_factory=dict)
    noise: float | None = None
    evaluations: int = 0
    measured: Seen | None = None

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """Of what a prior sees: an item, or the slices of a volume."""
        return self.item_shape[-2:] if self.volume else self.item_shape


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
    family: OperatorFamily | None = None
    evaluations: int = 0
    acquisition: Acquisition | None = None
    subjects: str = ""
    tiling: Tiling = USUAL


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
        return ConditionalPrior(model, demand.item_shape, demand.intensity, precision)
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
    name = _bundled_for(demand)
    if not name:
        raise ConfigError(
            f"{demand.sampler} needs a {kinds} prior, and no bundled one serves {demand.operator}: train one with "
            f"`restore {_trained_by(demand.kinds[0])}`, or use a sampler for denoisers, such as dds or reddiff"
        )
    return name


def model_traits(model: Model) -> Traits:
    """What a model in memory says of itself."""
    if isinstance(model, ConditionalModel):
        return Traits(
            model.name, model.kind, model.channels, intensity=model.intensity, tasks=model.tasks,
            bridge=model.bridge, head=model.head, coded=model.coded,
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
        found, tasks=(family.task,) if family.task else (), family=family, evaluations=evaluations,
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
            subjects=str(card.get("subjects", "")),
        )  # fmt: skip
        if kind != "distilled":
            return found
        family = OperatorFamily.from_card(card["family"])
        return _distilled(found, family, FewSteps.from_card(card["few_steps"]).count)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise WeightsError(
            f"{name}: the card does not describe a prior ({type(error).__name__}: {error})"
        ) from error


def check(model: Traits, demand: Demand) -> tuple[str, ...]:
    """Whether a model serves a run, and what has to be said of the pair. Raises ConfigError for one that cannot."""
    _check_kind(model, demand)
    if model.tasks and demand.task not in model.tasks:
        raise ConfigError(
            f"prior '{model.name}' was trained for {', '.join(model.tasks)}, not for {demand.operator}; train one with "
            f"`restore {_trained_by(model.kind)}`, or use dds or reddiff, which serve any operator"
        )
    if model.kind == "conditional":
        _check_chain(model, demand)
    if model.evaluations and demand.evaluations not in (0, model.evaluations):
        raise ConfigError(
            f"prior '{model.name}' was distilled to {model.evaluations} evaluations, and {demand.sampler} is set to "
            f"{demand.evaluations}; set n_steps to {model.evaluations}, or distil one with `restore distill`"
        )
    if model.kind == "cascade":
        _check_slices(model, demand)
        known = notes_on(model.name, model.acquisition, model.subjects, demand.measured)
        return _other_images(model, demand) + known
    notes = _check_channels(model, demand) + _on_tiles(model, demand) if demand.item_shape else ()
    notes += _other_images(model, demand)
    if model.family is not None and demand.item_shape:
        notes += model.family.notes(model.name, demand.strength, demand.noise)
    if demand.images and not model.knows_images:
        raise ConfigError(
            f"start=gaussian: prior '{model.name}' does not know its images; measure them with `restore train gaussian`"
        )
    if demand.error and not model.knows_error:
        notes += (_spread_unknown(model, demand),)
    if model.kind == "conditional" and model.bridge and not model.tasks:
        notes += (
            f"the prior '{model.name}' does not say for which tasks it was trained (--tasks): whether "
            f"{demand.operator} is one of them is for you to know",
        )
    if model.kind == "conditional" or demand.levels is None:
        return notes
    return notes + _check_levels(model, demand, demand.levels)


def _check_slices(model: Traits, demand: Demand) -> None:
    """Refuse what a cascade model was not made for: volumes measured as a whole, sets of maps, colours."""
    if demand.item_shape and len(demand.item_shape) != PLANE:
        raise ConfigError(
            f"prior '{model.name}' is a cascade of steps on slices (H, W), and serves no images {demand.item_shape} "
            "that are measured as a whole; use dds with the prior 'medical'"
        )


def _other_images(model: Traits, demand: Demand) -> tuple[str, ...]:
    """What to say where a model was trained on other images than the run has, or on other units of theirs."""
    what, rule = _UNITS.get(demand.kind, ("", ""))
    if not model.scaling or not what or model.scaling.get(what) == rule:
        return ()
    known = ", ".join(f"{name} ({words})" for name, words in model.scaling.items())
    return (
        f"the prior '{model.name}' was trained on {known}, and {demand.operator} is of {what}, whose intensities go by "
        f"the {rule}: what the prior makes of them nobody has measured",
    )


def _trained_by(kind: str) -> str:
    return "distill" if kind == "distilled" else "train"


def _spread_unknown(model: Traits, demand: Demand) -> str:
    return (
        f"the prior '{model.name}' does not know its own error by frequency: {demand.sampler} begins with the variance "
        "of each noise level and follows the residuals; where little was measured, samples scatter rather too much "
        "(`restore train spectrum` measures the error)"
    )


def _check_kind(model: Traits, demand: Demand) -> None:
    if model.kind in demand.kinds:
        return
    kinds, other = " or ".join(demand.kinds), _bundled_for(demand)
    make = f"train one for {demand.operator} with `restore {_trained_by(demand.kinds[0])}`"
    advice = f"try the bundled '{other}'" if other else make
    raise ConfigError(
        f"{demand.sampler} needs a {kinds} prior, and '{model.name}' is a {model.kind} one; {advice}, or a sampler for "
        f"{model.kind} priors (`restore list samplers`)"
    )


def _check_chain(model: Traits, demand: Demand) -> None:
    """The bridge, what is predicted and the intensities of a conditional model."""
    if model.bridge not in ("", demand.bridge):
        raise ConfigError(
            f"prior '{model.name}' was trained for the bridge '{model.bridge}', not for {demand.sampler}; use the "
            f"sampler {model.bridge}"
        )
    if demand.heads and model.head not in demand.heads:
        raise ConfigError(
            f"prior '{model.name}' predicts '{model.head}'; {demand.sampler} takes {', '.join(demand.heads)}"
        )
    if model.intensity != demand.intensity and model.head != "x0":
        raise ConfigError(
            f"prior '{model.name}' predicts '{model.head}' of images in {model.intensity}, this chain runs in "
            f"{demand.intensity}; only models that predict x0 can be converted"
        )


def _check_channels(model: Traits, demand: Demand) -> tuple[str, ...]:
    item = demand.picture_shape
    channels = item[0] if len(item) == 3 else 1
    pairs = demand.is_complex and model.kind == "denoiser" and model.complex_mode == "channels"
    serves = (2,) if pairs else (0, 1, channels)
    if model.kind == "latent":
        serves = (model.channels,) if channels == 1 else (channels,)
    if model.kind == "conditional" and channels == 1:
        serves = (model.channels,)
    if len(item) not in (2, 3) or model.channels not in serves:
        kind = "complex" if demand.is_complex else "real"
        raise ConfigError(
            f"prior '{model.name}' has {model.channels} channels and cannot serve {kind} images of shape {item}; "
            + _advice(channels, model.kind)
        )
    if model.coded and (channels != model.channels or demand.is_complex):
        raise ConfigError(
            f"prior '{model.name}' works on codes of {model.channels}-channel real images and cannot serve images of "
            f"shape {item}; " + _advice(channels, model.kind)
        )
    if model.kind not in DENOISING and demand.volume:
        raise ConfigError(
            f"prior '{model.name}' is a {model.kind} one, and serves no volumes that are measured as a whole "
            f"{demand.item_shape}; use a denoiser such as 'medical', which sees their slices"
        )
    if model.kind == "latent" and demand.is_complex:
        raise ConfigError(
            f"prior '{model.name}' encodes real images; use a pixel prior such as 'medical' for complex ones"
        )
    if channels == 1 or pairs or model.channels != 1:
        return ()
    return (
        f"the prior '{model.name}' has one channel: the {channels} channels are restored one by one",
    )


def _on_tiles(model: Traits, demand: Demand) -> tuple[str, ...]:
    height, width = demand.item_shape[-2:]
    whole = model.kind == "latent" or model.coded or not model.local
    return () if whole else model.tiling.remarks(model.name, height, width)


def _advice(channels: int, kind: str) -> str:
    if kind == "distilled":
        return (
            f"distil one from a denoiser of {channels} channels with `restore distill`, or use dds"
        )
    if channels == 1:
        return "use prior 'medical' for one-channel images"
    if channels == 4:
        return "use prior 'natural' for RGB, on the three colours without the fourth channel"
    return "use prior 'natural' for RGB"


def _check_levels(model: Traits, demand: Demand, levels: tuple[float, float]) -> tuple[str, ...]:
    """Whether the noise levels of the sampler lie where the model is valid, up to rounding and what is invisible."""
    (low, high), least = levels, model.sigma_range[0]
    asked = f"{demand.sampler} asks for noise of {low:.3g} to {high:.3g}"
    seen, what = (CODES, "codes") if model.kind == "latent" else (model.intensity, "images")
    for level in levels:
        check_level(level, model.sigma_range, seen, model.name, asked, what)
    width = seen[1] - seen[0]
    if low >= least * (1 - ROUNDING) or least <= _SEEN * width:
        return ()
    return (
        f"the prior '{model.name}' is valid from noise of {least:.3g}, {asked}: below, it is asked at {least:.3g}",
    )


def _bundled_for(demand: Demand) -> str:
    """The bundled prior of the first kind that there is one of (`restore.priors.auto`), or ""."""
    subject = demand.kind
    if demand.kind == "image" and not demand.is_complex:
        colour = len(demand.item_shape) == 3 and demand.item_shape[0] == 3
        subject = "colour" if colour else "grey"
    return automatic(demand.kinds, subject)


_kept: ContextVar[dict[str, Model] | None] = ContextVar("_kept", default=None)
_spread: ContextVar[Spread | None] = ContextVar("_spread", default=None)


@contextmanager
def weights_kept(kept: dict[str, Model] | None = None) -> Iterator[None]:
    """Models named inside are read once and stay in memory to the end, for a row of runs.

    kept: where they stay by name, for rows that go on elsewhere.
    """
    token = _kept.set({} if kept is None else kept)
    try:
        yield
    finally:
        _kept.reset(token)


@contextmanager
def models_spread(spread: Spread) -> Iterator[None]:
    """Models named inside pass through a function of their name and themselves: to be asked in several places."""
    token = _spread.set(spread)
    try:
        yield
    finally:
        _spread.reset(token)


def loaded(name: str) -> Model:
    """A bundled model or one of a weight file, inside `weights_kept` read once. Raises WeightsError."""
    from restore.priors.store import load_prior

    kept, spread = _kept.get(), _spread.get()
    model: Model | None = None if kept is None else kept.get(name)
    if model is None:
        model = load_prior(name)
        if kept is not None:
            kept[name] = model
    return model if spread is None else spread(name, model)
