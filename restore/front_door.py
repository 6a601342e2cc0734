"""`restore.solve`: one measurement, one operator, one prior, one sampler, one answer.

The front door for scripts and the one place where a sampler's steps are consumed for a result. Used by the
pipelines for every chunk of slices.
"""

from __future__ import annotations

import dataclasses
import inspect
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from restore.draining import drain
from restore.errors import ConfigError
from restore.given_kspace import doubts_of_kspace, is_cartesian
from restore.given_measurement import (
    as_measurement,
    check_brightness,
    check_gain,
    check_operator_values,
)
from restore.noise import Exact, Gaussian, Noise, noise_model
from restore.operators.base import Operator
from restore.operators.own import check_own
from restore.precision import word_of
from restore.priors.acquisition import seen_in
from restore.priors.base import Denoiser
from restore.priors.choosing import Given, Prior, chosen, fit
from restore.priors.choosing import name_of as prior_name
from restore.priors.demand import Demand
from restore.priors.matching import check
from restore.priors.traits import Model, model_traits
from restore.problem import Problem, Reconstruction, Step, ends_of
from restore.randomness import Draws
from restore.registry import (
    check_frames,
    check_operator,
    frames_apart,
    load_sampler,
    name_of,
    usual_sampler,
)
from restore.samplers.base import OperatorTraits, Sampler, traits_of
from restore.scaling import Scaling
from restore.starts import DRAWN, ChosenStart, check_laid, start_of
from restore.time_limit import TimeLimit, limit_notes, limit_record
from restore.torch_state import plain_torch
from restore.trajectory import Trajectory, deviation, said_of
from restore.unknown_noise import contradictions, doubt_of_answer, doubts_of_exact, estimated_noise

_ALIKE = "all {} samples are the same: {} draws nothing here, and their deviation of 0 does not say how sure it is"
MOST_SAMPLES = 10_000
"""Of one measurement: a mean and a deviation need no more, and all of them are kept."""


