"""`restore.solve`: one measurement, one operator, one prior, one sampler, one answer.

The front door for scripts and the one place where a sampler's steps are consumed for a result. Used by the
pipelines for every chunk of slices.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore.errors import ConfigError, DivergenceError
from restore.noise import Gaussian, Noise
from restore.operators.base import Operator
from restore.priors.adapter import ImagePrior
from restore.priors.base import Denoiser
from restore.priors.conditional import ConditionalModel, ConditionalPrior
from restore.priors.latent import LatentModel, LatentPrior
from restore.problem import Problem, Reconstruction, Step
from restore.randomness import Draws
from restore.registry import check_operator, load_sampler, name_of
from restore.samplers.base import Sampler
from restore.scaling import Scaling

Model = Denoiser | ConditionalModel | LatentModel


def solve(
    y: Tensor,
    operator: Operator,
    *,
    noise: Noise | float | None = None,
    prior: Model | str | Path | None = "auto",
    sampler: Sampler | str = "dds",
    samples: int = 1,
    seed: int = 0,
    scaling: Scaling | None = None,
    ids: tuple[str, ...] = (),
    on_step: Callable[[Step], None] | None = None,
    trace: bool = False,
    **settings: Any,
) -> Reconstruction:
    """Reconstruct x from y = A x + noise.

    y: (*batch, *operator.out_shape). noise: a model, a standard deviation (per real channel), or None for noiseless
    or unknown. prior: a bundled name, a weight file, a model, or "auto": the bundled one of the kind that the sampler
    needs. sampler: a name with its tuned preset for this operator, or a configured sampler; `settings` replace single
    values of a named one ("preset" chooses another preset). samples > 1 gives the posterior mean and standard
    deviation. scaling: default by the operator (MRI: 0.999 quantile of the classical image; CT: attenuation of
    1500 HU and air; else none). on_step sees every Step. trace: put the data misfit of every step into the log, at the
    cost of one forward projection each; the last step has it anyway.

    Raises ShapeError, ConfigError, WeightsError, DivergenceError. Returns images of shape (*batch, *in_shape).
    """
    noise = Gaussian(float(noise)) if isinstance(noise, int | float) else noise
    problem = Problem(y, operator, noise, scaling or Scaling(), ids)
    if scaling is None:
        problem = dataclasses.replace(problem, scaling=default_scaling(y, operator))
    return solve_problem(
        problem, prior=prior, sampler=sampler, samples=samples, seed=seed, on_step=on_step, trace=trace, **settings
    )  # fmt: skip


def solve_problem(
    problem: Problem,
    *,
    prior: Model | str | Path | None = "auto",
    sampler: Sampler | str = "dds",
    samples: int = 1,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
    trace: bool = False,
    **settings: Any,
) -> Reconstruction:
    """`solve` for a problem that is made already, such as that of a scan's slices; arguments and errors as there."""
    if samples < 1:
        raise ConfigError(f"samples must be at least 1, got {samples}")
    chosen = _sampler(sampler, problem.operator, settings)
    check_operator(type(chosen), problem.operator)
    model = _model(prior, chosen, problem)
    if model is not None:
        model = model.to(problem.y.device)
    results, log = [], []
    with torch.no_grad():
        for k in range(samples):
            draws = Draws(seed, [f"sample {k}/{name}" for name in problem.ids])
            adapter = adapted(model, chosen, problem)
            x0, records = _consume(chosen, problem, adapter, draws, on_step, trace)
            results.append(problem.scaling.to_physical(x0))
            log.append(records)
    stacked = torch.stack(results)
    return Reconstruction(
        image=stacked.mean(0), std=_std(stacked), samples=stacked if samples > 1 else None, log=log[0],
        provenance={
            "sampler": name_of(type(chosen)), "settings": dataclasses.asdict(chosen),
            "prior": model.name if model is not None else None, "seed": seed, "samples": samples,
            "scaling": dataclasses.asdict(problem.scaling), "operator": repr(problem.operator),
            "noise": repr(problem.noise),
        },
    )  # fmt: skip


def default_scaling(y: Tensor, operator: Operator) -> Scaling:
    """The intensity scale that suits the bundled priors for this kind of measurement."""
    return operator.unit_scale(y)


