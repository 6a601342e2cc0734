"""Restore a photograph: build the problem of a task, solve it, and compare where the truth is known.

Between `restore.solve` and the command line's `restore image`; touches no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from restore.datasets.budget import check_work
from restore.errors import ConfigError
from restore.front_door import solve
from restore.method import Method
from restore.metrics import psnr, ssim
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.pipelines.degrade import (
    Degradation,
    add_noise,
    classical_baseline,
    default_sampler,
    reckoned_noise,
)
from restore.pipelines.factors import Circumstances
from restore.pipelines.interval import CUT_SHORT, Interval, IntervalOptions, interval_of
from restore.pipelines.lightness import restore_lightness
from restore.pipelines.quality import quality_record, sampler_of_quality
from restore.priors.store import read_card
from restore.priors.tiles import USUAL
from restore.priors.traits import card_traits
from restore.problem import Reconstruction, Step
from restore.registry import load_sampler
from restore.samplers.base import Planned
from restore.starts import DRAWN
from restore.time_limit import TimeLimit, was_ended

IMAGES_AT_ONCE = 12
"""Images of the result's size in float32 that reading, a sampler with its data step, and writing hold together."""
NETWORK_BYTES, WITH_GRADIENTS, OF_CODES = 1000, 5500, 2500
"""Activations of the bundled networks, a pixel of what is shown to them at once: of pixels, of pixels with gradients,
and of the autoencoder with gradients, which is shown the whole picture. Measured at 512 x 512: 5.5 and 2.5 kB."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageResult:
    """Restored image (C, H, W), the measurement, the classical image (simulation only) and the metrics. std, interval:
    deviation and the interval's half-width, of several samples. structured: of a sampler that separates it, the
    structured noise as it looks by itself."""

    restored: Tensor
    std: Tensor | None
    measured: Tensor
    classical: Tensor | None
    record: dict[str, Any]
    alpha: Tensor | None = None
    interval: Tensor | None = None
    structured: Tensor | None = None


def restore_image(
    photo: Tensor,
    degradation: Degradation,
    *,
    noise: float | Literal["estimate"] | None = None,
    least_noise: float = 0.0,
    simulate: bool = False,
    sampler: str = "auto",
    prior: str = "auto",
    samples: int = 1,
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    on_step: Callable[[Step], None] | None = None,
    alpha: Tensor | None = None,
    luma: bool = False,
    precision: str = "auto",
    interval: IntervalOptions | None = None,
    quality: str = "standard",
    time_limit: float | TimeLimit | None = None,
    start: str = DRAWN,
) -> ImageResult:
    """Restore `photo` (C, H, W) in [0, 1]; with `simulate` degrade it first and report PSNR and SSIM.

    alpha: (1, H, W), for measured pictures: colour is restored premultiplied, so that what lies behind clear pixels
    does not bleed into seen ones, and divided by the alpha of the result's size afterwards.
    noise: standard deviation in the same units; "estimate" or None: estimated, the latter with a note (`simulate`: none
    is added). least_noise: what the file itself adds, such as a JPEG (`restore.pipelines.jpeg_noise`). sampler "auto":
    dds, or tweedie to denoise. prior "auto": the bundled one of the kind that the sampler needs (`restore.solve`).
    luma: of a colour picture restore the lightness alone, with a prior for grey pictures
    (`restore.pipelines.lightness`). precision: as for `restore.solve`. interval: around the mean of several samples.
    quality: of `quality.Quality`. time_limit, start (`chosen_start` there): as for `restore.solve`.
    Raises ConfigError, ShapeError, OutOfMemory (before any work, where the result is too large).
    """
    _check_simulation(simulate, noise, alpha)
    _check_separation(sampler, luma or alpha is not None)
    photo = photo if alpha is None else photo * alpha
    truth = degradation.fit(photo) if simulate else None
    shape = degradation.clean_shape(tuple(photo.shape)) if truth is None else tuple(truth.shape)
    asked = {k: v for k, v in (settings or {}).items() if (k, v) != ("preset", "tuned")}
    sampler, samples = sampler_of_quality(quality, sampler, asked.get("preset", "tuned"), samples)
    if sampler == "auto":
        sampler = default_sampler(degradation.task, asked, samples)
    check_memory(shape, samples, sampler, prior, asked)
    operator = degradation.operator(shape)
    measured = photo if truth is None else add_noise(operator(truth), _number(noise), seed)
    if degradation.mask is not None:
        measured = measured * degradation.mask
    stated = _number(noise) if simulate else noise
    level, told, notes = reckoned_noise(stated, least_noise, measured, operator)
    how: dict[str, Any] = {"noise": level, "prior": prior, "sampler": sampler, "samples": samples}
    how |= {"seed": seed, "on_step": on_step, "precision": precision}
    how |= {"time_limit": time_limit, "chosen_start": start, **asked}
    there = measured.to(device), operator.to(device)
    result = restore_lightness(degradation, *there, **how) if luma else solve(*there, **how)
    record: dict[str, Any] = {"task": degradation.task, **result.provenance, "steps": result.log}
    notes += [*degradation.doubts, *result.notes]
    record |= {"noise_is": told, "notes": notes, **quality_record(quality)}
    classical = None
    if truth is not None:
        baseline = classical_baseline(degradation.task)
        classical = solve(measured, operator, noise=level, prior=None, sampler=baseline).image
        shown = {"degraded": _shown(measured, operator), f"classical ({baseline})": classical}
        shown["restored"] = result.image.cpu()
        record["metrics"] = {name: _compare(image, truth) for name, image in shown.items()}
    planes = {"restored": result.image.cpu()}
    if result.std is not None and quality == "standard":
        difficulty = degradation.difficulty(shape) | ({"lightness": "alone"} if luma else {})
        measured_as = Circumstances("image", degradation.task, difficulty, level)
        around = _interval(result, prior, interval or IntervalOptions(), measured_as)
        record |= {"interval": around.record, "notes": [*record["notes"], *around.notes]}
        planes |= {"std": result.std.cpu(), "interval": torch.from_numpy(around.half_width)}
    seen = None
    if alpha is not None:
        size = tuple(result.image.shape[-2:])
        seen = torch.nn.functional.interpolate(alpha[None], size, mode="bilinear")[0]
        planes = {name: plane / seen.clamp(min=1 / 255) for name, plane in planes.items()}
    part = result.structured
    return ImageResult(
        planes["restored"], planes.get("std"), measured, classical, record, seen, planes.get("interval"),
        None if part is None else operator.pinv(part.cpu()),
    )  # fmt: skip


def _check_simulation(simulate: bool, noise: float | str | None, alpha: Tensor | None) -> None:
    if alpha is not None and simulate:
        raise ConfigError("a picture with transparency cannot be degraded; put it on a background")
    if simulate and noise == "estimate":
        raise ConfigError("the noise to add to a simulated picture is a number; give it")


def _check_separation(sampler: str, in_part: bool) -> None:
    if in_part and sampler != "auto" and load_sampler(sampler).separates:
        raise ConfigError(
            f"{sampler} looks for structured noise in the whole picture: leave out --luma, and put a picture with "
            "transparency on a background"
        )


def _interval(
    result: Reconstruction, prior: str, options: IntervalOptions, measured: Circumstances
) -> Interval:
    """Around the mean of several samples. prior: as asked for."""
    found = result.provenance
    name = found["prior"] or ""
    weights = str(read_card(name if prior == "auto" else prior)["sha256"]) if name else ""
    weights += CUT_SHORT if was_ended(result.ends) else ""
    centre = found["mean_by"]
    mean_by = centre and {key: centre[key] for key in ("sampler", "settings")}
    method = Method(name, weights, found["sampler"], found["settings"], mean_by)
    drawn = np.empty(0) if result.samples is None else result.samples.float().cpu().numpy()
    return interval_of(drawn, options, method, measured)


def check_memory(
    shape: tuple[int, ...],
    samples: int,
    sampler: str = "dds",
    prior: str = "auto",
    settings: dict[str, Any] | None = None,
) -> None:
    """Refuse a result of `shape` (C, H, W) that does not fit into memory, before any work.

    settings: of the sampler, its preset among them. Raises ConfigError, OutOfMemory.
    """
    channels, height, width = shape
    given = {"preset": "tuned"} | (settings or {})
    kind = load_sampler(sampler).configured(given.pop("preset"), Planned("image"), given)
    images = channels * height * width * 4 * (IMAGES_AT_ONCE * kind.states + 2 * samples)
    tiling = USUAL if prior == "auto" or not kind.prior_kinds else card_traits(prior).tiling
    at_once, each = tiling.at_once(height, width), NETWORK_BYTES
    hint = "cut the picture into pieces, or ask for a smaller factor or fewer samples"
    if "latent" in kind.prior_kinds and _is_latent(prior):
        at_once, each = height * width, OF_CODES
        hint += f"; '{prior}' sees pictures whole, priors of pixels such as 'natural' in tiles"
    elif kind.differentiates:
        each = WITH_GRADIENTS
        hint += f"; {sampler} follows gradients through the network, dds does not"
    network = each * at_once if kind.prior_kinds else 0
    check_work(images + network, f"a restored picture of {width} x {height} pixels", hint)


def _is_latent(prior: str) -> bool:
    return prior != "auto" and card_traits(prior).kind == "latent"


def _number(noise: float | str | None) -> float:
    return float(noise) if isinstance(noise, int | float) else 0.0


def _shown(measured: Tensor, operator: object) -> Tensor:
    """The measurement at the size of the image, for comparison: nearest neighbours for super-resolution."""
    if isinstance(operator, Blur) and operator.boundary == "valid":
        return operator.spread(measured)
    if not isinstance(operator, Downsample):
        return measured
    grown = measured.repeat_interleave(operator.factor, -2).repeat_interleave(operator.factor, -1)
    return grown[..., : operator.in_shape[-2], : operator.in_shape[-1]]


def _compare(image: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR and SSIM with data range 1, on what a file would hold: values in [0, 1]."""
    shown, kept = image.clamp(0, 1), truth
    return {
        "psnr": round(float(psnr(shown, kept, data_range=1.0)), 3),
        "ssim": round(float(ssim(shown, kept, data_range=1.0)), 4),
    }
