"""`restore bids`: the calling form of BIDS Apps around `restore volume`."""

from __future__ import annotations

import dataclasses
import inspect
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from restore.cli import console, many, volume
from restore.cli.config_option import verb
from restore.cli.many import Choice
from restore.cli.options import Device, Intervals, Overwrite, Precision, Sampling
from restore.cli.volume import TaskOptions
from restore.version import __version__

SIDECAR = "bids_sidecar"
"""Of a job's options: what BIDS wants to know of its result."""

_LEVELS = ("participant",)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"restore {__version__}")
        raise typer.Exit


@verb("bids", goes_on=True)
def command(
    dataset: Annotated[Path, typer.Argument(metavar="IN", help="The root of a BIDS tree.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="The derivative: IN/derivatives/restore, say.")
    ],
    analysis_level: Annotated[
        str, typer.Argument(metavar="participant", help="Each image by itself; there is no group.")
    ],
    *,
    choice: Choice,
    task: Annotated[
        str, typer.Option(metavar="denoise|superres|deblur|inpaint", help="As of `restore volume`.")
    ] = "denoise",
    options: TaskOptions,
    sampler: Annotated[str, typer.Option(help="As of `restore volume`.")] = "auto",
    prior: Annotated[str, typer.Option(help="As of `restore volume`.")] = "auto",
    sampling: Sampling,
    intervals: Intervals,
    modality: Annotated[str, typer.Option(metavar="MR|CT", help="Of the images.")] = "MR",
    repair: Annotated[str, typer.Option(help="'zero' takes 0 for NaN voxels.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the sampler's noise.")] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    overwrite: Overwrite = False,
    skip_bids_validation: Annotated[
        bool, typer.Option("--skip-bids-validation", help="Do not look at IN's description.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Print the version.")
    ] = False,
) -> None:
    """Restore the images of a BIDS tree into a derivative (sub-01_desc-restored_T1w.nii.gz): a BIDS App.

    Anatomical images are taken; --bids chooses others, such as datatype=dwi,suffix=sbref.
    """
    from restore.config import did_you_mean
    from restore.errors import ConfigError
    from restore.many import bids_derivative as derivative

    if analysis_level not in _LEVELS:
        group = (
            "group: nothing is computed over participants here; "
            if analysis_level == "group"
            else ""
        )
        raise ConfigError(
            f"{group}the analysis level is '{analysis_level}'{did_you_mean(analysis_level, _LEVELS)}; give participant"
        )
    if not skip_bids_validation:
        derivative.check_tree(dataset)
    derivative.check_out(out, dataset)
    told = {
        "task": task, "sampler": sampler, "prior": prior, "modality": modality, "repair": repair, "seed": seed,
        "device": device, "precision": precision, "overwrite": overwrite,
        **dataclasses.asdict(options), **dataclasses.asdict(sampling), **dataclasses.asdict(intervals),
    }  # fmt: skip
    jobs, notes = _jobs(dataset, out, choice, told)
    part = many.part_of(choice, len(jobs))
    mine = part.of(jobs)
    console.notes(notes)
    if mine:
        derivative.start_tree(out, dataset, task)
        many.run_list(mine, part, {"out": out}, choice=choice)


def _jobs(
    dataset: Path, out: Path, choice: Choice, told: dict[str, Any]
) -> tuple[list[Any], list[str]]:
    """One job an image. Raises InputError for a tree without any, ConfigError."""
    from restore.many import bids
    from restore.many.bids_derivative import derivative_name, sidecar_of
    from restore.many.inputs import list_inputs
    from restore.many.jobs import Job

    wanted = bids.Wanted.parse(
        choice.participant_label or [], choice.session_label or [], choice.bids or ["datatype=anat"]
    )
    inside = dataset.resolve() in out.resolve().parents
    listing = list_inputs([dataset], "volume", avoid=out if inside else None, wanted=wanted)
    usual = _usual_options()
    jobs = []
    for entry in listing.inputs:
        target = out / derivative_name(entry.name)
        mine = usual | told | {
            "volumes": [entry.source], "out": target, SIDECAR: sidecar_of(entry.source, dataset, told["task"]),
        }  # fmt: skip
        jobs.append(Job("bids", str(entry.name), entry.source, target, mine))
    return jobs, list(listing.notes)


def _usual_options() -> dict[str, Any]:
    """The defaults of `restore volume`, by the names of its command's parameters."""
    own = inspect.signature(volume.command).parameters.values()
    left_out = {"context", "config", "xml", *inspect.signature(Choice).parameters}
    return {
        p.name: p.default
        for p in own
        if p.name not in left_out and p.default is not inspect.Parameter.empty
    }


def _restored(options: dict[str, Any]) -> Any:
    """One job: the sidecar that BIDS wants, and beside it what `restore volume` makes; both or neither."""
    from restore.datasets.json_text import write_json

    out: Path = options["out"]
    path = out.with_name(out.name.removesuffix(".nii.gz") + ".json")
    write_json(path, options.pop(SIDECAR))
    try:
        return many.call("volume", options)
    finally:
        if not out.exists():
            with suppress(OSError):
                path.unlink()


many.register("bids", _restored, _restored)