@torch.inference_mode(False)  # some samplers follow gradients, also where the caller does not
def solve(
    y: Any,
    operator: Operator,
    *,
    noise: Noise | float | str | None = None,
    prior: Given = "auto",
    sampler: Sampler | str = "auto",
    samples: int = 1,
    seed: int = 0,
    scaling: Scaling | None = None,
    ids: tuple[str, ...] = (),
    frames: int = 1,
    on_step: Callable[[Step], None] | None = None,
    trace: bool = False,
    precision: str = "auto",
    time_limit: float | TimeLimit | None = None,
    trajectory_map: bool = False,
    chosen_start: str = DRAWN,
    **settings: Any,
) -> Reconstruction:
    """Reconstruct x from y = A x + noise.

    y: (*batch, *operator.out_shape), a tensor, an array or lists; double precision stays double, halves are computed
    in single, pictures of 8 or 16 bits are divided by white (`restore.given_measurement`). No gradient goes through.
    noise: 0: y is exact; a standard deviation (per real channel) or a model: known; "estimate", or None for unknown: it
    is estimated from y (`restore.unknown_noise`), which a note says.
    prior: a bundled name, a weight file, a model, any function or network D(x, sigma) that takes noise of sigma out of
    pictures x (N, channels, H, W) in 0..1 (`restore.priors.FromDenoiser` declares other ranges), or "auto": the bundled
    one of the kind that the sampler needs. Networks run in eval mode, on y's device as a copy where
    they lie elsewhere, and are given back as they were. sampler: "auto" (dds, or split for several samples), a name
    with its tuned preset for this operator, or a configured sampler; `settings` replace single values of a named one
    ("preset" chooses another preset). samples > 1 gives the posterior mean and standard
    deviation. scaling: default by the operator (MRI: 0.999 quantile of the classical image; CT: attenuation of
    1500 HU and air; else none). frames: times of the measurement, which lead its items (`Problem.frames`). on_step
    sees every Step. trace: put the data misfit of every step into the log, at the cost of one forward projection each;
    the last step has it anyway. precision: of the numbers inside networks: float32, bfloat16, float16, or "auto", for
    the bundled ones what the device is quickest at (`restore.precision`); states and data steps keep y's. `provenance`
    holds what it was. time_limit: seconds, or a limit with a clock of its own, shared by the samples: the sampler is
    ended with its best estimate so far where its next step would not be done in time, which a note says; every sample
    has its first step. trajectory_map: also give `trajectory_std`, how far the last estimates moved. chosen_start:
    "drawn" from the seed, or one noise for all images (`restore.starts`): "best-of" of those that were tried for this
    prior, sampler and task, a table's file, or SEED:TILE; the seed then shapes nothing.

    Raises ShapeError, ConfigError, WeightsError, DivergenceError. Returns images of shape (*batch, *in_shape), with
    `notes` on what was converted or estimated and on a noise level that result or measurement contradict.
    """
    with plain_torch() as aside:
        limit = TimeLimit.of(time_limit)
        check_own(operator)
        _check_kinds(scaling, on_step)
        check_operator_values(operator)
        measured, notes = as_measurement(y, operator)
        problem = Problem(
            measured, operator, noise_model(noise), scaling or Scaling(), ids, frames=_whole("frames", frames)
        )  # fmt: skip
        if scaling is None:
            problem = dataclasses.replace(problem, scaling=default_scaling(problem.y, operator))
        if is_cartesian(operator):
            notes += doubts_of_kspace(problem.y, operator, problem.noise)
        problem, told, said = _with_noise(problem)
        found = solve_problem(
            problem, prior=prior, sampler=sampler, samples=samples, seed=seed, on_step=on_step, trace=trace,
            precision=precision, time_limit=limit,
            trajectory_map=trajectory_map, chosen_start=chosen_start, **settings,
        )  # fmt: skip
        kind = (
            load_sampler(found.provenance["sampler"]) if isinstance(sampler, str) else type(sampler)
        )
        if problem.frames > 1:
            said += frames_apart(kind(**found.provenance["settings"]), problem.frames)
        x0 = problem.scaling.to_unit(found.image if found.samples is None else found.samples[0])
        structured = found.structured
        rest = problem.without(None if structured is None else problem.scaling.to_unit(structured))
        doubts = contradictions(rest, x0, found.ends[0]["misfit"], fits=kind.fits_data)
        if kind.prior_kinds and not kind.fits_data:
            doubts += doubt_of_answer(rest, x0, found.ends[0]["misfit"])
        return dataclasses.replace(
            found,
            notes=(*aside, *notes, *said, *found.notes, *_ended(limit, found), *doubts),
            provenance=found.provenance | {"noise_is": told},
        )


