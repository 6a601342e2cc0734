"""`restore recon --adapt`: an adapter fitted to the scan, or read from a file, and what the record says of it.

Called by `run_recon`. Reads slices of the scan and adapter files; the fit itself is `restore.training.adaptation`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from restore.datasets.atomic import name_suffix
from restore.datasets.content_hash import sha256_of
from restore.datasets.scan import Scan, SetupOptions
from restore.errors import ConfigError, NotFoundError, WeightsError
from restore.priors.adapter_files import load_adapter, save_adapter
from restore.priors.base import Denoiser
from restore.priors.low_rank import Adapter, adapted
from restore.priors.network_options import split_options
from restore.priors.store import kind_of, read_card
from restore.problem import Problem
from restore.samplers.base import Sampler
from restore.training.adaptation import Adaptation, cost_of_a_pass, fit_adapter

FIT = "fit"
"""The word of `--adapt` for an adapter that is fitted to the scan; everything else is a file."""


class Adapted(NamedTuple):
    """A prior for one scan, the adapter in it, and what record and user are told."""

    model: Denoiser
    adapter: Adapter
    record: dict[str, Any]
    note: str


def adapter_path(out: Path) -> Path:
    """OUT_adapter.safetensors beside OUT."""
    return out.with_name(out.name.removesuffix(name_suffix(out)) + "_adapter.safetensors")


def fingerprint_of(adapt: str) -> Any:
    """What of the option shapes the result: how it is fitted, or the file's content."""
    return dataclasses.asdict(Adaptation()) if adapt == FIT else sha256_of(Path(adapt))


def check_adapt(adapt: str, prior: str, sampler: Sampler) -> None:
    """Refuse, before the work, what cannot be adapted. Raises ConfigError, NotFoundError, WeightsError."""
    if "denoiser" not in sampler.prior_kinds:
        raise ConfigError(
            f"--adapt: {type(sampler).__name__} uses no denoiser that could be adapted; leave it out, or take a "
            "sampler such as dds"
        )
    if split_options(prior)[1] is not None:
        raise ConfigError(
            f"--adapt: factors are fitted to a prior's own network, and '{prior}' has options; leave one of them out"
        )
    if kind_of(prior) != "denoiser":
        raise ConfigError(f"--adapt: '{prior}' is a {kind_of(prior)} prior, expected a denoiser")
    if adapt != FIT:
        _read(adapt, prior)


def adapt_prior(
    adapt: str, model: Denoiser, prior: str, scan: Scan, options: SetupOptions, seed: int, device: torch.device
) -> Adapted:  # fmt: skip
    """The prior with an adapter for this scan. Raises ConfigError, InputError, WeightsError."""
    model = model.to(device)
    if adapt != FIT:
        adapter, _ = _read(adapt, prior)
        told = {"file": Path(adapt).name, "sha256": sha256_of(Path(adapt))}
        return Adapted(
            adapted(model, adapter), adapter, told, f"the prior is adapted by {told['file']}"
        )
    chosen = slices_of(scan)
    setup = scan.setup(options)
    problems = [setup.problem(range(i, i + 1), device) for i in chosen]
    fitted = fit_adapter(model, problems, Adaptation(), seed=seed)
    record = {**fitted.record, "slice_numbers": [scan.slice_indices[i] for i in chosen]}
    return Adapted(adapted(model, fitted.adapter), fitted.adapter, record, _note(record))


def keep_adapter(path: Path, found: Adapted, prior: str) -> Path:
    """Write a fitted adapter with the sha256 of the prior it belongs to. Raises OutputError."""
    card = read_card(prior)
    record = {"prior": {"name": card["name"], "sha256": card["sha256"]}, "fit": found.record}
    save_adapter(path, found.adapter, record)
    return path


def slices_of(scan: Scan) -> list[int]:
    """The slices that an adapter is fitted to, evenly spaced, away from the ends."""
    count = min(Adaptation().slices, scan.n_slices)
    places = (np.arange(count) + 0.5) / count * scan.n_slices
    return [int(p) for p in places]


def forecast(model: Denoiser, problem: Problem, sampler: Sampler, slices: int) -> str:
    """What fitting will cost, from one network call on one slice: time, memory, and its share of the run."""
    plan = Adaptation()
    size, seconds = cost_of_a_pass(model, problem, plan.rank)
    passes = plan.passes(slices)
    run = sampler.cost(problem) * slices
    return (
        f"--adapt fit: at most {passes} network calls with gradients before the run, as dear as {3 * passes} of the "
        f"run's {run}, about {passes * seconds:.0f} s here beside the data steps, and {size / 1e6:.0f} MB more memory"
    )


def _note(record: dict[str, Any]) -> str:
    """What fitting has brought, in a sentence."""
    held, step = record["held_out_residuals"], record["kept_step"]
    where = ", ".join(map(str, record["slice_numbers"]))
    if step == 0:
        return (
            f"--adapt fit: held-out data of the slices {where} are foretold best by the prior as it is, which was "
            "therefore not changed"
        )
    fall = 100 * (1 - held[step] / held[0])
    return (
        f"the prior was adapted to the slices {where} in {step} steps: the misfit of held-out data fell by {fall:.1f} "
        "%; whether the image is better is not known, and the coverage of intervals is not that of the prior's card"
    )


def _read(adapt: str, prior: str) -> tuple[Adapter, dict[str, Any]]:
    """Adapter and record, which has to name this prior's weights. Raises NotFoundError, WeightsError."""
    if not Path(adapt).is_file():
        raise NotFoundError(
            f"{adapt}: no such adapter; --adapt fit fits one to the scan, or name a file that it has written"
        )
    adapter, record = load_adapter(Path(adapt))
    own, card = record.get("prior"), read_card(prior)
    if not isinstance(own, dict) or own.get("sha256") != card["sha256"]:
        name = own.get("name") if isinstance(own, dict) else None
        raise WeightsError(
            f"{adapt}: was fitted to the prior '{name}' of other weights than those of '{card['name']}'; name that "
            "prior with --prior, or fit anew with --adapt fit"
        )
    return adapter, record
