"""Work for the tests of engines, in a module that other processes can import by its name."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from restore.errors import InputError
from restore.many import fraction
from restore.many.jobs import Job


def write(job: Job) -> bool:
    """Write the options' text to OUT; options `dies` (so many times, by SIGKILL) and `fails` do as they say."""
    told: dict[str, Any] = dict(job.options)
    marks = Path(told["marks"])
    tried = len(list(marks.glob(f"{job.name}-*")))
    (marks / f"{job.name}-{tried}-{os.getpid()}").touch()
    fraction.tell(0.5)
    if tried < told.get("dies", 0):
        os.kill(os.getpid(), signal.SIGKILL)
    if told.get("fails"):
        raise InputError(job.source, "is no good", "take another")
    print(f"done {job.name}")
    print(f"note: {job.name}", file=sys.stderr)
    assert job.out is not None
    if job.out.exists():
        return False
    job.out.write_text(told["text"])
    return True


def reconstruct(job: Job) -> bool:
    """Reconstruct a scan by dds, as the options say, and note how often helpers were asked for a share of the prior."""
    import torch

    from restore.many.engines.ray_actors import ActorHelper
    from restore.pipelines.recon_job import ReconJob
    from restore.pipelines.recon_options import ReconOptions
    from restore.pipelines.run_recon import plan, run

    assert job.out is not None
    ask, asked = ActorHelper.ask, list[int]()

    def counted(helper: ActorHelper, planes: Any, sigma: float, precision: str) -> Any:
        asked.append(len(planes))
        return ask(helper, planes, sigma, precision)

    options = ReconOptions(precision="float32", seed=3)
    settings = dict(job.options["settings"])
    planned = plan(ReconJob(job.source, job.out, "dds", settings=settings, options=options))
    with mock.patch.object(ActorHelper, "ask", counted):
        run(planned, torch.device("cpu"))
    print(f"helpers were asked for {sum(asked)} planes")
    return True
