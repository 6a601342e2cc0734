"""One job of `restore volume` from file to file: read, check, restore block by block, write, sidecar last.

Called by the command line. As `run_recon` it does nothing twice: the record beside OUT vouches for the results, and
finished blocks lie in a hidden folder until then (`pipelines/work_folder`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.datasets.atomic import sweep
from restore.datasets.open import read, writer_for
from restore.datasets.sidecar import environment, foreign_note, source_record
from restore.datasets.volume.dicom_write import check_sources
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError
from restore.front_door import demand_of
from restore.method import Method
from restore.pipelines.factors import Circumstances
from restore.pipelines.interval import CUT_SHORT, IntervalOptions, interval_of
from restore.pipelines.meter import measured
from restore.pipelines.quality import quality_record, sampler_of_quality
from restore.pipelines.recon_options import DrawOptions
from restore.pipelines.replay_entries import replayable
from restore.pipelines.results import Results, interval_path, std_path, write_volumes
from restore.pipelines.scan_to_volume import OnPiece, OnStep
from restore.pipelines.volume.intensities import doubts_of_hu
from restore.pipelines.volume.memory import MemoryPlan, planned_memory
from restore.pipelines.volume.restoring import Restored, restore_volume
from restore.pipelines.volume.task import Prepared, VolumeTask
from restore.pipelines.volume.unmeasured import Unmeasured, without_padding
from restore.pipelines.vouching import is_done, need_not_run
from restore.pipelines.work_folder import WorkFolder, surroundings
from restore.precision import record_of
from restore.priors.choosing import name_of
from restore.priors.kept import loaded
from restore.priors.matching import check
from restore.priors.store import read_card
from restore.priors.traits import card_traits
from restore.registry import check_operator, load_sampler
from restore.samplers.base import Sampler
from restore.time_limit import was_ended

RANGE = (1e-15, 1e17)
"""Of the largest voxel, as of k-space."""

SLICES = 16
"""Of a deviation or an interval that are computed at once."""


@dataclasses.dataclass(frozen=True)
class VolumeJob:
    """What to do.

    inputs: files or folders of one volume each. which: `series`, `index` and `echo` of `restore.read`, where a file
    holds several volumes; modality: of a file that does not say. repair: "zero" blanks voxels that are not finite.
    sampler: a name, or "auto": the task's own. preset, settings, prior, interval, quality: as of a `ReconJob`.
    """

    inputs: tuple[Path, ...]
    out: Path
    task: VolumeTask
    sampler: str = "auto"
    preset: str = "tuned"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = "auto"
    options: DrawOptions = dataclasses.field(default_factory=DrawOptions)
    interval: IntervalOptions = dataclasses.field(default_factory=IntervalOptions)
    quality: str = "standard"
    which: dict[str, Any] = dataclasses.field(default_factory=dict)
    modality: str = ""
    repair: str = ""
    overwrite: bool = False

    @property
    def results(self) -> Results:
        """What it leaves, and where."""
        spread = self.options.samples > 1 and self.quality == "standard"
        return Results(self.out, spread)

    def fingerprint(self) -> str:
        """Hash of everything that shapes the result, the content of all files included."""
        options = self.options.shaping()
        record = {
            "volumes": [source_record(path)["SHA256"] for path in self.inputs],
            "task": self.task.name, "told": self.task.told,
            "files": {n: source_record(p)["SHA256"] for n, p in self.task.files.items()},
            "sampler": self.sampler, "preset": self.preset, "settings": self.settings, "options": options,
            "weights": read_card(self.prior)["sha256"] if load_sampler(self.sampler).prior_kinds else "",
            "which": self.which, "modality": self.modality, "repair": self.repair,
            "interval": self.interval.mark() if self.results.spread else None,
        } | quality_record(self.quality)  # fmt: skip
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job after its checks, before any work. prepared: None where the results lie there as their record says (done).

    outdated: what an earlier job left that this one makes none of; notes: on it, and on what was read. unmeasured: the
    padding of the source, which goes back into a result on its grid.
    """

    job: VolumeJob
    sampler: Sampler
    fingerprint: str
    prepared: Prepared | None
    outdated: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    unmeasured: Unmeasured | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.prepared is None

    @property
    def ready(self) -> Prepared:
        """What there is to do. Raises ConfigError for a job that is done."""
        if self.prepared is None:
            raise ConfigError(f"{self.job.out}: is done already; nothing was prepared")
        return self.prepared

    def memory(self, device: torch.device) -> MemoryPlan:
        """What the work holds. Raises OutOfMemory where that is too much for what is free."""
        found = planned_memory(self.ready, self.sampler, self.job.options, device)
        found.check(self.job.inputs[0].name, device)
        return found


