"""One distillation from files to a weight file with its card: what `restore distill` does.

As `restore.pipelines.train_job` does for the families of `restore train`; a second call with the same output continues
an unfinished one.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from restore.errors import ConfigError
from restore.pipelines.train_setup import TrainJob, alone
from restore.priors.store import load_denoiser
from restore.training.degradations import parse_task
from restore.training.distillation import Distillation, few_step_psnr, train_distilled
from restore.training.slices import COMPLEX


@alone
def train_distilled_job(job: TrainJob, prior: str, task: str, evaluations: int) -> Path:
    """A model of a few steps for one task, from a denoiser (bundled name or weight file), whose channels it has.

    Raises ConfigError, WeightsError, and what reading and training raise.
    """
    start = load_denoiser(prior)
    if start.channels == COMPLEX:
        raise ConfigError(
            f"{prior}: a prior of complex images; the tasks of `restore distill` are of real ones, of 1 or 3 channels"
        )
    job = dataclasses.replace(job, channels=start.channels)
    settings = Distillation(
        parse_task(task), evaluations, job.budget, job.batch, job.crop, job.seed, precision=job.precision
    )  # fmt: skip
    sources, images = job.load(job.channels)
    model, progress = train_distilled(
        job.corpus(sources), images, settings, start, job.state, device=job.device, workers=job.workers,
        report=job.report,
    )  # fmt: skip

    def figures() -> dict[str, Any]:
        return {"restoration_psnr_db": {task: few_step_psnr(model, images, settings)}}

    return job.save(model, sources, progress, prior, figures)
