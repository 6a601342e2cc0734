"""`restore recon`: from k-space or a sinogram to a volume."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from restore.cli import console
from restore.cli.config_option import check_beside, config_file, verb
from restore.cli.many import Many
from restore.cli.options import Device, Intervals, Overwrite, Precision, Separating, Start
from restore.cli.output import check_output
from restore.cli.slice_jobs import done_before, followed

if TYPE_CHECKING:
    import torch

    from restore.datasets.scan import Scan
    from restore.pipelines.run_recon import Planned


@verb("recon", many=Many("scan", "scan", suffix=".nii.gz"), goes_on=True)
def command(
    scan: Annotated[
        Path,
        typer.Argument(
            metavar="SCAN",
            help="K-space or a sinogram (`restore list datasets`); or several, folders, globs, a BIDS tree.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="OUT.nii.gz, OUT.tif, or a folder for DICOM; of several a folder, or 'OUT/{folder}/{name}.tif'.",
        ),
    ],
    *,
    sampler: Annotated[
        str,
        typer.Option(
            help="auto (dds; split for several samples), or a name (`restore list samplers`)."
        ),
    ] = "auto",
    prior: Annotated[
        str,
        typer.Option(
            help="auto (the bundled one for its modality), a bundled name or a weight file."
        ),
    ] = "auto",
    adapt: Annotated[
        str,
        typer.Option(
            metavar="fit|FILE",
            help="Adapt the denoiser to this scan: fit (kept as OUT_adapter.safetensors), or such a file.",
        ),
    ] = "",
    sampling: Separating,
    start: Start = "drawn",
    intervals: Intervals,
    trajectory_map: Annotated[
        bool,
        typer.Option(
            "--trajectory-map",
            help="Also write how far the last estimates of each pixel moved, as OUT_trajectory.",
        ),
    ] = False,
    maps: Annotated[
        str,
        typer.Option(
            metavar="auto|file|espirit|joint|FILE",
            help="Coil maps: auto (the scan's, else espirit), file (the scan's), espirit, joint (together with the "
            "image), or FILE: .cfl, .npy, .h5, .npz, .mat.",
        ),
    ] = "auto",
    maps_sets: Annotated[
        int,
        typer.Option(
            min=0,
            max=2,
            help="Sets of maps by ESPIRiT: 1, 2, or 0: 2 where the object reaches the edges of the field of view.",
        ),
    ] = 0,
    coils_virtual: Annotated[
        str,
        typer.Option(
            metavar="N[:geometric]",
            help="MRI: compress the channels to N virtual coils, by SVD or along a fully sampled readout.",
        ),
    ] = "",
    partial_fourier: Annotated[
        str,
        typer.Option(
            metavar="none|real",
            help="MRI of which one side of k-space is missing: real holds the image real once its smooth phase is out.",
        ),
    ] = "none",
    keep_phase: Annotated[
        bool, typer.Option("--keep-phase", help="Leave the image phase in the image.")
    ] = False,
    noise_std: Annotated[
        float | None, typer.Option(min=0, help="Noise per real channel, in the scan's units.")
    ] = None,
    projector: Annotated[
        str, typer.Option(help="CT: auto (own), own, or astra (needs the extra astra).")
    ] = "auto",
    center: Annotated[
        str,
        typer.Option(
            metavar="auto|MM",
            help="CT: the axis of rotation where the data say, or at this offset of the detector (det_offset_mm).",
        ),
    ] = "",
    outliers: Annotated[
        str,
        typer.Option(
            metavar="bridge",
            help="CT: replace zingers and odd bins of the detector, which are else only noted.",
        ),
    ] = "",
    rings: Annotated[
        str,
        typer.Option(
            metavar="sorting[:BINS]",
            help="CT: take stripes out of the sinogram, rings out of the image.",
        ),
    ] = "",
    beam_hardening: Annotated[
        str,
        typer.Option(
            metavar="C1,C2,...|FILE",
            help="CT: polynomial of the line integrals that undoes beam hardening in water.",
        ),
    ] = "",
    repair: Annotated[
        str,
        typer.Option(
            help="'zero' does without NaN samples (CT: bridges them) instead of refusing them."
        ),
    ] = "",
    kspace_order: Annotated[
        str,
        typer.Option(
            help="K-space that is not centred is refused; centred takes it as it is, auto, fft, fft-shifted or corner "
            "bring it to the middle."
        ),
    ] = "",
    select: Annotated[
        str,
        typer.Option(
            metavar="NAME=N,...",
            help="Which image of raw data: average, contrast, phase, repetition, set, slice; twix: measurement.",
        ),
    ] = "",
    axes: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="Axes of k-space in .npz and .mat, in their program's order: slices, coils, rows, columns; along a "
            "trajectory readouts, samples.",
        ),
    ] = "",
    trajectory: Annotated[
        Path | None, typer.Option(help="BART: the file with the coordinates of SCAN's samples.")
    ] = None,
    pattern: Annotated[
        Path | None, typer.Option(help="BART: the file that says which samples were measured.")
    ] = None,
    field_map: Annotated[
        Path | None,
        typer.Option(
            help="MRI: off-resonance in Hz, a volume in SCAN's place or an array: long readouts are unblurred by time "
            "segments."
        ),
    ] = None,
    readout_times: Annotated[
        str,
        typer.Option(
            metavar="dwell=S|lines=S|FILE",
            help="MRI with --field-map: seconds between samples, or between the lines of an echo train, or of each "
            "sample, where SCAN tells none.",
        ),
    ] = "",
    projections: Annotated[
        Path | None,
        typer.Option(help="RTK: the projections that SCAN, a geometry, is of: a file or a folder."),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100_000,
            help="Cut readouts or parallel views into so many frames over time: OUT is 4-D. 1: one image.",
            show_default="as SCAN says",
        ),
    ] = None,
    frame_time: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="Seconds from a frame to the next, where SCAN does not tell."
        ),
    ] = None,
    detector_pixel: Annotated[
        float | None,
        typer.Option(metavar="MM", help="CT: pitch of the detector where SCAN does not tell it."),
    ] = None,
    grid: Annotated[
        str,
        typer.Option(
            metavar="SHAPE@MM",
            help="CT: voxels, such as 64x256x256@0.5 (a slice: 256x256@0.5), of files that say none.",
        ),
    ] = "",
    units: Annotated[str, typer.Option(help="CT: HU (as by default) or 1/mm.")] = "",
    mu_water: Annotated[
        float | None,
        typer.Option(metavar="PER_MM", help="CT: attenuation of water in 1/mm, for HU."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="DICOM series whose identity a DICOM OUT takes over.")
    ] = None,
    series: Annotated[
        str, typer.Option(help="Which series of the folder --like: number or UID's end.")
    ] = "",
    index: Annotated[
        int | None,
        typer.Option("--index", "--volume", help="Which volume of several in --like, from 0."),
    ] = None,
    echo: Annotated[
        int | None, typer.Option("--echo", help="Which echo of the series --like, from 1.")
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
            "--dry-run",
            help="Check the scan's slices and settings, say what would be done, do nothing. Maps are made of the "
            "middle slice alone; whether the result explains its data shows in the run.",
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print the record of the run as JSON.")
    ] = False,
) -> bool:
    """Reconstruct measured scans into volumes in their sources' geometry and units."""
    from restore.config import from_settings
    from restore.datasets.ct.detector.beam_hardening import read_coefficients
    from restore.pipelines.devices import choose_device
    from restore.pipelines.recon_job import ReconJob
    from restore.pipelines.recon_options import ReconOptions
    from restore.pipelines.results import interval_path, map_path, std_path
    from restore.pipelines.run_recon import plan
    from restore.registry import usual_sampler

    chosen = choose_device(device)
    maps_file = _maps_file(maps)
    samples = sampling.samples
    sampler = sampling.named(sampler)
    named = usual_sampler(samples) if sampler == "auto" else sampler
    inputs = (scan, prior, adapt, like, maps_file, field_map, readout_times, start, intervals.calibration)  # fmt: skip
    beside = (std_path(out), interval_path(out)) if samples > 1 else ()
    made = {"trajectory": trajectory_map, "structured": named == "joint"}
    _check_outputs((out, *beside, *(map_path(out, n) for n in made if made[n])), inputs)
    options = from_settings(ReconOptions, {
        "maps": "file" if maps_file else maps, "maps_sets": maps_sets, "coils_virtual": coils_virtual,
        "partial_fourier": partial_fourier, "remove_phase": not keep_phase, "noise_std": noise_std, "samples": samples,
        "seed": seed, "trace": report, "projector": projector, "center": center, "outliers": outliers, "rings": rings,
        "precision": precision, "beam_hardening": read_coefficients(beam_hardening),
        "time_limit": sampling.time_limit, "trajectory_map": trajectory_map, "start": start,
    })  # fmt: skip
    which = {"series": series, "index": index, "echo": echo}
    job = ReconJob(
        scan, out, named, sampling.preset, sampling.values(), prior, adapt, options, like=like, repair=repair,
        like_which={name: value for name, value in which.items() if value not in (None, "")},
        kspace_order=kspace_order, select=select, axes=axes, trajectory=trajectory, pattern=pattern, maps=maps_file,
        projections=projections, detector_pixel=detector_pixel, grid=grid, units=units, mu_water=mu_water,
        field_map=field_map, readout_times=readout_times, frames=frames, frame_s=frame_time,
        overwrite=overwrite, interval=intervals.options(samples), quality=sampling.quality,
    )  # fmt: skip
    planned = plan(job)
    check_beside(planned.beside)
    if report:
        _check_report(job.out)
    if dry_run:
        _rehearsed(planned, chosen)
        return True
    if planned.done:
        done_before(job.out, planned.fingerprint)
    else:
        record = _done(planned, chosen)
        console.notes(record["notes"])
        console.result_json(record) if json else _show(planned, sampler, record)
    if report:
        _report(planned)
    return not planned.done