def plan(job: VolumeJob) -> Planned:
    """Check everything before the work, and look at the volumes once.

    Raises NotFoundError, InputError, ConfigError, OutputError (an output of another job exists).
    """
    task, samples = job.task, job.options.samples
    fewest, most = task.inputs
    if not fewest <= len(job.inputs) <= most:
        raise ConfigError(
            f"--task {task.name} takes {fewest if fewest == most else f'{fewest} to {most}'} volume(s), got "
            f"{len(job.inputs)}"
        )
    name, samples = sampler_of_quality(job.quality, job.sampler, job.preset, samples)
    usual, preset = name == "auto" and job.preset == "tuned", job.preset
    if name == "auto":
        name, own = task.usual(samples)
        preset = own if usual else preset
    options = dataclasses.replace(job.options, samples=samples)
    sampler = _for_volumes(name).configured(preset, task.traits, dict(job.settings))
    check_operator(type(sampler), task.traits)
    sampler, changed = sampler.for_samples(samples)
    job = dataclasses.replace(job, sampler=name, preset=preset, options=options)
    if sampler.prior_kinds:
        job = dataclasses.replace(job, prior=_prior_that_fits(job, sampler))
    writer_for(job.out)
    planned = Planned(job, sampler, job.fingerprint(), None, notes=changed)
    if need_not_run(
        job.overwrite, lambda: is_done(job.out, planned.fingerprint, job.results.files)
    ):
        return planned
    read_, paddings, doubts = zip(*(_read(job, path) for path in job.inputs), strict=True)
    prepared = task.prepare(read_)
    padding = paddings[0]
    changed = (*changed, *(note for notes in doubts for note in notes), *_said(padding, prepared))
    if padding is not None and padding.where.shape != prepared.result.data.shape:
        padding = None
    if usual and samples == 1 and prepared.preset:
        sampler = load_sampler(name).configured(prepared.preset, task.traits, dict(job.settings))
        job = dataclasses.replace(job, preset=prepared.preset)
    check_sources(prepared.result)
    nbytes = 4 * int(np.prod(prepared.result.data.shape, dtype=np.int64))
    job.results.check(planned.fingerprint, nbytes, 2 * samples, job.overwrite, *job.inputs)
    if job.results.spread:
        job.interval.entries()  # a damaged table is found before the work
    old, said = job.results.outdated(job.overwrite)
    sweep(job.out.parent)
    return dataclasses.replace(
        planned,
        job=job,
        sampler=sampler,
        prepared=prepared,
        outdated=tuple(old),
        notes=(*changed, *said),
        unmeasured=padding,
    )


def run(
    planned: Planned,
    device: torch.device,
    on_step: OnStep | None = None,
    on_piece: OnPiece | None = None,
) -> dict[str, Any]:
    """Do the work, or what an interruption left of it, and write the results; returns the sidecar's record.

    on_piece: hears how many slices are finished, those of earlier calls included.
    """
    job, prepared = planned.job, planned.ready
    planned.memory(device)  # refused before the work
    around = surroundings(device, job.options.precision)
    work = WorkFolder(job.out, planned.fingerprint, around, job.overwrite)

    def make() -> tuple[dict[Path, Path], dict[str, Any]]:
        with measured(device) as cost:
            prior = loaded(job.prior) if planned.sampler.prior_kinds else None
            shape = (job.options.samples, *prepared.result.data.shape)
            found = restore_volume(
                prepared, planned.sampler, prior, job.options, device=device, on_step=on_step, on_piece=on_piece,
                kept=work, out=_on_disk(work.folder / "samples.npy", shape),
            )  # fmt: skip
            if planned.unmeasured is not None:
                planned.unmeasured.put_back(found.samples, prepared.made_anew)
            written, more = _written(found, planned, work.folder)
        record = _record(planned, found, device) | {
            "outputs": [path.name for path in written],
            "seconds": round(cost.seconds, 2), "peak_memory_mb": round(cost.peak_memory_mb),
        }  # fmt: skip
        said = filter(None, [*more.pop("notes", ()), foreign_note(job.out), *planned.notes])
        return written, record | more | {"notes": list(dict.fromkeys([*record["notes"], *said]))}

    return work.complete(make, planned.outdated)


def _read(job: VolumeJob, path: Path) -> tuple[Volume, Unmeasured | None, list[str]]:
    """A volume that a task can take, its padding, and doubts. Raises NotFoundError, InputError, ConfigError."""
    volume = read(path, modality=job.modality, repair=job.repair, **job.which)
    if np.iscomplexobj(volume.data):
        raise InputError(
            path, "a complex volume; noise and tasks here are of real intensities",
            "save its magnitude, or its real and imaginary parts one by one",
        )  # fmt: skip
    if not np.isfinite(volume.data).all():
        raise InputError(path, "has voxels that are not finite", "repair them first")
    volume, padding = without_padding(volume)
    low, high = float(volume.data.min()), float(volume.data.max())
    if low == high:
        raise InputError(path, f"every voxel is {low:g}: there is nothing to restore")
    if not RANGE[0] < max(-low, high) < RANGE[1]:
        raise InputError(
            path, f"its values reach {max(-low, high):.3g}, whose squares single precision does not hold",
            "multiply it by a power of ten",
        )  # fmt: skip
    return volume, padding, doubts_of_hu(volume, job.modality)


def _said(padding: Unmeasured | None, prepared: Prepared) -> list[str]:
    """What becomes of padding."""
    if padding is None:
        return []
    share = f"{100 * padding.where.mean():.3g} % of the voxels were never measured (padding)"
    if padding.where.shape == prepared.result.data.shape:
        return [f"{share}: they stay as they are"]
    return [f"{share}: they were taken for air, and are so in the result"]