def _consume(
    sampler: Sampler,
    problem: Problem,
    prior: ImagePrior | ConditionalPrior | LatentPrior | None,
    draws: Draws,
    on_step: Callable[[Step], None] | None,
    trace: bool,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Drain the steps of one sample; the last estimate and a record of the run."""
    start, last, records = time.perf_counter(), None, []
    for step in sampler.steps(problem, prior, draws):
        last = step
        records.append(
            {"step": step.i, "sigma": step.sigma, "evaluations": step.evaluations, **step.info}
        )
        if trace:
            records[-1]["misfit"] = problem.misfit(step.x0)
        if on_step is not None:
            on_step(step)
    if last is None or not bool(torch.isfinite(last.x0).all()):
        raise DivergenceError(f"{type(sampler).__name__}: the result is not finite")
    records[-1] |= {"misfit": problem.misfit(last.x0), "seconds": time.perf_counter() - start}
    return last.x0, records


def _std(stacked: Tensor) -> Tensor | None:
    """Standard deviation over samples; of the magnitude for complex images."""
    if stacked.shape[0] == 1:
        return None
    return (stacked.abs() if stacked.is_complex() else stacked).std(0)


def adapted(
    model: Model | None, sampler: Sampler, problem: Problem
) -> ImagePrior | ConditionalPrior | LatentPrior | None:
    """A model behind the adapter that the sampler expects, for one run.

    Raises ConfigError for a pair that cannot work.
    """
    if model is None:
        return None
    item = problem.item_shape
    if isinstance(model, ConditionalModel):
        _check_task(model, problem)
        _check_bridge(model, sampler)
        return ConditionalPrior(model, item, sampler.intensity)
    if isinstance(model, LatentModel):
        return LatentPrior(model, item)
    pixels = ImagePrior(model, item, problem.operator.is_complex)
    return LatentPrior(pixels, item) if "latent" in sampler.prior_kinds else pixels


def _check_task(model: ConditionalModel, problem: Problem) -> None:
    task = problem.operator.task
    if model.tasks and task not in model.tasks:
        named = f"the task '{task}'" if task else f"{problem.operator}"
        raise ConfigError(
            f"prior '{model.name}' was trained for {', '.join(model.tasks)}, not for {named}; train one with "
            "`restore train`, or use dds or reddiff, which serve any operator"
        )


def _check_bridge(model: ConditionalModel, sampler: Sampler) -> None:
    name = name_of(type(sampler))
    if model.bridge not in ("", sampler.bridge):
        raise ConfigError(
            f"prior '{model.name}' was trained for the bridge '{model.bridge}', not for {name}; use the sampler "
            f"{model.bridge}"
        )
    if model.head not in sampler.heads:
        raise ConfigError(
            f"prior '{model.name}' predicts '{model.head}'; {name} takes {', '.join(sampler.heads)}"
        )


def _sampler(sampler: Sampler | str, operator: Operator, settings: dict[str, Any]) -> Sampler:
    if isinstance(sampler, Sampler):
        if settings:
            raise ConfigError(
                "settings are for a sampler given by name; use dataclasses.replace on this one"
            )
        return sampler
    preset = settings.pop("preset", "tuned")
    return load_sampler(sampler).configured(preset, operator, settings)


def _model(prior: Model | str | Path | None, sampler: Sampler, problem: Problem) -> Model | None:
    """The model to use: none for classical samplers; else of a kind that the sampler can use. Raises ConfigError."""
    name, kinds = name_of(type(sampler)), sampler.prior_kinds
    if not kinds:
        return None
    if prior is None:
        raise ConfigError(
            f"{name} needs a prior ({' or '.join(kinds)}): a bundled name, a weight file or a model"
        )
    if prior == "auto":
        prior = default_prior(kinds, problem)
    from restore.priors.store import load_prior

    model = load_prior(prior) if isinstance(prior, str | Path) else prior
    if model.kind not in kinds:
        raise ConfigError(
            f"{name} needs a {' or '.join(kinds)} prior, and '{model.name}' is a {model.kind} one; "
            f"try prior='{default_prior(kinds, problem)}', or a sampler for {model.kind} priors"
        )
    return model


def default_prior(kinds: tuple[str, ...], problem: Problem) -> str:
    """The bundled prior that serves a sampler best: RGB photographs have priors of every kind, scans a denoiser."""
    photograph = len(problem.item_shape) == 3 and not problem.operator.is_complex
    if kinds[0] != "denoiser" and (photograph or "denoiser" not in kinds):
        return {"conditional": "natural-restore", "latent": "natural-latent"}[kinds[0]]
    return "natural" if photograph and problem.item_shape[0] == 3 else "medical"
