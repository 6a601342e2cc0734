"""`restore train`: make a prior from one's own images. One subcommand a family of models."""

from __future__ import annotations

import datetime
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from restore.training.sources import Source

app = typer.Typer(
    help="Train a prior from folders of images, NIfTI, DICOM or HDF5 volumes.", no_args_is_help=True
)


@app.command("denoiser")
def denoiser(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Folders or files, each with an optional share and modality: PATH[:SHARE[:ct|mr]]"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Weights to write (.safetensors; the card beside it)"),
    ],
    channels: Annotated[int, typer.Option(help="1 (grey, MR, CT) or 3 (RGB)")] = 1,
    validation: Annotated[
        Path | None, typer.Option(help="Folder of photographs for the card's PSNR")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Time budget; the learning rate anneals over it")
    ] = 60.0,
    steps: Annotated[int, typer.Option(help="Step budget, whichever ends first")] = 1_000_000,
    batch: Annotated[int, typer.Option(help="Crops a step")] = 12,
    crop: Annotated[int, typer.Option(help="Side of a crop in pixels")] = 56,
    widths: Annotated[str, typer.Option(help="Channels of each level")] = "64,96,128",
    blocks: Annotated[str, typer.Option(help="Residual blocks of each level")] = "3,2,2",
    init: Annotated[
        str, typer.Option(help="Start from this prior (name or file) of the same shape")
    ] = "",
    rate: Annotated[
        float, typer.Option(min=0.001, help="Learning-rate factor; 0.3 to fine-tune from --init")
    ] = 1.0,
    licence: Annotated[str, typer.Option(help="Licence line for the card")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads, 0 for all")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of crops and noise")] = 0,
) -> None:
    """Train the EDM-preconditioned U-Net denoiser. A second call with the same OUT continues an unfinished one."""
    import torch

    from restore.pipelines.devices import choose_device
    from restore.priors.store import load_prior, save_prior
    from restore.priors.unet import UNetConfig
    from restore.training.corpus import Corpus
    from restore.training.denoiser import DenoiserTraining, append_json_line, train_denoiser
    from restore.training.validation import denoising_psnr, validation_images

    if threads:
        torch.set_num_threads(threads)
    chosen = choose_device(device)
    settings = DenoiserTraining(
        steps=steps, minutes=minutes, batch=batch, crop=crop, seed=seed, rate=rate
    )
    config = UNetConfig(channels, _integers(widths), _integers(blocks))
    sources = [_source(entry, channels) for entry in data]
    for source in sources:
        typer.echo(f"{source.name}: {len(source.images)} images, share {source.weight:g}", err=True)
    images = validation_images(validation, channels) if validation else []
    log = out.with_suffix(".log.jsonl")

    def report(record: dict) -> None:
        append_json_line(log, record)
        typer.echo("  ".join(f"{k} {v}" for k, v in record.items()), err=True)

    prior, progress = train_denoiser(
        Corpus(sources, crop, seed), images, settings, config, out.with_suffix(".state.safetensors"),
        device=chosen.type, init=load_prior(init) if init else None, report=report,
    )  # fmt: skip
    save_prior(out, prior, {
        "data": [{"name": s.name, "images": len(s.images), "share": s.weight} for s in sources],
        "licence": licence, "date": datetime.date.today().isoformat(),
        "command": shlex.join(["restore", *[Path(a).name if "/" in a else a for a in sys.argv[1:]]]),
        "trained_on": {"device": str(chosen), "torch": torch.__version__, "steps": progress.step,
                       "minutes": round(progress.seconds / 60, 1), "batch": batch, "crop": crop},
        "denoising_psnr_db": denoising_psnr(prior, images),
    })  # fmt: skip
    typer.echo(str(out))


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"'{text}' is not a list of whole numbers such as 64,96,128"
        ) from error


def _source(entry: str, channels: int) -> Source:
    """Read PATH, PATH:SHARE or PATH:SHARE:ct."""
    from restore.training.sources import load_source

    parts = entry.split(":")
    modality = parts.pop().upper() if len(parts) > 2 and parts[-1].lower() in ("ct", "mr") else ""
    share = 1.0
    if len(parts) > 1:
        try:
            share = float(parts[-1])
            parts.pop()
        except ValueError:
            share = 1.0  # a colon in a file's own name
    return load_source(":".join(parts), share, channels, modality)