def _show(planned: Planned, sampler: str, record: dict[str, Any]) -> None:
    misfit = max(chunk["misfit"] for chunk in record["chunks"])
    console.result(
        f"{planned.job.out}: {_count(planned.scan)} by {sampler} in {record['seconds']:.0f} s, largest data "
        f"misfit {misfit:.2f}"
    )


def _count(scan: Scan) -> str:
    """Slices, or frames of slices, in words."""
    from restore.datasets.over_time import frames_of

    frames = frames_of(scan)
    over_time = f"{frames} frames of " if frames > 1 else ""
    return f"{over_time}{scan.n_slices // frames} slices"


def _check_outputs(outputs: tuple[Path, ...], inputs: tuple[str | Path | None, ...]) -> None:
    """Refuse results that are one of the inputs or the run file, all files of each looked at. Raises OutputError,
    ConfigError."""
    from restore.datasets.content import spelled_out
    from restore.datasets.open import written_files

    given = [spelled_out(path) for path in (*inputs, config_file()) if path]
    for file in (file for path in outputs for file in written_files(path)):
        check_output(file, *given, overwrite=True, probe=False)


def _maps_file(maps: str) -> Path | None:
    """The file that --maps names, None for one of its words and for what can be no file."""
    from restore.datasets.content import spelled_out
    from restore.datasets.scan import MapsSource

    path = spelled_out(maps)
    named = maps not in get_args(MapsSource) and (path.suffix or path.name != maps or path.exists())
    return path if named else None


