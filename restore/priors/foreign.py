"""The border to somebody else's network: what it is told of images, how it is called, what it may answer.

Called by the wrappers, which know the parametrisations. Nothing raw passes: what a network throws or returns by mistake
becomes a sentence with its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, get_args

import torch
from torch import Tensor

from restore.config import did_you_mean
from restore.errors import ConfigError, RestoreError
from restore.priors.base import ComplexMode
from restore.priors.networks import networks_in

Range = tuple[float, float]


class Images(TypedDict, total=False):
    """What a network knows of images; keyword arguments of every wrapper.

    channels: 1 (`FromDenoiser`: as many as the images have). trained: intensities of its training images, (0, 1).
    intensity: the same images as the samplers see them, (0, 1). complex_mode: "separate". multiple: sides are padded to
    a multiple of this, 1. name: for messages, that of the network.
    """

    channels: int
    trained: Range
    intensity: Range
    complex_mode: ComplexMode
    multiple: int
    name: str


def check_images(kind: type, network: Any, sigma_range: Range, images: Images) -> None:
    """Raise ConfigError for a network that cannot be called, an unknown keyword, and a value that cannot be.

    kind: the wrapper, whose constructor says which keywords there are beside those of `Images`.
    """
    wrapper, own = kind.__name__, inspect.signature(kind).parameters.values()
    known = [p.name for p in own if p.kind is p.KEYWORD_ONLY] + list(Images.__annotations__)
    for key in images:
        if key not in known:
            hint = f"{did_you_mean(key, known)}; there are: {', '.join(known)}"
            raise ConfigError(f"{wrapper}: no setting '{key}'{hint}")
    if inspect.isclass(network) or not callable(network):
        raise ConfigError(f"{wrapper}: the network is {what_is(network)}")
    for key in ("channels", "multiple"):
        value = images.get(key, 1)
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{wrapper}: {key} is a whole number of 1 or more, got {value!r}")
    mode = images.get("complex_mode", "separate")
    if mode not in get_args(ComplexMode):
        words = ", ".join(get_args(ComplexMode))
        raise ConfigError(f"{wrapper}: complex_mode is one of {words}, got {mode!r}")
    unit = (0.0, 1.0)
    spans = {
        "noise": sigma_range, "trained": images.get("trained", unit), "intensity": images.get("intensity", unit),
    }  # fmt: skip
    for what, (low, high) in spans.items():
        if not low < high or (what == "noise" and low < 0):
            raise ConfigError(
                f"{wrapper}: the {what} range is {low}..{high}, expected low < high, noise not below 0"
            )


def what_is(thing: Any) -> str:
    """What was handed in instead of something to call, and what was expected."""
    if inspect.isclass(thing):
        return f"the class {thing.__name__}, expected an instance of it: {thing.__name__}(...)"
    return f"{thing!r}, expected a function or a network"


def what_is_wrong(out: Any, like: Tensor) -> str:
    """What an answer is, where it is no tensor of the shape of `like`; else nothing."""
    if not isinstance(out, Tensor):
        return f"a {type(out).__name__}"
    return "" if out.shape == like.shape else f"{tuple(out.shape)}"


def called(thing: Any) -> str:
    """What to call a network or function in messages: its own name, or that of its class."""
    names = (getattr(thing, key, "") for key in ("name", "__name__"))
    return next((n for n in names if n and isinstance(n, str)), type(thing).__name__)


def answer(network: Callable[..., Any], x: Tensor, level: Tensor | float, name: str) -> Tensor:
    """What a network returns for x in the network's own precision; otherwise as `checked_call`."""
    dtype = _precision(network) or x.dtype
    if isinstance(level, Tensor) and level.is_floating_point():
        level = level.to(dtype)
    return checked_call(network, x.to(dtype), level, name)


def checked_call(
    network: Callable[..., Any], x: Tensor, level: Tensor | float, name: str
) -> Tensor:
    """What a network returns, if that is a tensor of real numbers on x's device.

    x: (N, C, H, W); level: a number or (N,). Raises ConfigError, with the network's own words where it fails.
    """
    try:
        out = network(x, level)
    except (RestoreError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        words = (
            f"a level {tuple(level.shape)}" if isinstance(level, Tensor) else "a level as a number"
        )
        raise ConfigError(
            f"prior '{name}' failed for x {tuple(x.shape)} {x.dtype} on {x.device} and {words}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(out, Tensor):
        raise ConfigError(f"prior '{name}' returned {_mistake(out)}")
    if not out.is_floating_point() or out.device != x.device:
        raise ConfigError(
            f"prior '{name}' returned {out.dtype} on {out.device}, expected real numbers on {x.device} as it was given"
        )
    return out


def _precision(network: Any) -> torch.dtype | None:
    """Of the first weights of the networks inside, None where there are none."""
    weights = (p for n in networks_in(network) for p in n.parameters())
    return next((p.dtype for p in weights if p.is_floating_point()), None)


def _mistake(out: Any) -> str:
    """What a network returned instead of a tensor, and how to get at the tensor."""
    take = (
        "expected the picture alone; give a function that takes it out: lambda x, s: network(x, s)"
    )
    if isinstance(out, tuple | list):
        return f"a {type(out).__name__} of {len(out)}, {take}[0]"
    inner = [k for k in ("sample", "prev_sample") if isinstance(getattr(out, k, None), Tensor)]
    if inner:
        return f"a {type(out).__name__}, {take}.{inner[0]}"
    return f"a {type(out).__name__}, expected a torch.Tensor"
