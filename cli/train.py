"""`restore train`: make a prior from one's own images. One subcommand a family of models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from restore.cli.config_option import verb
from restore.cli.options import Device

if TYPE_CHECKING:
    from restore.pipelines.train_setup import TrainJob

app = typer.Typer(
    help="Train a prior from folders of images, NIfTI, DICOM or HDF5 volumes.", no_args_is_help=True
)

Channels = Annotated[int, typer.Option(help="1 (grey, MR, CT) or 3 (RGB)")]
Minutes = Annotated[float, typer.Option(help="Time budget; the learning rate anneals over it")]
Crop = Annotated[int, typer.Option(help="Side of a crop in pixels")]
Widths = Annotated[str, typer.Option(help="Channels of each level")]
Blocks = Annotated[str, typer.Option(help="Residual blocks of each level")]
Init = Annotated[str, typer.Option(help="Start from this prior (name or file) of the same shape")]


@dataclasses.dataclass(frozen=True)
class Training:
    """Options of every family."""

    data: Annotated[
        list[str],
        typer.Argument(
            help="Folders or files, each with an optional share and modality: PATH[:SHARE[:ct|mr]]"
        ),
    ]
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Weights to write (.safetensors; the card beside it)"),
    ]
    validation: Annotated[
        Path | None, typer.Option(help="Folder of photographs or volumes for the card's figures")
    ] = None
    steps: Annotated[int, typer.Option(help="Step budget, whichever ends first")] = 1_000_000
    batch: Annotated[int, typer.Option(help="Crops a step")] = 12
    rate: Annotated[
        float, typer.Option(min=0.001, help="Learning-rate factor; 0.3 to fine-tune from --init")
    ] = 1.0
    licence: Annotated[
        str, typer.Option(help="Licence of the weights, for the card: that of the training data")
    ] = ""
    device: Device = "auto"
    threads: Annotated[int, typer.Option(min=0, max=1024, help="CPU threads, 0 for all")] = 0
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of crops and noise")] = 0
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin anew where OUT or its state exist")
    ] = False
    augment: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of crops that are also turned, scaled and sheared a little"
        ),
    ] = 0.0
    phase: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the crops of MR images that get a smooth random phase, as complex images have; by default "
            "0, with --target complex 0.5",
        ),
    ] = None
    precision: Annotated[
        str,
        typer.Option(
            help="Numbers inside the network: float32, bfloat16, or auto: bfloat16 where the device is quick at it"
        ),
    ] = "auto"

    @contextmanager
    def job(self, channels: int, minutes: float, crop: int) -> Iterator[TrainJob]:
        """The job of these options, joined with the other processes that torchrun has started.

        channels: of the images, 2 for complex ones, 0 where a file says it. Raises ConfigError, DeviceError,
        LostWorkerError.
        """
        import torch

        from restore.pipelines.devices import choose_device
        from restore.pipelines.train_setup import TrainJob, parse_source
        from restore.training.loop import Budget
        from restore.training.precision import chosen
        from restore.training.workers import joined

        phase = self.phase if self.phase is not None else 0.5 * (channels == 2)
        if self.threads:
            torch.set_num_threads(self.threads)
        device = str(choose_device(self.device))
        with joined(device) as workers:
            own = workers.device(device)
            yield TrainJob(
                tuple(parse_source(entry) for entry in self.data), self.out, channels, self.validation,
                Budget(self.steps, minutes, self.rate), self.batch, crop, self.seed, self.licence,
                own, _say if workers.first else _silent, self.restart, self.augment, phase,
                chosen(self.precision, own), workers,
            )  # fmt: skip


@app.command("denoiser")
@verb("train denoiser", goes_on=True)
def denoiser(
    training: Training, channels: Channels = 1, minutes: Minutes = 60.0, crop: Crop = 56,
    widths: Widths = "64,96,128", blocks: Blocks = "3,2,2", init: Init = "",
    target: Annotated[
        str,
        typer.Option(
            help="real, or complex: re and im as two channels, of fully sampled k-space, of complex volumes, or of "
            "real MR volumes with a random phase"
        ),
    ] = "real",
) -> None:  # fmt: skip
    """Train the EDM-preconditioned U-Net denoiser. A second call with the same OUT continues an unfinished one."""
    from restore.pipelines.train_job import train_denoiser_job

    with training.job(_channels(channels, target), minutes, crop) as job:
        _finish(train_denoiser_job(job, _integers(widths), _integers(blocks), init), job)


def _conditional(name: str, bridge: str) -> Callable[..., None]:
    """The command that trains a conditional model for one bridge, or for "any"."""

    @verb(f"train {name}", goes_on=True)
    def command(
        training: Training,
        task: Annotated[
            list[str],
            typer.Option(
                help="TASK[:VALUE][@NOISE]: superres:4, deblur:gaussian:1.6@0.01, inpaint:0.3, denoise@0.1"
            ),
        ],
        channels: Channels = 3, minutes: Minutes = 60.0, crop: Crop = 56, widths: Widths = "64,96,128",
        blocks: Blocks = "3,2,2", init: Init = "",
    ) -> None:  # fmt: skip
        from restore.pipelines.train_job import train_conditional_job

        with training.job(_channels(channels), minutes, crop) as job:
            made = train_conditional_job(
                job, bridge, task, _integers(widths), _integers(blocks), init
            )
            _finish(made, job)

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
@verb("train autoencoder", goes_on=True)
def autoencoder(
    training: Training, channels: Channels = 3, minutes: Minutes = 30.0, crop: Crop = 56,
    widths: Widths = "64,128", blocks: Blocks = "2,3",
    latent_channels: Annotated[int, typer.Option(help="Channels of a code")] = 12,
) -> None:  # fmt: skip
    """Train the small KL autoencoder, whose codes `restore train latent` learns."""
    from restore.pipelines.train_job import train_autoencoder_job

    with training.job(_channels(channels), minutes, crop) as job:
        made = train_autoencoder_job(job, _integers(widths), _integers(blocks), latent_channels)
        _finish(made, job)


@app.command("latent")
@verb("train latent", goes_on=True)
def latent(
    training: Training,
    autoencoder: Annotated[Path, typer.Option(help="Weights of `restore train autoencoder`")],
    minutes: Minutes = 60.0, crop: Crop = 80, widths: Widths = "96,128", blocks: Blocks = "3,3",
) -> None:  # fmt: skip
    """Train the denoiser of an autoencoder's codes; OUT holds both."""
    from restore.pipelines.train_job import train_latent_job

    with training.job(0, minutes, crop) as job:  # the channels are the autoencoder's
        _finish(train_latent_job(job, autoencoder, _integers(widths), _integers(blocks)), job)


