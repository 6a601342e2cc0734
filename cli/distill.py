"""`restore distill`: a denoiser made quick for one task, a few steps with data steps trained end to end."""

from __future__ import annotations

from typing import Annotated

import typer

from restore.cli.config_option import verb
from restore.cli.train import Crop, Minutes, Training


@verb("distill", goes_on=True)
def command(
    training: Training,
    task: Annotated[
        str,
        typer.Option(
            help="TASK[:VALUE][@NOISE], one: inpaint:0.3 (share of known pixels), superres:4, "
            "deblur:gaussian:1.6@0.01, denoise@0.1"
        ),
    ],
    prior: Annotated[
        str, typer.Option(help="The denoiser to start from: bundled name or weight file")
    ],
    evaluations: Annotated[
        int, typer.Option(min=1, max=100, help="Network evaluations of a run")
    ] = 3,
    minutes: Minutes = 40.0, crop: Crop = 56,
) -> None:  # fmt: skip
    """Fine-tune a denoiser to a few steps for one task, for the sampler fewstep. A second call with the same OUT
    continues an unfinished one.
    """
    from restore.pipelines.distill_job import train_distilled_job

    with training.job(0, minutes, crop) as job:  # the channels are the prior's
        out = train_distilled_job(job, prior, task, evaluations)
        if job.workers.first:
            typer.echo(str(out))
