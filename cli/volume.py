"""`restore volume`: from a reconstructed volume to a better one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli import console
from restore.cli.config_option import config_file, verb
from restore.cli.many import Many
from restore.cli.options import Device, Intervals, Overwrite, Precision, Sampling
from restore.cli.output import check_output
from restore.cli.slice_jobs import done_before, followed

if TYPE_CHECKING:
    import torch

    from restore.pipelines.volume.job import Planned
    from restore.pipelines.volume.task import VolumeTask


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """What the tasks are told; each takes those that its class has a field for."""

    noise: Annotated[
        str | None,
        typer.Option(
            metavar="auto|gaussian|rician|correlated",
            help="denoise: what the noise is; rician: of MR magnitudes, correlated: of reconstructed CT.",
            show_default="auto",
        ),
    ] = None
    noise_map: Annotated[
        Path | None,
        typer.Option(help="denoise: a volume of the noise's deviation at every voxel."),
    ] = None
    noise_region: Annotated[
        Path | None,
        typer.Option(
            help="denoise: a volume, not zero where there is noise alone (air, a phantom): its spectrum is whitened."
        ),
    ] = None
    psf: Annotated[
        str,
        typer.Option(
            metavar="MM[,MM,MM]|FILE",
            help="deblur: full width at half maximum of a Gaussian, for all axes or along x, y, z; or a volume of the "
            "point spread function.",
        ),
    ] = ""
    mask: Annotated[
        Path | None,
        typer.Option(
            help="inpaint: a volume on the grid of VOLUMES, not zero where voxels are lost."
        ),
    ] = None
    noise_level: Annotated[
        float | None,
        typer.Option(
            min=0, help="Deviation of the noise, in the volume's units.", show_default="estimated"
        ),
    ] = None
    spacing: Annotated[
        float | None,
        typer.Option(
            metavar="MM",
            help="superres: distance of the new slices.",
            show_default="the pixels' size",
        ),
    ] = None
    in_plane: Annotated[
        float, typer.Option(metavar="F", help="superres: factor by which pixels become smaller.")
    ] = 1.0
    profile: Annotated[
        str,
        typer.Option(metavar="rect|gauss[:FWHM]", help="superres: profile of a slice, FWHM in mm."),
    ] = "rect"
    thickness: Annotated[
        float | None,
        typer.Option(
            metavar="MM", help="superres: thickness of a slice.",
            show_default="the DICOM header's, else the slices' distance",
        ),
    ] = None  # fmt: skip
    gap: Annotated[
        str,
        typer.Option(
            metavar="MM|auto", help="superres: gap between slices, in place of --thickness."
        ),
    ] = "auto"
    register: Annotated[
        str,
        typer.Option(
            metavar="rigid|none", help="superres: whether further volumes are laid on the first."
        ),
    ] = "rigid"


MANY = Many("volumes", "volume", several=False, suffix=".nii.gz", of_folders="")


@verb("volume", many=MANY, goes_on=True)
def command(
    volumes: Annotated[
        list[Path],
        typer.Argument(
            metavar="VOLUMES",
            help="NIfTI or a DICOM series; several views of one object to fuse; a folder, a glob in quotes, "
            "a BIDS tree.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="OUT.nii.gz, or a folder for a DICOM series derived from VOLUMES; of many a folder, or "
            "'OUT/{folder}/{name}.nii.gz'.",
        ),
    ],
    *,
    task: Annotated[
        str, typer.Option(metavar="denoise|superres|deblur|inpaint", help="What to do.")
    ],
    options: TaskOptions,
    sampler: Annotated[
        str, typer.Option(help="auto (the task's own), or a name (`restore list samplers`).")
    ] = "auto",
    prior: Annotated[
        str, typer.Option(help="auto (the bundled one), a bundled name or a weight file.")
    ] = "auto",
    sampling: Sampling,
    intervals: Intervals,
    modality: Annotated[
        str, typer.Option(metavar="MR|CT", help="Of a file that does not say: NIfTI.")
    ] = "",
    repair: Annotated[str, typer.Option(help="'zero' takes 0 for NaN voxels of NIfTI.")] = "",
    series: Annotated[
        str, typer.Option(help="Which DICOM series of a folder: number or UID's end.")
    ] = "",
    index: Annotated[
        int | None, typer.Option("--index", "--volume", help="Which volume of several, from 0.")
    ] = None,
    echo: Annotated[
        int | None, typer.Option("--echo", help="Which echo of a series, from 1.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sampler's noise.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write pictures and a viewer to OUT_report as well.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Look at the volume, say what would be done and held, do nothing."
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON.")
    ] = False,
) -> bool:
    """Restore a volume that was reconstructed already: its place, units and identity stay."""
    from restore.config import from_settings
    from restore.pipelines.devices import choose_device
    from restore.pipelines.recon_options import DrawOptions
    from restore.pipelines.results import interval_path, std_path
    from restore.pipelines.volume.job import VolumeJob, plan

    chosen, asked, samples = choose_device(device), _task(task, options), sampling.samples
    outputs = (out, std_path(out), interval_path(out)) if samples > 1 else (out,)
    inputs = (*volumes, prior, intervals.calibration, config_file(), *asked.files.values())
    for path in outputs:
        check_output(path, *inputs, overwrite=True, probe=False)
    which = {"series": series, "index": index, "echo": echo}
    told = {"samples": samples, "seed": seed, "precision": precision, "trace": report}
    told |= {"time_limit": sampling.time_limit}
    job = VolumeJob(
        tuple(volumes), out, asked, sampler, sampling.preset, sampling.values(), prior,
        from_settings(DrawOptions, told), intervals.options(samples), sampling.quality,
        {name: value for name, value in which.items() if value not in (None, "")}, modality, repair, overwrite,
    )  # fmt: skip
    planned = plan(job)
    if report:
        _check_report(out)
    if dry_run and not planned.done:
        _rehearsed(planned, chosen)
        return True
    if planned.done:
        done_before(out, planned.fingerprint)
    else:
        record = _done(planned, chosen)
        console.notes(record["notes"])
        console.result_json(record) if json else _show(planned, record)
    if report:
        _report(planned)
    return not planned.done


def _show(planned: Planned, record: dict[str, Any]) -> None:
    misfit = max(chunk["misfit"] for chunk in record["chunks"])
    job = planned.job
    console.result(
        f"{job.out}: {job.task.name} of {planned.ready.result.n_slices} slices by {job.sampler} in "
        f"{record['seconds']:.0f} s, largest data misfit {misfit:.2f}"
    )


def _task(word: str, given: TaskOptions) -> VolumeTask:
    """The task with its options. Raises ConfigError for one that is another task's."""
    from restore.errors import ConfigError
    from restore.pipelines.volume.known import TASKS, task_class

    chosen = task_class(word)
    taken = {field.name for field in dataclasses.fields(chosen)}
    values: dict[str, Any] = {}
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        if field.name in taken:
            values |= {} if value is None else {field.name: value}
        elif value != field.default:
            takers = [
                name for name in TASKS
                if field.name in {f.name for f in dataclasses.fields(task_class(name))}
            ]  # fmt: skip
            raise ConfigError(
                f"--{field.name.replace('_', '-')} is for --task {' and '.join(takers)}, not for {word}; leave it out"
            )
    return chosen(**values)


