"""What people hand in as a prior: recognised, and somebody else's denoiser tried on one image before the work.

Called by `restore.priors.choosing` alone.
"""

from __future__ import annotations

import copy
import inspect
import math
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.priors.base import Denoiser
from restore.priors.cascade import CascadeModel, CascadePrior
from restore.priors.conditional import ConditionalModel, ConditionalPrior
from restore.priors.foreign import checked_call, what_is
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import LatentModel, LatentPrior
from restore.priors.wrappers import FromDenoiser

_LARGEST = 512
"""Side in pixels of the image that a denoiser is tried on, at most: a larger one tells no more and takes minutes."""
_NOISE = 0.1
"""Noise of that image as a share of the intensity range, where the prior is valid there."""
_SAME = 1e-2
"""Relative difference of two answers that counts as the same: networks in bfloat16 on a GPU, whose sums have no fixed
order, differ by some 1e-3; dropout of one in ten differs by 1e-1."""
_MULTIPLES = (8, 16, 32, 64)
"""Of sides in pixels that networks ask for."""
_IDLE = 0.97
"""An answer as far from the clean image as the noisy one was: the smoothest filter brings that below 0.5."""
_STRANGE = 3.0
"""An answer so many times the noise away from the clean image was no denoising: a denoiser takes noise away (below 1);
a network that returns the noise itself, or zeros, is 5 and more away."""


def recognised(given: Any) -> Denoiser | ConditionalModel | LatentModel | CascadeModel:
    """A model, or any function as a denoiser of its own. Raises ConfigError for what is neither."""
    if isinstance(given, Denoiser | ConditionalModel | LatentModel | CascadeModel):
        return given
    if isinstance(given, ImagePrior):
        return given.prior
    if isinstance(given, ConditionalPrior | LatentPrior | CascadePrior):
        return recognised(given.model)
    if inspect.isclass(given) or not callable(given):
        raise ConfigError(
            f"prior: {what_is(given)}; a bundled name, a weight file or a model would do as well"
        )
    return FromDenoiser(given)


def tried(
    model: Denoiser, item_shape: tuple[int, ...], is_complex: bool, like: Tensor, gradients: bool
) -> tuple[Denoiser, tuple[str, ...]]:
    """The denoiser after two calls with pictures of the run's size, and what has to be said of its answers.

    For a `FromDenoiser` that leaves it open, the number of channels and the form of sigma that it takes are found and
    set in a copy. like: a tensor of the run, for device and precision. gradients: it must be differentiable. Raises
    ConfigError, ShapeError: no tensor of the same shape, not finite, another answer to the same picture, no gradient.
    """
    failures: list[str] = []
    for candidate in _candidates(model, item_shape, is_complex):
        clean, x, sigma = _picture(candidate, item_shape, is_complex, like)
        try:
            first = _answer(candidate, x, sigma)
        except (ConfigError, ShapeError) as error:
            failures.append(str(error))
            continue
        again = _answer(candidate, x[:1], sigma, gradients=gradients)
        _check(candidate.name, first, again, gradients)
        return candidate, _remarks(candidate, first, x, clean, sigma)
    raise ConfigError(
        "; ".join(dict.fromkeys(failures)) + _on_other_sides(model, item_shape, is_complex, like)
    )


def _on_other_sides(
    model: Denoiser, item_shape: tuple[int, ...], is_complex: bool, like: Tensor
) -> str:
    """What to do, where the denoiser answers pictures whose sides are multiples of a power of two."""
    if isinstance(model, FromDenoiser) and model.multiple > 1:
        return ""
    for multiple in _MULTIPLES:
        if all(n % multiple == 0 for n in item_shape[-2:]):
            continue
        sides = (3 * multiple, 5 * multiple)  # multiples of no higher power of two
        for candidate in _candidates(model, (*item_shape[:-2], *sides), is_complex):
            _, x, sigma = _picture(candidate, (*item_shape[:-2], *sides), is_complex, like)
            try:
                _answer(candidate, x, sigma)
            except (ConfigError, ShapeError):
                continue
            return (
                f"; it answers pictures whose sides are multiples of {multiple}: FromDenoiser(network, "
                f"multiple={multiple}), as every wrapper, grows them to that and cuts the answer"
            )
    return ""