def _for_volumes(name: str) -> type[Sampler]:
    """A sampler by name. Raises ConfigError for one whose structured noise has no place among the results."""
    found = load_sampler(name)
    if found.separates:
        raise ConfigError(
            f"{name} looks for structured noise, which `restore volume` has no place for; `restore recon` and "
            "`restore image` have; take another sampler"
        )
    return found


def _prior_that_fits(job: VolumeJob, sampler: Sampler) -> str:
    """The name of the prior, which fits by its card: nothing else is read. Raises ConfigError, WeightsError."""
    asked = dataclasses.replace(demand_of(sampler, job.task.traits), volume=True)
    name = name_of(job.prior, asked)
    check(card_traits(name), asked)
    return name


def _on_disk(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An array in a file, which memory need not hold."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)


def _written(
    found: Restored, planned: Planned, folder: Path
) -> tuple[dict[Path, Path], dict[str, Any]]:
    """Write all results into the job's own folder; where they lie by their targets, and what the record gains."""
    job, like = planned.job, planned.ready.result
    words, samples = f"restore {job.task.name} {job.sampler}", found.samples
    if len(samples) == 1:
        return write_volumes({job.out: (words, like.with_data(samples[0]))}, folder), {}
    shape = like.data.shape
    mean, std, width = (_on_disk(folder / f"{n}.npy", shape) for n in ("mean", "std", "width"))
    more: dict[str, Any] = {}
    parts = [slice(first, first + SLICES) for first in range(0, shape[0], SLICES)]
    for at in parts:
        mean[at] = samples[:, at].mean(0)
    span = float(np.ptp(mean))
    for at in parts if job.results.spread else ():
        part = np.asarray(samples[:, at])
        std[at] = part.std(0, ddof=1)
        method = _method(planned, was_ended(found.record["chunks"]))
        interval = interval_of(part, job.interval, method, _circumstances(planned), span)
        width[at] = interval.half_width
        more = {"interval": interval.record, "notes": list(interval.notes)}
    volumes = {job.out: (words, like.with_data(mean))}
    if job.results.spread:
        volumes[std_path(job.out)] = (f"{words} std", like.with_data(std))
        volumes[interval_path(job.out)] = (f"{words} interval", like.with_data(width))
    return write_volumes(volumes, folder), more


def _method(planned: Planned, limited: bool) -> Method:
    """What an interval's table is asked for. limited: whether a time limit ended a run, which no table knows."""
    nameless = {"name": "", "sha256": ""}
    card = read_card(planned.job.prior) if planned.sampler.prior_kinds else nameless
    weights = str(card["sha256"]) + (CUT_SHORT if limited else "")
    return Method.of(planned.sampler, planned.job.task.traits, str(card["name"]), weights)


def _circumstances(planned: Planned) -> Circumstances:
    prepared, traits = planned.ready, planned.job.task.traits
    return Circumstances(traits.kind, traits.task, prepared.difficulty, prepared.level)


def _record(planned: Planned, found: Restored, device: torch.device) -> dict[str, Any]:
    """What was done and how to repeat it."""
    job, prepared = planned.job, planned.ready
    chunks = found.record["chunks"]
    used, limited = chunks[0].get("precision"), was_ended(chunks)
    return {
        "status": "done", "fingerprint": planned.fingerprint, **_replay(planned, device, used, limited),
        "task": job.task.name,
        "sampler": {"name": job.sampler, "preset": job.preset, **dataclasses.asdict(planned.sampler)},
        "options": dataclasses.asdict(job.options), "environment": environment(str(device)),
        "image": {"units": prepared.result.units, "affine": prepared.result.affine.tolist()},
        **({"precision": record_of(job.options.precision, used)} if used else {}),
        **found.record, **quality_record(job.quality),
    }  # fmt: skip


def _replay(
    planned: Planned, device: torch.device, precision: str | None, limited: bool
) -> dict[str, Any]:
    """The entries of the record by which `restore volume --config` repeats the run; precision: that of the networks;
    limited: whether its time limit ended something."""
    job, sampler = planned.job, planned.sampler
    standard = job.quality == "standard"
    files: dict[str, Path | tuple[Path, ...] | None] = {
        "volumes": job.inputs, "calibration": job.interval.calibration,
    }  # fmt: skip
    return replayable(
        "volume",
        files | {name.replace("_", "-"): path for name, path in job.task.files.items()},
        {
            "task": job.task.name, **{n.replace("_", "-"): v for n, v in job.task.told.items()},
            "sampler": job.sampler, "preset": job.preset, "set": dataclasses.asdict(sampler),
            "samples": job.options.samples if standard else 1, "quality": job.quality,
            "level": job.interval.level, "interval": job.interval.unit, "seed": job.options.seed,
            "time-limit": job.options.time_limit if limited else None,
            "repair": job.repair, "modality": job.modality, "device": str(device), "precision": precision,
            **job.which,
        },
        job.prior if sampler.prior_kinds else None,
    )  # fmt: skip
