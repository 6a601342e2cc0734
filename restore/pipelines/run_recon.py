"""One reconstruction job from file to file: read the scan, reconstruct, write volume, deviation, interval and sidecar.

Used by `restore recon` and `restore demo`. The record is put there last and says "done", with the sha256 of every
result: a job whose record shows the same input, settings and weights, and the results that lie there, is not run twice.
Until then finished slices and results lie in a hidden folder beside OUT (`work_folder`), where the same command finds
them after any interruption.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from restore.datasets.atomic import sweep
from restore.datasets.mri.files.maps_file import with_maps
from restore.datasets.mri.off_resonance.field_map import with_field_map
from restore.datasets.open import (
    check_over_time,
    open_scan,
    read,
    writer_for,
)
from restore.datasets.over_time import frames_of, of_measured
from restore.datasets.scan import Scan
from restore.datasets.sidecar import (
    environment,
    foreign_note,
)
from restore.datasets.volume.identity import identity_from
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.front_door import demand_of
from restore.method import Method
from restore.pipelines.adapting import (
    FIT,
    Adapted,
    adapt_prior,
    adapter_path,
    check_adapt,
    forecast,
    keep_adapter,
)
from restore.pipelines.factors import Circumstances
from restore.pipelines.interval import CUT_SHORT, Interval, interval_of_slices
from restore.pipelines.memory_plan import MemoryPlan, planned_memory
from restore.pipelines.meter import measured
from restore.pipelines.quality import quality_record, sampler_of_quality
from restore.pipelines.recon_job import ReconJob
from restore.pipelines.results import interval_path, map_path, std_path, write_volumes
from restore.pipelines.scan_to_volume import OnPiece, OnStep, ReconResult, reconstruct
from restore.pipelines.vouching import is_done, need_not_run
from restore.pipelines.work_folder import WorkFolder, surroundings
from restore.precision import record_of
from restore.priors.base import Denoiser
from restore.priors.choosing import name_of
from restore.priors.kept import loaded
from restore.priors.matching import check
from restore.priors.store import read_card
from restore.priors.traits import Model, card_traits
from restore.registry import check_frames, check_operator, frames_apart, load_sampler
from restore.samplers.base import Sampler
from restore.starts import ChosenStart, start_of
from restore.time_limit import was_ended


@dataclasses.dataclass(frozen=True)
class Planned:
    """A job after its checks, before any work: the opened scan and the configured sampler.

    identity: an empty result that holds the header and source of the series named by `like`. done: the results lie
    there as their record says. outdated: what an earlier job left that this one makes none of; notes: on it.
    """

    job: ReconJob
    scan: Scan
    sampler: Sampler
    fingerprint: str
    done: bool
    identity: Volume | None = None
    outdated: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    start: ChosenStart | None = None

    @property
    def beside(self) -> dict[str, Any]:
        """The entry of the record on what is read that no option names."""
        return self.job.beside_record(self.scan.files)

    def memory(self, device: torch.device) -> MemoryPlan:
        """What the work holds. Raises OutOfMemory where the smallest pieces are too much for what is free."""
        found = planned_memory(self.scan, self.sampler, self.job.options, device)
        found.check(str(self.scan), device)
        return found


def plan(job: ReconJob) -> Planned:
    """Check everything that can be checked cheaply.

    `done` says that the output exists and its sidecar shows this very job. Raises NotFoundError,
    InputError, ConfigError, OutputError (an output of another job exists).
    """
    name, samples = sampler_of_quality(job.quality, job.sampler, job.preset, job.options.samples)
    options = dataclasses.replace(job.options, samples=samples)
    job = dataclasses.replace(job, sampler=name, options=options).spelled_out()
    scan = open_scan(
        job.scan, repair=job.repair, kspace_order=job.kspace_order, select=job.select, axes=job.axes,
        trajectory=job.trajectory, pattern=job.pattern, projections=job.projections,
        detector_pixel=job.detector_pixel, grid=job.grid, frames=job.frames, frame_s=job.frame_s,
    ).in_units(job.units, job.mu_water)  # fmt: skip
    if job.maps is not None:
        maps = job.maps
        scan = of_measured(scan, lambda s: with_maps(s, maps, job.options.maps_sets))
    scan = of_measured(scan, lambda s: with_field_map(s, job.field_map, job.readout_times))
    sampler = load_sampler(job.sampler).configured(job.preset, scan, dict(job.settings))
    check_operator(type(sampler), scan)
    check_frames(sampler, frames_of(scan))
    sampler, changed = sampler.for_samples(job.options.samples)
    if sampler.prior_kinds:
        job = dataclasses.replace(job, prior=_prior_that_fits(job, sampler, scan))
    if job.adapt and job.options.maps_sets > 1:
        raise ConfigError("--adapt serves images of one component; leave it out, or --maps-sets 2")
    if job.adapt and job.options.partial_fourier != "none":
        raise ConfigError("--adapt serves complex images; leave it out, or --partial-fourier")
    if job.adapt:
        check_adapt(job.adapt, job.prior, sampler)
    if job.adapt and frames_of(scan) > 1:
        raise ConfigError("--adapt serves images without frames; leave it out, or --frames 1")
    start = _start(job, sampler, scan)
    if start is not None:
        job = dataclasses.replace(job, options=dataclasses.replace(job.options, start=start.text))
    if job.adapt and job.options.maps_sets == 0:
        job = dataclasses.replace(job, options=dataclasses.replace(job.options, maps_sets=1))
    job = dataclasses.replace(job, options=job.options.settled(scan, sampler))
    _check_name(job)
    changed += frames_apart(sampler, frames_of(scan))
    check_over_time(writer_for(job.out), job.out, frames_of(scan))
    scan.check(job.options)
    mark, identity = job.fingerprint(scan.files), _identity(job, scan)
    planned = Planned(job, scan, sampler, mark, False, identity, start=start)
    done = need_not_run(
        job.overwrite, lambda: is_done(job.out, planned.fingerprint, job.results.files)
    )
    old: list[Path] = []
    notes: list[str] = []
    if not done:
        _check_place(planned)
        if job.tells_spread:
            job.interval.entries()  # a damaged table is found before the work
        old, notes = job.results.outdated(job.overwrite)
    sweep(job.out.parent)
    return dataclasses.replace(planned, done=done, outdated=tuple(old), notes=(*changed, *notes))


def _identity(job: ReconJob, scan: Scan) -> Volume | None:
    """An empty result with the identity of the series named by `like`. Raises InputError, ConfigError."""
    if job.like is not None:
        return identity_from(scan.empty_volume(), read(job.like, **job.like_which))
    if job.like_which:
        names = ", ".join(f"--{'volume' if n == 'index' else n}" for n in job.like_which)
        raise ConfigError(f"{names}: chooses from the series of --like, which is not given")
    return None


def run(
    planned: Planned,
    device: torch.device,
    on_step: OnStep | None = None,
    on_piece: OnPiece | None = None,
) -> dict[str, Any]:
    """Do the work, or what an interruption left of it, and write the results; returns the sidecar's record.

    on_piece: hears how many slices are finished, those of earlier calls included.
    """
    job = planned.job
    planned.memory(device)  # refused before the work
    work = _work(planned, device)

    def make() -> tuple[dict[Path, Path], dict[str, Any]]:
        with measured(device) as cost:
            prior: Model | None = loaded(job.prior) if planned.sampler.prior_kinds else None
            found = _adapted(planned, prior, device) if job.adapt else None
            prior = prior if found is None else found.model
            result = reconstruct(
                planned.scan, planned.sampler, prior, job.options, device=device, on_step=on_step, on_piece=on_piece,
                kept=work,
            )  # fmt: skip
            interval = _interval(result, planned)
            written = _written(result, interval, planned, work.folder)
            if found is not None and job.adapt == FIT:
                target = adapter_path(job.out)
                written[target] = keep_adapter(
                    work.folder / "adapter.safetensors", found, job.prior
                )
        chunks = result.record["chunks"]
        used, limited = chunks[0].get("precision"), was_ended(chunks)
        record = {
            "status": "done", "fingerprint": planned.fingerprint,
            **job.replay_record(planned.sampler, device, used, limited),
            "outputs": [path.name for path in written],
            "sampler": {"name": job.sampler, "preset": job.preset, **dataclasses.asdict(planned.sampler)},
            "options": dataclasses.asdict(job.options), "environment": environment(str(device)),
            "seconds": round(cost.seconds, 2), "peak_memory_mb": round(cost.peak_memory_mb),
            "image": _image_record(planned.scan), **planned.beside,
            **({"precision": record_of(job.options.precision, used)} if used else {}),
            **result.record, **quality_record(job.quality),
            **({} if interval is None else {"interval": interval.record}),
            **({} if found is None else {"adaptation": found.record}),
            **({} if planned.start is None else {"start": planned.start.record}),
        }  # fmt: skip
        told = [
            *(() if interval is None else interval.notes),
            *([] if found is None else [found.note]),
        ]
        said = filter(None, [*told, foreign_note(job.out), *planned.notes])
        return written, record | {"notes": list(dict.fromkeys([*record["notes"], *said]))}

    return work.complete(make, planned.outdated)


def rehearse(planned: Planned) -> list[str]:
    """What a run would say of its scan, found without reconstructing: the set-up of all slices, one slice's problem.

    Every slice is read once. Raises what the set-up and the middle slice raise in a run: InputError, ConfigError.
    """
    scan = planned.scan
    setup = scan.setup(planned.job.options)
    middle = scan.n_slices // 2
    problem = setup.problem(range(middle, middle + 1), torch.device("cpu"))
    job = planned.job
    if job.adapt != FIT:
        return list(scan.notes)
    model = _denoiser(loaded(job.prior))
    return [*scan.notes, forecast(model, problem, planned.sampler, scan.n_slices)]


def _image_record(scan: Scan) -> dict[str, Any]:
    """Units and place of the result, which not every format holds."""
    place = None if scan.affine is None else scan.affine.tolist()
    return {"units": scan.units, "affine": place}


def _work(planned: Planned, device: torch.device) -> WorkFolder:
    job = planned.job
    around = surroundings(device, job.options.precision)
    return WorkFolder(job.out, planned.fingerprint, around, job.overwrite)


def _interval(result: ReconResult, planned: Planned) -> Interval | None:
    """Around the mean of several samples."""
    job = planned.job
    if result.drawn is None or not job.tells_spread:
        return None
    card = read_card(job.prior) if planned.sampler.prior_kinds else {"name": "", "sha256": ""}
    unmeasured = [" adapted"] * bool(job.adapt) + [CUT_SHORT] * was_ended(result.record["chunks"])
    weights = str(card["sha256"]) + "".join(unmeasured)  # as no table was measured with
    method = Method.of(planned.sampler, planned.scan, str(card["name"]), weights)
    measured = Circumstances(**result.record["circumstances"])
    return interval_of_slices(result.drawn, result.volume.data, job.interval, method, measured)


def _written(
    result: ReconResult, interval: Interval | None, planned: Planned, folder: Path
) -> dict[Path, Path]:
    """Write all results into the job's own folder; by their targets where they lie."""
    job = planned.job
    results = {job.out: ("", result.volume)}
    if result.std is not None and interval is not None:
        results[std_path(job.out)] = (" std", result.std)
        width = planned.scan.volume(interval.half_width)
        results[interval_path(job.out)] = (" interval", width)
    for name, volume in result.maps.items():
        results[map_path(job.out, name)] = (f" {name}", volume)
    described = {
        target: (f"restore {job.sampler}{what}", _identified(volume, planned.identity))
        for target, (what, volume) in results.items()
    }
    return write_volumes(described, folder)


