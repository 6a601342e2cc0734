"""From a spooled scan to volumes as ISMRMRD images: one run of `restore recon` for each image in it.

Used by `session`; touches the folder of the scan alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from restore.datasets.mri.mrd.mrd_images import read_images
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.run_recon import ReconJob, interval_path, plan, run, std_path
from restore.serving.mrd_server.configurations import Configuration

SERIES = ("", "standard deviation", "half-width of the 90 % interval")
"""What the volumes of one reconstruction are, in the order of their series."""


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstructed:
    """volumes: of SERIES, each heads (n,) of IMAGE_HEAD and planes (n, 1, 1, columns, rows) float32. notes: what a
    user must know. sampler: its name."""

    volumes: list[tuple[Any, Any]]
    notes: tuple[str, ...]
    sampler: str


def reconstruct_spooled(
    scan: Path, select: str, configuration: Configuration, device: torch.device, check: Callable[[], None]
) -> Reconstructed:  # fmt: skip
    """Reconstruct one image of a scan.

    select: which, as of `restore recon`. check: is called after every step and raises to end the work. Raises what
    `run_recon.plan` and `run` raise.
    """
    out = scan.with_name("image.mrd")
    job = ReconJob(
        scan, out, configuration.sampler, select=select, options=ReconOptions(samples=configuration.samples),
        overwrite=True,
    )  # fmt: skip
    record = run(plan(job), device, on_step=lambda *_: check())
    paths = (out, std_path(out), interval_path(out)) if configuration.samples > 1 else (out,)
    return Reconstructed(
        [read_images(path) for path in paths], tuple(record["notes"]), str(record["sampler"]["name"])
    )  # fmt: skip