@app.command("varnet")
@verb("train varnet", goes_on=True)
def varnet(
    training: Training, minutes: Minutes = 60.0, crop: Crop = 96, widths: Widths = "32,48,64",
    blocks: Blocks = "2,2,2",
    acceleration: Annotated[
        list[float] | None, typer.Option(min=1, help="Of the simulated scans; several: one drawn a crop; default 4")
    ] = None,
    mask: Annotated[
        list[str] | None, typer.Option(help="As of `restore simulate mri`; several: one drawn a crop; default random")
    ] = None,
    coils: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="Of a simulated scan; several: one drawn a step; default 8")
    ] = None,
    noise: Annotated[
        str, typer.Option(help="LOW,HIGH: range of the noise, of full intensity, per real channel")
    ] = "0.002,0.02",
    cascades: Annotated[int, typer.Option(min=1, max=64, help="Steps of the network")] = 6,
    memory: Annotated[
        int, typer.Option(min=0, max=64, help="Planes that a step hands to the next beside the image")
    ] = 4,
    unshared: Annotated[
        bool, typer.Option("--unshared", help="A U-Net of its own for every step, not one for all")
    ] = False,
) -> None:  # fmt: skip
    """Train an unrolled network on simulated multi-coil scans of MR volumes, for the sampler varnet."""
    from restore.pipelines.train_job import train_varnet_job
    from restore.priors.acquisition import Acquisition
    from restore.priors.varnet import VarNetConfig
    from restore.training.slices import COMPLEX

    measured = Acquisition(
        tuple(acceleration or (4.0,)),
        tuple(mask or ("random",)),
        tuple(coils or (8,)),
        _range(noise),
    )
    config = VarNetConfig(cascades, _integers(widths), _integers(blocks), memory, not unshared)
    with training.job(COMPLEX, minutes, crop) as job:
        _finish(train_varnet_job(job, measured, config), job)