def _identified(volume: Volume, like: Volume | None) -> Volume:
    """With the header and the source of the series that `like` is of."""
    if like is None:
        return volume
    return dataclasses.replace(volume, header=like.header, source=like.source)


def _adapted(planned: Planned, prior: Any, device: torch.device) -> Adapted:
    job = planned.job
    return adapt_prior(
        job.adapt, _denoiser(prior), job.prior, planned.scan, job.options, job.options.seed, device
    )


def _denoiser(prior: Any) -> Denoiser:
    assert isinstance(prior, Denoiser)  # noqa: S101  (for the type checker: `check_adapt` has seen its card)
    return prior


def _check_place(planned: Planned) -> None:
    """Refuse, before the work, results that cannot be put in their places (OutputError)."""
    job, scan = planned.job, planned.scan
    rows, columns = scan.image_shape
    source = None if planned.identity is None else planned.identity.source
    image = 4 * scan.n_slices * rows * columns
    job.results.check(planned.fingerprint, image, job.options.samples, job.overwrite, source)


def _prior_that_fits(job: ReconJob, sampler: Sampler, scan: Scan) -> str:
    """The name of the prior, which fits by its card: nothing else is read. Raises ConfigError, WeightsError."""
    known = demand_of(sampler, scan)
    asked = dataclasses.replace(
        known, operator=str(scan), item_shape=scan.image_shape,
        is_complex=known.is_complex and job.options.partial_fourier == "none",
    )  # fmt: skip
    name = name_of(job.prior, asked)
    check(card_traits(name), asked)
    return name


def _start(job: ReconJob, sampler: Sampler, scan: Scan) -> ChosenStart | None:
    """The chosen start that is asked for. Raises ConfigError, and what reading its table raises."""
    start = start_of(job.options.start, sampler, job.prior, scan, job.options.samples)
    if start is not None and start.origin and job.adapt:
        raise ConfigError(
            "--adapt changes the prior, and a start is chosen for its weights as they are: leave one of the two out, "
            f"or give the start itself, --start {start.text}"
        )
    if start is not None and (scan.whole or job.options.maps_sets > 1):
        raise ConfigError(
            f"a chosen start is laid over slices, and {scan} is solved as a whole or in several components; leave "
            "--start out"
        )
    return start


def _check_name(job: ReconJob) -> None:
    """Refuse a name that says no format, before the work and not after it (ConfigError)."""
    if "" not in writer_for(job.out).suffixes and job.like is not None:
        raise ConfigError(f"{job.out}: --like is for DICOM; give a folder as OUT, or leave it out")