def _rehearsed(planned: Planned, device: torch.device) -> None:
    """Say what would be done, and what it would hold in memory."""
    prepared = planned.ready
    console.notes([*prepared.notes, *planned.notes])
    for name, value in prepared.record.items():
        console.say(f"{name}: {value}")
    for line in planned.memory(device).lines():
        console.say(line)
    console.result(
        f"{planned.job.out}: {planned.job.task.name} of {prepared.result.n_slices} slices "
        f"{prepared.result.data.shape[1:]} in {len(prepared.blocks())} block(s), {planned.sampler}, on {device}"
    )


def _done(planned: Planned, device: torch.device) -> dict[str, Any]:
    """Do the job and tell how far it is; its record."""
    from restore.pipelines.volume.job import run

    samples = planned.job.options.samples
    with followed(planned.job.inputs[0].name, planned.ready.result.n_slices, samples) as (
        on_step,
        on_piece,
    ):
        return run(planned, device, on_step, on_piece)


def _check_report(out: Path) -> None:
    """Refuse a report whose name is taken, before the work and not after it."""
    from restore.report.from_volume import report_path
    from restore.report.render import check_target

    check_target(report_path(out))


def _report(planned: Planned) -> None:
    """Write the report of a result that lies there already: whatever fails here, the result stays."""
    from restore.datasets.sidecar import read_sidecar
    from restore.report.from_volume import report_path, study_of_volume
    from restore.report.render import write_report

    job = planned.job
    study = study_of_volume(job, read_sidecar(job.out))
    console.say(f"report: {write_report(study, report_path(job.out))}")
