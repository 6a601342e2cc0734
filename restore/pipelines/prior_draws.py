"""Pictures from a prior alone: what it takes for likely, to be looked at before it is trusted with measurements.

Called by `restore sample` and by the pages of the priors; touches no files. A chain of noise levels is walked from
noise to a picture with a measurement that measures nothing, so that no data step changes anything.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve_problem
from restore.given_measurement import NOTHING_KNOWN
from restore.noise import Exact
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.photograph import check_memory
from restore.priors.base import DROWNED
from restore.priors.kept import weights_kept
from restore.priors.latent import CODES
from restore.priors.traits import Model, Traits, card_traits, model_traits
from restore.problem import Problem

MOST_DRAWS = 10_000
STARTS_AT, ENDS_AT = 40.0, 0.005
"""Noise of the first and the last level, as far as the prior is valid there. At 40 a mean picture of 0.5 is 1 % of the
noise, which is what the first state leaves out of it."""

CHAINS: dict[str, tuple[str, dict[str, Any]]] = {
    "denoiser": ("dds", {"n_steps": 40, "eta": 0.0, "turns": False, "solver": "unipc", "order": 3}),
    "latent": (
        "stsl", {"n_steps": 100, "eta_ddim": 0.0, "inner_steps": 0, "data_step": "none", "turns": False}
    ),
}  # fmt: skip
"""By the kind of prior: the sampler whose chain is walked, and its settings: the probability-flow ODE, by UniPC of
order 3 or, for codes, by DDIM."""


@dataclasses.dataclass(frozen=True, eq=False)
class PriorDraws:
    """images: (count, C, H, W), float32 on the CPU, unit intensities, not clipped. record: prior, sampler, settings,
    evaluations a picture, seconds, and what the draws look like. notes: what a user must know."""

    images: Tensor
    record: dict[str, Any]
    notes: tuple[str, ...]


def draw_from(
    prior: str | Model,
    *,
    count: int = 4,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    settings: dict[str, Any] | None = None,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    on_draw: Callable[[int], None] = lambda done: None,
) -> PriorDraws:
    """Draw `count` pictures of `size` (height, width) from a prior, a name, a file or a model in memory.

    Every picture is drawn alone and seeded by its number: the first three of ten are the three of three, to the bit.
    settings: of the sampler in `CHAINS`, such as {"n_steps": 80}. The steps lose a part of the variance: of a Gaussian
    prior 0.3 % at 40 steps of UniPC, 6 % at 100 of DDIM, by which codes are drawn. on_draw: is told how many are done.
    Raises ConfigError for a prior that cannot be drawn from (conditional ones, which know pictures
    only beside a degraded one; denoisers of little noise), and what `restore.solve` raises.
    """
    _check_request(count, size)
    traits = card_traits(prior) if isinstance(prior, str) else model_traits(prior)
    sampler, chain = _chain(traits)
    chain |= settings or {}
    shape = (max(traits.channels, 1), *size)
    if isinstance(prior, str):
        check_memory(shape, 1, sampler, prior, chain)
    nothing = Inpainting(torch.zeros(shape[-2:]), shape).to(device)
    drawn, start = [], time.perf_counter()
    with weights_kept():
        for k in range(count):
            empty = Problem(torch.zeros(shape, device=device), nothing, Exact(), ids=(str(k),))
            found = solve_problem(
                empty, prior=prior, sampler=sampler, seed=seed, precision=precision, **chain
            )
            drawn.append(found.image.float().cpu())
            on_draw(k + 1)
    images = torch.stack(drawn)
    record = {
        "prior": found.provenance["prior"], "sampler": sampler, "settings": found.provenance["settings"],
        "seed": seed, "count": count, "size": list(size), "precision": found.provenance["precision"],
        "evaluations": found.ends[0]["evaluations"], "seconds": round(time.perf_counter() - start, 3),
        "figures": _figures(images, traits.intensity),
    }  # fmt: skip
    return PriorDraws(images, record, tuple(n for n in found.notes if n != NOTHING_KNOWN))


def why_not(traits: Traits) -> str:
    """Why nothing can be drawn from a prior, in words that follow its name; empty where it can."""
    if traits.kind == "distilled":
        return (
            "is a distilled one: its few steps begin at a measurement, so that there is no draw from it alone; use it "
            "with `restore image --sampler fewstep`"
        )
    if traits.kind == "region":
        return (
            "is a region one, trained to answer where pixels are known: draw from the prior whose factors it "
            "holds, which its card names, and use it with `restore image --sampler rad`"
        )
    if traits.kind == "cascade":
        return (
            "is a cascade one: its steps begin at a scan and look at its data, so that there is no draw from it alone; "
            "use it with `restore recon --sampler varnet`"
        )
    if traits.kind not in CHAINS:
        return (
            f"is a {traits.kind or 'model'} one: it knows pictures only beside a degraded one, so that there is no "
            "draw from it alone; use it with `restore image --sampler resshift` or rddm"
        )
    low, high = CODES if traits.kind == "latent" else traits.intensity
    if traits.sigma_range[1] < DROWNED * (high - low):
        return (
            f"knows noise up to {traits.sigma_range[1]:.3g}, and a draw begins where noise drowns all of a picture, at "
            f"{DROWNED * (high - low):.3g} and more; it restores pictures, it cannot make them"
        )
    return ""


def _chain(traits: Traits) -> tuple[str, dict[str, Any]]:
    """The sampler and its settings. Raises ConfigError for a prior that cannot be drawn from."""
    reason = why_not(traits)
    if reason:
        raise ConfigError(f"prior '{traits.name}' {reason}")
    sampler, fixed = CHAINS[traits.kind]
    low, high = traits.sigma_range
    ends = {"sigma_start": min(STARTS_AT, high), "sigma_end": max(ENDS_AT, low)}
    walk = {"schedule": "karras", "start": "noise", "noise_rule": "ddim"}
    return sampler, {**walk, **ends, **fixed}


def _check_request(count: int, size: tuple[int, int]) -> None:
    if not 1 <= count <= MOST_DRAWS:
        raise ConfigError(f"count must be at least 1 and at most {MOST_DRAWS}, got {count}")
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"size must be height and width of at least 1 pixel, got {size}")


def _figures(images: Tensor, intensity: tuple[float, float]) -> dict[str, float]:
    """What the draws look like in numbers: against those of real pictures they show a prior that drifts."""
    low, high = intensity
    outside = ((images < low) | (images > high)).double().mean()
    return {
        "mean": round(float(images.double().mean()), 4),
        "deviation": round(float(images.double().std(correction=0)), 4),
        "share_outside_range": round(float(outside), 5),
    }