def solve_problem(
    problem: Problem,
    *,
    prior: Given = "auto",
    sampler: Sampler | str = "auto",
    samples: int = 1,
    seed: int = 0,
    on_step: Callable[[Step], None] | None = None,
    trace: bool = False,
    precision: str = "auto",
    time_limit: float | TimeLimit | None = None,
    trajectory_map: bool = False,
    chosen_start: str = DRAWN,
    **settings: Any,
) -> Reconstruction:
    """`solve` for a problem that is made already, such as that of a scan's slices; arguments and errors as there.

    What a time limit ended stands in `ends` ("ended_after"); `restore.time_limit.limit_notes` says it in words, once
    for all parts of a scan.
    """
    limit = TimeLimit.of(time_limit)
    samples, seed = _whole("samples", samples), _whole("seed", seed)
    if not 1 <= samples <= MOST_SAMPLES:
        raise ConfigError(f"samples must be at least 1 and at most {MOST_SAMPLES}, got {samples}")
    problem, told, said = _with_noise(problem)
    _check_seen(problem)
    named = usual_sampler(samples) if sampler == "auto" else sampler
    runner = _fitting(named, problem, settings)
    runner, changed = runner.for_samples(samples)
    asked, lasts, log = demand(runner, problem), [], []
    start = _start(chosen_start, runner, prior, asked, problem, samples)
    runner = runner.for_problem(problem)  # starts are kept by what was asked for
    trails = [Trajectory(problem.operator) for _ in range(samples if trajectory_map else 0)]
    with torch.no_grad(), chosen(prior, asked, problem.y, precision) as (model, notes, dtype):
        said += [*changed, *notes, *(_doubts(problem) if model is not None else ())]
        centre = _Centre.of(runner, problem, model, samples, dtype)
        runs = samples + (0 if centre is None else centre.runs)
        for k in range(samples):
            draws = _draws(start, seed, [f"sample {k}/{name}" for name in problem.ids])
            last, records = drain(
                runner, problem, fit(model, asked, dtype), draws,
                on_step=on_step, trace=trace, limit=limit and limit.share(1, runs - k),
                trajectory=trails[k] if trails else None,
            )  # fmt: skip
            lasts.append(last)
            log += [{"sample": k, **record} for record in records]
        unit = torch.stack([last.x0 for last in lasts])
        if centre is not None:
            unit = centre.moved(unit, log, seed, limit)
        said += model.remarks() if isinstance(model, Denoiser) else ()
        said += _remarks(runner, problem, ends_of(log))
    stacked = problem.scaling.to_physical(unit)
    if samples > 1 and bool((stacked == stacked[:1]).all()):
        said.append(_ALIKE.format(samples, name_of(type(runner))))
    said += said_of(trails) if trails else []
    return Reconstruction(
        image=stacked.mean(0), std=_std(stacked), samples=stacked if samples > 1 else None, log=log,
        provenance={
            "sampler": name_of(type(runner)), "settings": dataclasses.asdict(runner),
            "prior": model.name if model is not None else None, "seed": seed, "samples": samples,
            "scaling": dataclasses.asdict(problem.scaling), "operator": repr(problem.operator),
            "noise": repr(problem.noise), "noise_is": told, "mean_by": None if centre is None else centre.record,
            "precision": word_of(dtype) if model is not None else None,
            **({} if start is None else {"start": start.record}),
            **({} if limit is None else {"time_limit": limit_record(limit.seconds, ends_of(log))}),
        },
        notes=tuple(said),
        trajectory_std=problem.scaling.to_physical(deviation(trails)) if trails else None,
        structured=_structured(problem, lasts),
    )  # fmt: skip


def _remarks(runner: Sampler, problem: Problem, ends: list[dict[str, Any]]) -> list[str]:
    """What a sampler remarks on its run, and what an exact measurement leaves to be said."""
    exactly = runner.explains_exact
    doubts = doubts_of_exact(problem, max(end["misfit"] for end in ends)) if exactly else []
    return [*runner.remarks(ends), *doubts]


