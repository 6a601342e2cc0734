"""One reconstruction job from file to file: read the scan, reconstruct, write volume, standard deviation and sidecar.

Used by `restore recon` and `restore demo`. The sidecar is written last and says "done": a job whose
record shows the same input, settings and weights is not run twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from restore.datasets.atomic import name_suffix
from restore.datasets.open import is_filled, open_scan, read, write, writer_for
from restore.datasets.scan import Scan
from restore.datasets.sidecar import (
    environment,
    read_sidecar,
    sidecar_path,
    source_record,
    write_sidecar,
)
from restore.datasets.volume.identity import identity_from
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError, OutputError, RestoreError
from restore.front_door import demand_of
from restore.pipelines.meter import measured
from restore.pipelines.replay_entries import replayable
from restore.pipelines.scan_to_volume import OnStep, ReconOptions, reconstruct
from restore.priors.choosing import card_traits, check, name_of
from restore.priors.store import load_prior, read_card
from restore.registry import check_operator, load_sampler
from restore.samplers.base import Sampler


@dataclasses.dataclass(frozen=True)
class ReconJob:
    """What to do.

    prior: a bundled name, a weight file, or "auto", the bundled denoiser for scans.
    preset, settings: the sampler's named settings and what replaces single ones. like: folder of the
    DICOM series to take identity from. repair: "zero" blanks samples that are not finite.
    """

    scan: Path
    out: Path
    sampler: str = "dds"
    preset: str = "tuned"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = "auto"
    options: ReconOptions = dataclasses.field(default_factory=ReconOptions)
    repair: str = ""
    like: Path | None = None
    overwrite: bool = False

    def fingerprint(self) -> str:
        """Hash of everything that shapes the result, the input's content included."""
        weights = read_card(self.prior)["sha256"] if load_sampler(self.sampler).prior_kinds else ""
        options = dataclasses.asdict(self.options)
        del options["trace"]  # looks on, changes nothing
        record = {
            "scan": source_record(self.scan)["SHA256"], "sampler": self.sampler, "preset": self.preset,
            "settings": self.settings, "weights": weights, "options": options,
            "repair": self.repair, "like": source_record(self.like)["SHA256"] if self.like else "",
        }  # fmt: skip
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job after its checks, before any work: the opened scan and the configured sampler.

    identity: an empty result that holds the header and source of the series named by `like`.
    """

    job: ReconJob
    scan: Scan
    sampler: Sampler
    fingerprint: str
    done: bool
    identity: Volume | None = None


def plan(job: ReconJob) -> Planned:
    """Check everything that can be checked cheaply.

    `done` says that the output exists and its sidecar shows this very job. Raises NotFoundError,
    InputError, ConfigError, OutputError (an output of another job exists).
    """
    scan = open_scan(job.scan, repair=job.repair)
    sampler = load_sampler(job.sampler).configured(job.preset, scan, dict(job.settings))
    check_operator(type(sampler), scan)
    if sampler.prior_kinds:
        job = dataclasses.replace(job, prior=_prior_that_fits(job.prior, sampler, scan))
    _check_name(job)
    identity = None if job.like is None else identity_from(scan.empty_volume(), read(job.like))
    fingerprint = job.fingerprint()
    outputs = [job.out, std_path(job.out)] if job.options.samples > 1 else [job.out]
    done = not job.overwrite and all(map(is_filled, outputs)) and _same_job(job.out, fingerprint)
    for path in outputs:
        if is_filled(path) and not done and not job.overwrite:
            raise OutputError(
                f"{path}: exists and is not the result of this job; choose another name or add "
                "--overwrite"
            )
    return Planned(job, scan, sampler, fingerprint, done, identity)


def run(planned: Planned, device: torch.device, on_step: OnStep | None = None) -> dict[str, Any]:
    """Do the work and write the results; returns the sidecar's record."""
    job = planned.job
    with measured(device) as cost:
        prior = load_prior(job.prior) if planned.sampler.prior_kinds else None
        result = reconstruct(
            planned.scan, planned.sampler, prior, job.options, device=device, on_step=on_step
        )
        results = {job.out: result.volume}
        if result.std is not None:
            results[std_path(job.out)] = result.std
        _write(results, planned)
    record = {
        "status": "done", "fingerprint": planned.fingerprint, **_replay(planned, device),
        "outputs": [path.name for path in results],
        "sampler": {"name": job.sampler, "preset": job.preset, **dataclasses.asdict(planned.sampler)},
        "options": dataclasses.asdict(job.options), "environment": environment(str(device)),
        "seconds": round(cost.seconds, 2), "peak_memory_mb": round(cost.peak_memory_mb),
        **result.record,
    }  # fmt: skip
    write_sidecar(job.out, record)
    return record


def std_path(out: Path) -> Path:
    """OUT_std.nii.gz beside OUT.nii.gz, or the folder OUT_std."""
    suffix = name_suffix(out)
    return out.with_name(out.name.removesuffix(suffix) + "_std" + suffix)


def _write(results: dict[Path, Volume], planned: Planned) -> None:
    """All results or none: where one cannot be written, those written before it are removed."""
    job, written = planned.job, []
    try:
        for path, volume in results.items():
            if planned.identity is not None:
                like = planned.identity
                volume = dataclasses.replace(volume, header=like.header, source=like.source)
            words = f"restore {job.sampler}" + (" std" if path != job.out else "")
            write(volume, path, description=words, overwrite=job.overwrite)
            written.append(path)
    except RestoreError:
        for path in written:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise


def _prior_that_fits(prior: str, sampler: Sampler, scan: Scan) -> str:
    """The name of the prior, which fits by its card: nothing else is read. Raises ConfigError, WeightsError."""
    asked = dataclasses.replace(
        demand_of(sampler, scan), operator=str(scan), item_shape=scan.image_shape
    )
    name = name_of(prior, asked)
    check(card_traits(name), asked)
    return name


def _check_name(job: ReconJob) -> None:
    """Refuse a name that says no format, before the work and not after it (ConfigError)."""
    if "" not in writer_for(job.out).suffixes and job.like is not None:
        raise ConfigError(f"{job.out}: --like is for DICOM; give a folder as OUT, or leave it out")


def _same_job(out: Path, fingerprint: str) -> bool:
    try:
        record = read_sidecar(sidecar_path(out))
    except (InputError, NotFoundError):
        return False
    return record.get("status") == "done" and record.get("fingerprint") == fingerprint


def _replay(planned: Planned, device: torch.device) -> dict[str, Any]:
    """The entries of the record by which `restore recon --config` repeats the run."""
    job, options, sampler = planned.job, planned.job.options, planned.sampler
    return replayable(
        "recon", {"scan": job.scan, "like": job.like},
        {
            "sampler": job.sampler, "preset": job.preset, "set": dataclasses.asdict(sampler),
            "samples": options.samples, "seed": options.seed, "maps": options.maps,
            "keep-phase": not options.remove_phase, "noise-std": options.noise_std, "repair": job.repair,
            "projector": options.projector, "device": str(device),
        },
        job.prior if sampler.prior_kinds else None,
    )  # fmt: skip
