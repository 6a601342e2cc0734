"""`fewstep` beside `dds` on photographs: what distilling a denoiser to three evaluations is worth, and where it is not.

    python benchmarks/fewstep.py ../shared/data                    # the tables of docs/few-steps.md; three minutes
    python benchmarks/fewstep.py ../shared/data --task superres    # of natural-x4; two minutes
    python benchmarks/fewstep.py ../shared/data --model other.safetensors --task superres

Means over eight photographs of 128 x 128 that no training saw (`cases.py`), differences with their deviation over the
photographs, seconds of the processor an image, one thread. The second table: half of them, measured as the model never
was, with dds at 30 evaluations beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import SIDE, Case, load
from tasks import centre

from restore.datasets.open import read_image
from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.base import LinearOperator
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.priors.choosing import Given
from restore.priors.distilled import DistilledModel
from restore.priors.kept import weights_kept
from restore.priors.store import load_denoiser, load_prior
from restore.training.degradations import parse_task
from restore.training.distillation import Distillation

MODELS = {"inpaint": "natural-inpaint", "superres": "natural-x4"}
START = "natural"
Method = tuple[str, Given, dict[str, Any]]
Others = dict[str, tuple[LinearOperator, float]]


def methods(model: DistilledModel) -> dict[str, Method]:
    """Sampler, prior and settings by what the table calls them."""
    count = model.steps.count
    settings = Distillation(parse_task(model.family.words), count)
    untrained = DistilledModel(load_denoiser(START), settings.first, model.family, name=START)
    return {
        f"dds, {count}": ("dds", START, {"n_steps": count}),
        "dds, 30": ("dds", START, {"n_steps": 30}),
        "dds, tuned preset": ("dds", START, {}),
        f"fewstep, {count}, not distilled": ("fewstep", untrained, {"n_steps": count}),
        f"fewstep, {count}, distilled": ("fewstep", model, {"n_steps": count}),
        "rddm, tuned preset (2), `natural-restore`": ("rddm", "natural-restore", {}),
    }


def main() -> None:
    """Print the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("data", type=Path, help="the folder of data that compare.py takes")
    parser.add_argument("--model", help="a bundled name or a weight file; default: the bundled one")
    parser.add_argument("--task", default="inpaint", choices=tuple(MODELS))
    given = parser.parse_args()
    name = given.model or MODELS[given.task]
    model = load_prior(name)
    if not isinstance(model, DistilledModel):
        raise ConfigError(f"{name} is no distilled model")
    with weights_kept():
        cases = list(load(given.data, given.task))
        _first_table(model, cases)
        _second_table(model, cases[::2], given.data, given.task)


def _first_table(model: DistilledModel, cases: list[Case]) -> None:
    print("| method, evaluations | PSNR | SSIM | against dds at 30 | seconds |")
    print("| --- | --- | --- | --- | --- |")
    rows = {name: _scored(cases, method) for name, method in methods(model).items()}
    base = rows["dds, 30"][0][:, 0]
    for name, (scores, seconds) in rows.items():
        gain = scores[:, 0] - base
        print(
            f"| {name} | {scores[:, 0].mean():.2f} | {scores[:, 1].mean():.3f} | {gain.mean():+.2f} ± "
            f"{gain.std(ddof=1):.2f} | {seconds:.2f} |"
        )


def _second_table(model: DistilledModel, cases: list[Case], data: Path, task: str) -> None:
    print("\n| measured otherwise | fewstep | dds, 30 | difference |\n| --- | --- | --- | --- |")
    few: Method = ("fewstep", model, {"n_steps": model.steps.count})
    files = [data / "images" / "val" / f"{case.name}.jpg" for case in cases]
    truths = [torch.from_numpy(centre(read_image(file).data, SIDE)) for file in files]
    others = {"inpaint": _other_masks, "superres": _other_filters}[task]()
    for name, (operator, noise) in others.items():
        pairs = zip(cases, truths, strict=True)
        other = [_measured(case, truth, operator, noise) for case, truth in pairs]
        ours, dds = (
            _scored(other, m)[0][:, 0].mean() for m in (few, ("dds", START, {"n_steps": 30}))
        )
        print(f"| {name} | {ours:.2f} | {dds:.2f} | {ours - dds:+.2f} |", flush=True)


def _other_masks() -> Others:
    """Other masks, or noise."""
    draw = torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(11))
    box = torch.ones(SIDE, SIDE)
    box[32:96, 32:96] = 0
    masks = {
        "50 % of the pixels known": (draw < 0.5, 0.0),
        "10 % known": (draw < 0.1, 0.0),
        "30 % known, noise 0.05": (draw < 0.3, 0.05),
        "a box of 64 x 64 missing": (box, 0.0),
    }
    return {k: (Inpainting(m.float(), (3, SIDE, SIDE)), noise) for k, (m, noise) in masks.items()}


def _other_filters() -> Others:
    """Other factors, another filter, or noise."""
    shape = (3, SIDE, SIDE)
    return {
        "x2": (Downsample(shape, 2), 0.0),
        "x4 by means of 4 x 4": (Downsample(shape, 4, "area"), 0.0),
        "x4, noise 0.02": (Downsample(shape, 4), 0.02),
    }


def _measured(case: Case, truth: torch.Tensor, operator: LinearOperator, noise: float) -> Case:
    clean = operator(truth)
    g = torch.Generator().manual_seed(7)
    y = operator.project(clean + noise * torch.randn(clean.shape, generator=g))
    return dataclasses.replace(case, y=y, operator=operator, noise=noise)


def _scored(cases: Iterable[Case], method: Method) -> tuple[np.ndarray, float]:
    """PSNR and SSIM of every case, (n, 2), and the mean of the seconds."""
    name, prior, settings = method
    start, scores = time.process_time(), []
    for case in cases:
        found = solve(
            case.y, case.operator, noise=case.noise, scaling=case.scaling, prior=prior, sampler=name, **settings
        )  # fmt: skip
        scores.append(case.score(found.image))
    return np.array(scores), (time.process_time() - start) / len(scores)


if __name__ == "__main__":
    main()