@app.command("rad")
@verb("train rad", goes_on=True)
def rad(
    training: Training,
    prior: Annotated[
        str, typer.Option(help="The denoiser to adapt: bundled name or weight file")
    ] = "natural",
    rank: Annotated[
        int, typer.Option(min=1, max=64, help="Of the low-rank factors of every layer")
    ] = 8,
    minutes: Minutes = 40.0, crop: Crop = 64,
) -> None:  # fmt: skip
    """Adapt a denoiser to noise of a level of its own for every pixel, for the sampler rad; OUT holds factors alone."""
    from restore.pipelines.train_job import train_region_job

    with training.job(0, minutes, crop) as job:  # the channels are the prior's
        _finish(train_region_job(job, prior, rank), job)


@app.command("spectrum")
@verb("train spectrum")
def spectrum(
    prior: Annotated[str, typer.Argument(help="A denoiser: bundled name or weight file")],
    images: Annotated[
        Path, typer.Argument(help="Photographs or volumes that its training did not see")
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Weights to write (.safetensors; the card beside it)"),
    ],
    count: Annotated[int, typer.Option(min=1, max=1000, help="Images or slices to use")] = 12,
) -> None:
    """Measure how far a denoiser is from the truth, by noise and frequency: what the sampler split draws with."""
    from restore.pipelines.train_job import measure_spectrum_job

    _finish(measure_spectrum_job(out, prior, images, count))


@app.command("gaussian")
@verb("train gaussian")
def gaussian(
    prior: Annotated[str, typer.Argument(help="A denoiser: bundled name or weight file")],
    images: Annotated[
        list[Path],
        typer.Argument(help="Photographs or volumes that it was trained on, or like them"),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Weights to write (.safetensors; the card beside it)"),
    ],
    count: Annotated[
        int, typer.Option(min=1, max=1000, help="Images or slices to use of each")
    ] = 40,
) -> None:
    """Measure what a denoiser's images are like as a Gaussian, by frequency: where start=gaussian begins."""
    from restore.pipelines.train_job import measure_gaussian_job

    _finish(measure_gaussian_job(out, prior, images, count))


def _say(record: dict[str, Any]) -> None:
    typer.echo("  ".join(f"{k} {v}" for k, v in record.items()), err=True)


def _silent(record: dict[str, Any]) -> None:
    """What processes beside the first say."""


def _finish(out: Path, job: TrainJob | None = None) -> None:
    if job is None or job.workers.first:
        typer.echo(str(out))


def _channels(channels: int, target: str = "real") -> int:
    """Channels of the network: those of real images, or 2. Raises ConfigError."""
    from restore.config import did_you_mean
    from restore.errors import ConfigError
    from restore.training.slices import COMPLEX

    if target not in ("real", "complex"):
        raise ConfigError(
            f"unknown target '{target}'{did_you_mean(target, ('real', 'complex'))}; use real or complex"
        )
    if channels not in (1, 3):
        raise ConfigError(f"--channels {channels}: images have 1 channel or 3")
    if target == "complex" and channels != 1:
        raise ConfigError("--target complex is for one-channel images; leave --channels out")
    return COMPLEX if target == "complex" else channels


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is not a range LOW,HIGH such as 0.002,0.02") from error
    return low, high


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            f"'{text}' is not a list of whole numbers such as 64,96,128"
        ) from error