def _rehearsed(planned: Planned, device: torch.device) -> None:
    """Say what would be done, and what it would hold in memory."""
    from restore.pipelines.run_recon import rehearse

    scan, held = planned.scan, planned.memory(device)
    console.notes(scan.notes if planned.done else rehearse(planned))
    for line in held.lines():
        console.say(line)
    console.result(
        f"{planned.job.out}: {_count(scan)} of {planned.job.scan.name} {scan.shape}, {planned.sampler}, on "
        f"{device}"
    )


def _done(planned: Planned, device: torch.device) -> dict[str, Any]:
    """Do the job and tell how far it is; its record."""
    from restore.datasets.over_time import frames_of
    from restore.pipelines.run_recon import run

    samples, scan = planned.job.options.samples, planned.scan
    pieces = "slices" if frames_of(scan) == 1 else "images (slices of frames)"
    with followed(scan.path.name, scan.n_slices, samples, pieces) as (on_step, on_piece):
        return run(planned, device, on_step, on_piece)


def _check_report(out: Path) -> None:
    """Refuse a report that cannot be, before the work and not after it: its name is taken, OUT cannot be read back."""
    from restore.datasets.open import writer_for
    from restore.errors import ConfigError
    from restore.report.from_recon import report_path
    from restore.report.render import check_target

    form = writer_for(out)
    if form.holds != "volume" or not form.read_back:
        raise ConfigError(
            f"{out}: --report reads the result back, and files of this kind are not read; choose .nii.gz"
        )
    check_target(report_path(out))


def _report(planned: Planned) -> None:
    """Write the report of a result that lies there already: whatever fails here, the result stays."""
    from restore.datasets.sidecar import read_sidecar
    from restore.report.from_recon import report_path, study_of_recon
    from restore.report.render import write_report

    out = planned.job.out
    study = study_of_recon(planned.scan, out, read_sidecar(out), planned.job.options)
    console.say(f"report: {write_report(study, report_path(out))}")