def _candidates(model: Denoiser, item_shape: tuple[int, ...], is_complex: bool) -> list[Denoiser]:
    """The model as it is or, where it leaves channels and the form of sigma open, in each way that it may be called."""
    if not isinstance(model, FromDenoiser):
        return [model]
    counts = [model.channels] if model.channels else [_channels(model, item_shape, is_complex), 1]
    found: list[Denoiser] = []
    for channels in dict.fromkeys(counts):
        for form in (model.sigma_as,) if model.sigma_as else ("number", "vector"):
            twin = copy.copy(model)
            twin.channels, twin.sigma_as = channels, form
            found.append(twin)
    return found


def _channels(model: Denoiser, item_shape: tuple[int, ...], is_complex: bool) -> int:
    if model.channels:
        return model.channels
    if is_complex and model.complex_mode == "channels":
        return 2
    return item_shape[0] if len(item_shape) == 3 else 1


def _picture(
    model: Denoiser, item_shape: tuple[int, ...], is_complex: bool, like: Tensor
) -> tuple[Tensor, Tensor, float]:
    """Two smooth pictures in the prior's range, (2, C, H, W), the same with noise, and the noise's level."""
    height, width = (min(n, _LARGEST) for n in item_shape[-2:])
    low, high = model.intensity
    sigma = min(max(_NOISE * (high - low), model.sigma_min), model.sigma_max)
    waves = [torch.cos(torch.linspace(0, 3 * math.pi, n)) for n in (height, width)]
    plane = low + (high - low) * (0.5 + 0.3 * waves[0][:, None] * waves[1])
    clean = plane.expand(2, _channels(model, item_shape, is_complex), -1, -1)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    real = like.real.dtype if like.is_complex() else like.dtype
    clean, noise = (t.to(device=like.device, dtype=real) for t in (clean, noise))
    return clean, clean + sigma * noise, sigma


def _answer(model: Denoiser, x: Tensor, sigma: float, *, gradients: bool = False) -> Tensor:
    with torch.set_grad_enabled(gradients):
        leaf = x.clone().requires_grad_(gradients)
        out = checked_call(model, leaf, sigma, model.name)
    if out.shape != x.shape:
        raise ShapeError(
            f"prior '{model.name}' returned {tuple(out.shape)} for {tuple(x.shape)}, expected the same shape"
        )
    return out


def _check(name: str, first: Tensor, again: Tensor, gradients: bool) -> None:
    if not bool(torch.isfinite(first).all() and torch.isfinite(again).all()):
        raise ConfigError(
            f"prior '{name}' returned values that are not finite for a picture that is"
        )
    one = first[:1]
    change = float(torch.linalg.vector_norm(one - again.detach()))
    size = float(torch.linalg.vector_norm(one))
    if change > _SAME * size:
        share = f"{change / size:.1%}" if size else "all of it"
        raise ConfigError(
            f"prior '{name}' answers differently (by {share}) when it is asked again about the same picture alone: no "
            "result could be repeated; leave out what is random in it, as dropout is, and what mixes the pictures of a "
            "batch"
        )
    if gradients and not again.requires_grad:
        raise ConfigError(
            f"prior '{name}' cannot be differentiated (it computes without gradients, or outside of torch), and this "
            "sampler follows its gradient; use one that does not, such as dds"
        )


def _remarks(
    model: Denoiser, out: Tensor, x: Tensor, clean: Tensor, sigma: float
) -> tuple[str, ...]:
    off = float(torch.linalg.vector_norm(out - clean) / torch.linalg.vector_norm(x - clean))
    if _IDLE < off < 1 / _IDLE and model.sigma_min <= sigma <= model.sigma_max:
        return (
            f"the prior '{model.name}' took no noise of {sigma:.3g} out of a smooth picture: if it is told the noise "
            "in other units (timesteps, -1..1, 0..255) or returns the noise, see restore.priors.wrappers",
        )
    if off <= _STRANGE:
        return ()
    images = f"a smooth picture in {model.intensity[0]:g}..{model.intensity[1]:g}"
    return (
        f"the prior '{model.name}' was shown {images} with noise of {sigma:.3g}, and its answer is {off:.1f} times the "
        "noise away from it; a denoiser returns the clean picture in the same intensities (for networks that return "
        "noise, velocity or score, or live in -1..1, see restore.priors.wrappers)",
    )
