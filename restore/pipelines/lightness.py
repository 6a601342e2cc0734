"""Colour pictures whose lightness alone is restored, by a prior for grey ones; their colours are interpolated.

Between `restore.pipelines.photograph` and `restore.solve`; touches no files. kornia is imported on first use.

Lightness is Y of YCbCr (ITU-R BT.601), 0.299 R + 0.587 G + 0.114 B of the stored values, and not L of Lab: Y is linear
in them, so that a blurred, shrunk or noisy picture has the blurred, shrunk or noisy Y of the sharp one; operator and
noise of the grey problem are known exactly; L, a cube root, has no such operator. Y is also what the bundled grey prior
saw of photographs. The same number added to R, G and B moves Y and leaves Cb and Cr: nothing is converted back.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.pipelines.degrade import QUANTISATION_STD, Degradation, Task
from restore.problem import Reconstruction

INTERPOLATION: dict[Task, str] = {"superres": "bicubic", "inpaint": "biharmonic"}
"""The classical sampler that colours come from; those of the other tasks are left as they were measured."""


def luma(picture: Tensor) -> Tensor:
    """Y of a picture (..., 3, H, W), as (..., 1, H, W). Raises ConfigError for another number of channels."""
    from kornia.color import rgb_to_y

    if picture.ndim < 3 or picture.shape[-3] != 3:
        raise ConfigError(
            f"lightness is taken from RGB pictures (3, H, W), got {tuple(picture.shape)}"
        )
    return rgb_to_y(picture)


def luma_noise(picture: Tensor, std: float) -> float:
    """Noise deviation of Y: white noise of three channels averages; channels that are equal have one noise."""
    if bool((picture == picture[..., :1, :, :]).all()):
        return std
    weights = luma(torch.eye(3)[..., None, None]).flatten()
    return std * float(weights.square().sum().sqrt())


def coloured(lightness: Tensor, colour: Tensor) -> Tensor:
    """`colour` (..., 3, H, W) with its Y exchanged for `lightness` (..., 1, H, W)."""
    return colour + (lightness - luma(colour))


def restore_lightness(
    degradation: Degradation,
    measured: Tensor,
    operator: LinearOperator,
    *,
    noise: float,
    seed: int,
    **how: Any,
) -> Reconstruction:
    """Restore Y of a measured colour picture and put it under the colours that a classical method makes.

    degradation: of the picture; measured: (3, H', W') on the operator's device; operator: of the colour picture; noise:
    deviation of every channel, in the same units; how: as `restore.solve`. The deviation over samples is Y's. A picture
    of one channel is its own Y. Raises as `solve` does.
    """
    if operator.in_shape[0] == 1:
        return solve(measured, operator, noise=noise, seed=seed, **how)
    grey = degradation.operator((1, *operator.in_shape[1:])).to(measured.device)
    found = solve(luma(measured), grey, noise=luma_noise(measured, noise), seed=seed, **how)
    colour, methods = _colour(measured, degradation.task, operator, noise)
    return dataclasses.replace(
        found, image=coloured(found.image, colour), std=_thrice(found.std),
        samples=None if found.samples is None else coloured(found.samples, colour),
        provenance=found.provenance | {"luma": {"lightness": "Y of YCbCr", "colour": methods}},
    )  # fmt: skip


def _colour(
    measured: Tensor, task: Task, operator: LinearOperator, noise: float
) -> tuple[Tensor, list[str]]:
    """A picture whose colours are right, and the classical samplers that made it, in order.

    Noise beyond the rounding of a file is taken out by non-local means: before the picture is enlarged, where it is
    white, but after holes are filled. With noise of 0.05 that is worth 1 to 4 dB of the restored picture.
    """
    noisy, method = noise > 1.01 * QUANTISATION_STD, INTERPOLATION.get(task, "")
    picture, methods = measured, []
    if noisy and task != "inpaint":
        picture, methods = _denoised(picture, noise), ["nlm"]
    if method:
        picture = solve(picture, operator, noise=noise, prior=None, sampler=method).image
        methods.append(method)
    if noisy and task == "inpaint":
        picture = _denoised(picture, noise)
        methods.append("nlm")
    return operator.picture(picture) if task == "deblur" else picture, methods


def _denoised(picture: Tensor, noise: float) -> Tensor:
    like = torch.empty(0, device=picture.device)
    plain = Identity(tuple(picture.shape), like=like)
    return solve(picture, plain, noise=noise, prior=None, sampler="nlm").image


def _thrice(std: Tensor | None) -> Tensor | None:
    return None if std is None else std.expand(*std.shape[:-3], 3, *std.shape[-2:])
