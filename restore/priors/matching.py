"""Whether a model serves a run: what it says of itself held against what is asked, and what has to be said of the pair.

Called by `restore.priors.choosing` and by pipelines that look before they work; touches nothing.
"""

from __future__ import annotations

from restore.errors import ConfigError
from restore.priors.acquisition import notes_on
from restore.priors.base import ROUNDING, check_level
from restore.priors.demand import Demand, bundled_for
from restore.priors.latent import CODES
from restore.priors.traits import DENOISING, Traits
from restore.scaling import PEAK_RULE, PICTURE_RULE, WINDOW_RULE

_UNITS = {"mri": ("MR", PEAK_RULE), "ct": ("CT", WINDOW_RULE), "image": ("picture", PICTURE_RULE)}
"""Of what a kind of measurement is, and how its intensities become [0, 1]."""
PLANE = 2
"""Dimensions of a slice."""
_SEEN = 0.0025
"""Noise below this share of the intensity range, half a grey level of 8 bits, is not worth a word."""


def check(model: Traits, demand: Demand) -> tuple[str, ...]:
    """Whether a model serves a run, and what has to be said of the pair. Raises ConfigError for one that cannot."""
    _check_kind(model, demand)
    if model.tasks and demand.task not in model.tasks:
        raise ConfigError(
            f"prior '{model.name}' was trained for {', '.join(model.tasks)}, not for {demand.operator}; train one with "
            f"`restore {trained_by(model.kind)}`, or use dds or reddiff, which serve any operator"
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
    if demand.item_shape:
        notes += _other_strength(model, demand)
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


def _other_strength(model: Traits, demand: Demand) -> tuple[str, ...]:
    """What to say where a model was made for other strengths of the task than this one."""
    alike = [f for f in model.families if f.task in ("", demand.task)]
    if any(not f.doubts(demand.strength, demand.noise) for f in alike):
        return ()
    made = "distilled" if model.kind == "distilled" else "trained"
    return tuple(n for f in alike for n in f.notes(model.name, made, demand.strength, demand.noise))


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


def trained_by(kind: str) -> str:
    """The verb of `restore` that makes priors of a kind."""
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
    kinds, other = " or ".join(demand.kinds), bundled_for(demand)
    make = f"train one for {demand.operator} with `restore {trained_by(demand.kinds[0])}`"
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
    height, width = (n + 2 * min(demand.wrap, n) for n in demand.item_shape[-2:])
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
