"""One reconstruction job from file to file: read the scan, reconstruct, write volume, standard deviation and sidecar.

Used by `restore recon` and `restore demo`. The sidecar is written last and says "done": a job whose record shows the same
input, settings and weights is not run twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import time
from pathlib import Path
from typing import Any

import torch

from restore.datasets.atomic import name_suffix
from restore.datasets.open import write
from restore.datasets.scan import CTScan, MRIScan, open_scan
from restore.datasets.sidecar import environment, read_sidecar, sidecar_path, source_record, write_sidecar
from restore.datasets.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError, OutputError
from restore.operators.base import LinearOperator
from restore.operators.ct import ParallelBeamCT
from restore.operators.mri import MultiCoilMRI
from restore.pipelines.reconstruct import OnStep, ReconOptions, reconstruct
from restore.priors.store import load_prior, read_card
from restore.registry import load_sampler
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class ReconJob:
    """What to do. sampler settings: a preset and replacements; like: folder of the DICOM series to take identity from."""

    scan: Path
    out: Path
    sampler: str = "dds"
    preset: str = "tuned"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = "medical"
    options: ReconOptions = ReconOptions()
    repair: str = ""
    like: Path | None = None
    overwrite: bool = False

    def fingerprint(self) -> str:
        """Hash of everything that shapes the result, the input's content included."""
        weights = read_card(self.prior)["sha256"] if load_sampler(self.sampler).prior_kind == "denoiser" else ""
        record = {
            "scan": source_record(self.scan)["SHA256"], "sampler": self.sampler, "preset": self.preset,
            "settings": self.settings, "weights": weights, "options": dataclasses.asdict(self.options),
            "repair": self.repair,
        }  # fmt: skip
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job after its checks, before any work: the opened scan and the configured sampler."""

    job: ReconJob
    scan: MRIScan | CTScan
    sampler: Sampler
    fingerprint: str
    done: bool


def plan(job: ReconJob) -> Planned:
    """Check everything that can be checked cheaply.

    `done` says that the output exists and its sidecar shows this very job. Raises NotFoundError, InputError, ConfigError,
    OutputError (an output of another job exists).
    """
    scan = open_scan(job.scan, repair=job.repair)
    operator: type[LinearOperator] = MultiCoilMRI if isinstance(scan, MRIScan) else ParallelBeamCT
    sampler = load_sampler(job.sampler).configured(job.preset, operator, dict(job.settings))
    _check_pair(job, scan)
    fingerprint = job.fingerprint()
    done = not job.overwrite and job.out.exists() and _same_job(job.out, fingerprint)
    if job.out.exists() and not done and not job.overwrite:
        raise OutputError(f"{job.out}: exists and was made by another job; choose another name or add --overwrite")
    return Planned(job, scan, sampler, fingerprint, done)


def run(planned: Planned, device: torch.device, on_step: OnStep | None = None) -> dict[str, Any]:
    """Do the work and write the results; returns the sidecar's record."""
    job, started = planned.job, time.time()
    prior = load_prior(job.prior) if planned.sampler.prior_kind == "denoiser" else None
    result = reconstruct(planned.scan, planned.sampler, prior, job.options, device=device, on_step=on_step)
    description = f"restore {job.sampler}"
    write(_with_identity(result.volume, job), job.out, description=description, overwrite=job.overwrite)
    outputs = [job.out.name]
    if result.std is not None:
        path = std_path(job.out)
        write(_with_identity(result.std, job), path, description=f"{description} std", overwrite=True)
        outputs.append(path.name)
    record = {
        "status": "done", "fingerprint": planned.fingerprint, "sources": [source_record(job.scan)], "outputs": outputs,
        "sampler": {"name": job.sampler, "preset": job.preset, **dataclasses.asdict(planned.sampler)},
        "prior": _prior_record(job.prior) if prior is not None else None,
        "options": dataclasses.asdict(job.options), "environment": environment(str(device)),
        "seconds": round(time.time() - started, 2),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **result.record,
    }  # fmt: skip
    write_sidecar(job.out, record)
    return record


def std_path(out: Path) -> Path:
    """OUT_std.nii.gz beside OUT.nii.gz, or the folder OUT_std."""
    suffix = name_suffix(out)
    return out.with_name(out.name.removesuffix(suffix) + "_std" + suffix)


def _check_pair(job: ReconJob, scan: MRIScan | CTScan) -> None:
    if job.sampler == "fbp" and isinstance(scan, MRIScan):
        raise ConfigError(f"{job.scan} holds k-space; fbp is for sinograms, use zerofilled, cgsense, wavelet, tv or dds")
    if job.sampler in ("zerofilled", "cgsense") and isinstance(scan, CTScan):
        raise ConfigError(f"{job.scan} holds a sinogram; {job.sampler} is for k-space, use fbp, tv, wavelet or dds")


def _same_job(out: Path, fingerprint: str) -> bool:
    try:
        record = read_sidecar(sidecar_path(out))
    except (InputError, NotFoundError):
        return False
    return record.get("status") == "done" and record.get("fingerprint") == fingerprint


def _prior_record(name: str) -> dict[str, Any]:
    card = read_card(name)
    return {"name": card["name"], "sha256": card["sha256"]}


def _with_identity(volume: Volume, job: ReconJob) -> Volume:
    """For DICOM output: the header of the series named by `like`, at the slices that were reconstructed."""
    if job.like is None:
        return volume
    from restore.datasets.open import read
    from restore.datasets.volume import align_to

    series = read(job.like)
    same = align_to(volume, series)
    return dataclasses.replace(volume, header=same.header, source=series.source)
