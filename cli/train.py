"""`restore train`: make a prior from one's own images. One subcommand a family of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli.config_option import verb

if TYPE_CHECKING:
    from restore.pipelines.train_job import TrainJob

app = typer.Typer(
    help="Train a prior from folders of images, NIfTI, DICOM or HDF5 volumes.", no_args_is_help=True
)

Data = Annotated[
    list[str],
    typer.Argument(
        help="Folders or files, each with an optional share and modality: PATH[:SHARE[:ct|mr]]"
    ),
]
Out = Annotated[
    Path, typer.Option("-o", "--out", help="Weights to write (.safetensors; the card beside it)")
]
Channels = Annotated[int, typer.Option(help="1 (grey, MR, CT) or 3 (RGB)")]
Validation = Annotated[
    Path | None, typer.Option(help="Folder of photographs or volumes for the card's figures")
]
Minutes = Annotated[float, typer.Option(help="Time budget; the learning rate anneals over it")]
Steps = Annotated[int, typer.Option(help="Step budget, whichever ends first")]
Batch = Annotated[int, typer.Option(help="Crops a step")]
Crop = Annotated[int, typer.Option(help="Side of a crop in pixels")]
Widths = Annotated[str, typer.Option(help="Channels of each level")]
Blocks = Annotated[str, typer.Option(help="Residual blocks of each level")]
Rate = Annotated[
    float, typer.Option(min=0.001, help="Learning-rate factor; 0.3 to fine-tune from --init")
]
Init = Annotated[str, typer.Option(help="Start from this prior (name or file) of the same shape")]
Licence = Annotated[
    str, typer.Option(help="Licence of the weights, for the card: that of the training data")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N")]
Threads = Annotated[int, typer.Option(help="CPU threads, 0 for all")]
Seed = Annotated[int, typer.Option(help="Seed of crops and noise")]
Restart = Annotated[bool, typer.Option("--restart", help="Begin anew where OUT or its state exist")]
Tasks = Annotated[
    list[str],
    typer.Option(
        "--task",
        help="TASK[:VALUE][@NOISE]: superres:4, deblur:gaussian:1.6@0.01, inpaint:0.3, denoise@0.1",
    ),
]


@app.command("denoiser")
@verb("train denoiser")
def denoiser(
    data: Data, out: Out, channels: Channels = 1, validation: Validation = None, minutes: Minutes = 60.0,
    steps: Steps = 1_000_000, batch: Batch = 12, crop: Crop = 56, widths: Widths = "64,96,128",
    blocks: Blocks = "3,2,2", init: Init = "", rate: Rate = 1.0, licence: Licence = "", device: Device = "auto",
    threads: Threads = 0, seed: Seed = 0, restart: Restart = False,
) -> None:  # fmt: skip
    """Train the EDM-preconditioned U-Net denoiser. A second call with the same OUT continues an unfinished one."""
    from restore.pipelines.train_job import train_denoiser_job

    job = _job(
        data, out, channels, validation, minutes, steps, batch, crop, rate, licence, device, threads, seed, restart
    )  # fmt: skip
    _finish(train_denoiser_job(job, _integers(widths), _integers(blocks), init))


def _conditional(name: str, bridge: str) -> Callable[..., None]:
    """The command that trains a conditional model for one bridge, or for "any"."""

    @verb(f"train {name}")
    def command(
        data: Data, out: Out, task: Tasks, channels: Channels = 3, validation: Validation = None,
        minutes: Minutes = 60.0, steps: Steps = 1_000_000, batch: Batch = 12, crop: Crop = 56,
        widths: Widths = "64,96,128", blocks: Blocks = "3,2,2", init: Init = "", rate: Rate = 1.0,
        licence: Licence = "", device: Device = "auto", threads: Threads = 0, seed: Seed = 0, restart: Restart = False,
    ) -> None:  # fmt: skip
        from restore.pipelines.train_job import train_conditional_job

        job = _job(
            data, out, channels, validation, minutes, steps, batch, crop, rate, licence, device, threads, seed, restart
        )  # fmt: skip
        _finish(
            train_conditional_job(job, bridge, task, _integers(widths), _integers(blocks), init)
        )

    return command


for _name, _bridge, _what in (
    (
        "conditional",
        "any",
        "Train a conditional model that serves every bridge: resshift, rddm and mrs.",
    ),
    ("resshift", "resshift", "Train a conditional model by ResShift's loss on its 15-step chain."),
    ("rddm", "rddm", "Train a conditional model by RDDM's loss on the residual (SM-Res)."),
    ("mrs", "mrs", "Train a conditional model by IR-SDE's loss, for the MR Sampler."),
):
    app.command(_name, help=_what)(_conditional(_name, _bridge))


@app.command("autoencoder")
@verb("train autoencoder")
def autoencoder(
    data: Data, out: Out, channels: Channels = 3, validation: Validation = None, minutes: Minutes = 30.0,
    steps: Steps = 1_000_000, batch: Batch = 12, crop: Crop = 56, widths: Widths = "64,128", blocks: Blocks = "2,3",
    latent_channels: Annotated[int, typer.Option(help="Channels of a code")] = 12,
    rate: Rate = 1.0, licence: Licence = "", device: Device = "auto", threads: Threads = 0, seed: Seed = 0,
    restart: Restart = False,
) -> None:  # fmt: skip
    """Train the small KL autoencoder, whose codes `restore train latent` learns."""
    from restore.pipelines.train_job import train_autoencoder_job

    job = _job(
        data, out, channels, validation, minutes, steps, batch, crop, rate, licence, device, threads, seed, restart
    )  # fmt: skip
    _finish(train_autoencoder_job(job, _integers(widths), _integers(blocks), latent_channels))


@app.command("latent")
@verb("train latent")
def latent(
    data: Data, out: Out,
    autoencoder: Annotated[Path, typer.Option(help="Weights of `restore train autoencoder`")],
    validation: Validation = None, minutes: Minutes = 60.0, steps: Steps = 1_000_000, batch: Batch = 12,
    crop: Crop = 80, widths: Widths = "96,128", blocks: Blocks = "3,3", rate: Rate = 1.0, licence: Licence = "",
    device: Device = "auto", threads: Threads = 0, seed: Seed = 0, restart: Restart = False,
) -> None:  # fmt: skip
    """Train the denoiser of an autoencoder's codes; OUT holds both."""
    from restore.pipelines.train_job import train_latent_job

    job = _job(
        data, out, 0, validation, minutes, steps, batch, crop, rate, licence, device, threads, seed, restart
    )  # fmt: skip
    _finish(train_latent_job(job, autoencoder, _integers(widths), _integers(blocks)))


def _job(
    data: list[str], out: Path, channels: int, validation: Path | None, minutes: float, steps: int, batch: int,
    crop: int, rate: float, licence: str, device: str, threads: int, seed: int,
    restart: bool,
) -> TrainJob:  # fmt: skip
    import torch

    from restore.pipelines.devices import choose_device
    from restore.pipelines.train_job import TrainJob, parse_source
    from restore.training.loop import Budget

    if threads:
        torch.set_num_threads(threads)
    return TrainJob(
        tuple(parse_source(entry) for entry in data), out, channels, validation,
        Budget(steps, minutes, rate), batch, crop, seed, licence, str(choose_device(device)), _say,
        restart,
    )  # fmt: skip


def _say(record: dict[str, Any]) -> None:
    typer.echo("  ".join(f"{k} {v}" for k, v in record.items()), err=True)


def _finish(out: Path) -> None:
    typer.echo(str(out))


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"'{text}' is not a list of whole numbers such as 64,96,128"
        ) from error