@dataclasses.dataclass(frozen=True)
class _Centre:
    """Several samples get the mean of half as many runs of another sampler (`Sampler.mean_by`)."""

    sampler: Sampler
    problem: Problem
    prior: Prior | None
    runs: int

    @classmethod
    def of(
        cls,
        runner: Sampler,
        problem: Problem,
        model: Model | None,
        samples: int,
        precision: torch.dtype,
    ) -> _Centre | None:
        """None for one sample, and for samplers whose samples have the best mean themselves. Raises ConfigError."""
        other = runner.mean_by(problem.operator) if samples > 1 else None
        if other is None:
            return None
        prior = prior_for(model, other, problem, precision)
        return cls(other, problem, prior, samples // 2)

    @property
    def record(self) -> dict[str, Any]:
        """What a result's provenance says of it."""
        name, settings = name_of(type(self.sampler)), dataclasses.asdict(self.sampler)
        return {"sampler": name, "runs": self.runs, "settings": settings}

    def moved(
        self, samples: Tensor, log: list[dict[str, Any]], seed: int, limit: TimeLimit | None
    ) -> Tensor:
        """Samples (K, ...) about the runs' mean; the misfits in their last records become theirs.

        limit: of all runs; the fewest steps that it left one are noted there too ("centre_ended_after").
        """
        total, ended = torch.zeros_like(samples[0]), []
        for k in range(self.runs):
            draws = Draws(seed, [f"centre {k}/{name}" for name in self.problem.ids])
            share = limit and limit.share(1, self.runs - k)
            last, records = drain(self.sampler, self.problem, self.prior, draws, limit=share)
            ended += [records[-1]["ended_after"]] if "ended_after" in records[-1] else []
            total += last.x0
        out = samples - samples.mean(0) + total / self.runs
        for record in ends_of(log):
            record["misfit"] = self.problem.misfit(out[record["sample"]])
            record |= {"centre_ended_after": min(ended)} if ended else {}
        return out


def _start(
    word: str, runner: Sampler, prior: Given, asked: Demand, problem: Problem, samples: int
) -> ChosenStart | None:
    """The start that is asked for, where it can be laid over the problem's items. Raises as `starts.start_of`."""
    if word == DRAWN:
        return None
    named = None
    if asked.kinds and (prior is None or isinstance(prior, str | Path)):
        named = prior_name(prior, asked)
    start = start_of(word, runner, named, problem.operator, samples)
    check_laid(problem)
    return start


def _draws(start: ChosenStart | None, seed: int, names: list[str]) -> Draws:
    return Draws(seed, names) if start is None else start.draws(names)


def _ended(limit: TimeLimit | None, found: Reconstruction) -> list[str]:
    """What a user must know where the limit ended a run."""
    if limit is None:
        return []
    made = found.provenance
    return limit_notes(limit.seconds, made["sampler"], made["settings"], found.ends)


def _check_kinds(scaling: Any, on_step: Any) -> None:
    if scaling is not None and not isinstance(scaling, Scaling):
        raise ConfigError(
            f"scaling is {scaling!r}, expected restore.scaling.Scaling(factor), such as Scaling(255.0)"
        )
    if on_step is not None and not callable(on_step):
        raise ConfigError(f"on_step is {on_step!r}, expected a function of a Step")


def _whole(name: str, value: Any) -> int:
    """A whole number as it is, also numpy's; a seed that is none would give other draws, or none that come again."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ConfigError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def prior_for(
    model: Model | None,
    sampler: Sampler,
    problem: Problem,
    precision: torch.dtype = torch.float32,
) -> Prior | None:
    """A model as the prior that a sampler's `steps` calls, for whoever drives the steps himself. Raises ConfigError.

    precision: of its networks.
    """
    asked = demand(sampler, problem)
    if model is not None:
        check(model_traits(model), asked)
    return fit(model, asked, precision)


def demand(sampler: Sampler, problem: Problem) -> Demand:
    """What a run of this sampler on this problem asks of its prior."""
    operator = problem.operator
    return dataclasses.replace(
        demand_of(sampler, operator),
        operator=repr(operator),
        item_shape=problem.item_shape,
        volume=problem.has_volumes,
        planes=problem.planes,
        is_complex=operator.is_complex,
        levels=sampler.noise_range(problem),
        strength=operator.strength if _knows_strengths(sampler) else {},
        noise=_noise_of(problem) if _knows_strengths(sampler) else None,
        measured=seen_in(problem) if "cascade" in sampler.prior_kinds else None,
    )


def _knows_strengths(sampler: Sampler) -> bool:
    """Whether its models know some strengths of a task, which are found out for them alone."""
    return bool({"distilled", "conditional"} & {*sampler.prior_kinds})


def _noise_of(problem: Problem) -> float | None:
    """Its standard deviation in unit intensities, the median over the measurement; None where it is unknown."""
    if problem.noise is None:
        return None
    if problem.precision is None:
        return 0.0
    weights = torch.as_tensor(problem.precision)
    known = weights[weights > 0]
    return float(known.median()) ** -0.5 if known.numel() else None


def demand_of(sampler: Sampler, operator: OperatorTraits | type) -> Demand:
    """What can be said of that before there is a problem: for checks by a prior's card."""
    known = traits_of(operator)
    return Demand(
        name_of(type(sampler)), sampler.prior_kinds, known.kind, known.task, known.task or known.kind.upper(),
        is_complex=known.kind == "mri", gradients=sampler.differentiates, error=sampler.error,
        images=sampler.begins_with_images, bridge=sampler.bridge,
        heads=sampler.heads, intensity=sampler.intensity,
        evaluations=sampler.cost() if "distilled" in sampler.prior_kinds else 0, wrap=sampler.wrapped_pixels(known),
    )  # fmt: skip


def _with_noise(problem: Problem) -> tuple[Problem, str, list[str]]:
    """The problem with its noise model, the word for what that is, and a note where it was estimated."""
    if problem.noise is not None:
        return problem, "exact" if isinstance(problem.noise, Exact) else "known", []
    found = estimated_noise(problem.y, problem.operator)
    word = "unknown" if found.noise is None else "estimated"
    return dataclasses.replace(problem, noise=found.noise), word, [found.note]


def _doubts(problem: Problem) -> list[str]:
    """On images far too bright or dark for a prior, and on an operator that multiplies them."""
    level = problem.noise.std if isinstance(problem.noise, Gaussian) else 0.0
    level = float(torch.as_tensor(level).max())
    bright = check_brightness(problem.observed, problem.operator, problem.scaling, level)
    return [*bright, *check_gain(problem.operator)]


def _check_seen(problem: Problem) -> None:
    """Raise ConfigError where the measurement is no zero and the operator's adjoint makes nothing of it."""
    if "linear" not in problem.operator.abilities or not bool(problem.unit_y.any()):
        return
    if not bool(problem.linear.adjoint(problem.unit_y).any()):
        raise ConfigError(
            f"{problem.operator}: nothing of the measurement comes from an image (A^H y is zero everywhere): the coil "
            "maps, the mask, the kernel or the weights are zero; look at what the operator was made with"
        )


def default_scaling(y: Tensor, operator: Operator) -> Scaling:
    """The intensity scale that suits the bundled priors for this kind of measurement."""
    return operator.unit_scale(y)


def _structured(problem: Problem, lasts: list[Step]) -> Tensor | None:
    """The mean of what the samples lay to structured noise, in the measurement's units."""
    parts = [last.structured for last in lasts if last.structured is not None]
    return problem.scaling.to_physical(torch.stack(parts).mean(0)) if parts else None


def _std(stacked: Tensor) -> Tensor | None:
    """Standard deviation over samples; of the magnitude for complex images."""
    if stacked.shape[0] == 1:
        return None
    return (stacked.abs() if stacked.is_complex() else stacked).std(0)


def _fitting(sampler: Sampler | str, problem: Problem, settings: dict[str, Any]) -> Sampler:
    """The sampler, which serves this operator and these frames. Raises ConfigError."""
    runner = _sampler(sampler, problem.operator, settings)
    check_operator(type(runner), problem.operator)
    check_frames(runner, problem.frames)
    return runner


def _sampler(sampler: Sampler | str, operator: Operator, settings: dict[str, Any]) -> Sampler:
    if inspect.isclass(sampler):
        raise ConfigError(
            f"sampler is the class {sampler.__name__}, expected an instance of it: {sampler.__name__}(...)"
        )
    if not isinstance(sampler, Sampler | str):
        raise ConfigError(
            f"sampler is {sampler!r}, expected a name (`restore list samplers`) or a configured sampler"
        )
    if isinstance(sampler, Sampler):
        if settings:
            raise ConfigError(
                "settings are for a sampler given by name; use dataclasses.replace on this one"
            )
        return sampler
    preset = settings.pop("preset", "tuned")
    return load_sampler(sampler).configured(preset, operator, settings)
