"""One training from files to a weight file with its card: what `restore train` does, for every family of models.

Reads the training images, runs the family's loop and writes weights, card and log. A second call with the same output
continues an unfinished training from its state file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from restore.datasets.atomic import check_writable
from restore.errors import ConfigError, OutputError
from restore.pipelines.train_setup import TrainJob, alone
from restore.priors.acquisition import Acquisition
from restore.priors.autoencoder import AutoencoderConfig
from restore.priors.bridge_edm import BridgeDenoiser
from restore.priors.edm import EDMDenoiser
from restore.priors.error_spectrum import measured
from restore.priors.image_spectrum import measured_images
from restore.priors.latent_edm import LatentEDM
from restore.priors.network_options import split_options
from restore.priors.region import Adapts, region_denoiser
from restore.priors.store import (
    bundled,
    load_autoencoder,
    load_denoiser,
    load_prior,
    read_card,
    save_prior,
)
from restore.priors.unet import UNet, UNetConfig
from restore.priors.varnet import VarNetConfig
from restore.training.autoencoder import (
    AutoencoderTraining,
    Codes,
    round_trip_psnr,
    train_autoencoder,
)
from restore.training.conditional import (
    ConditionalTraining,
    restoration_psnr,
    train_conditional,
)
from restore.training.degradations import parse_task
from restore.training.denoiser import DenoiserTraining, train_denoiser
from restore.training.families import family
from restore.training.region import RegionTraining, inpainting_psnr, train_region
from restore.training.validation import denoising_psnr, validation_images
from restore.training.varnet import VarNetTraining, reconstruction_psnr, train_varnet


@alone
def train_denoiser_job(
    job: TrainJob, widths: tuple[int, ...], blocks: tuple[int, ...], init: str
) -> Path:
    """A pixel denoiser; init: a denoiser to start from, or "". Raises what reading and training raise."""
    config = UNetConfig(job.channels, widths, blocks)
    start = load_denoiser(init) if init else None
    if start is not None:
        _check_levels(init, start.network, config)
    sources, images = job.load(job.channels)
    settings = DenoiserTraining(
        job.budget, job.batch, job.crop, seed=job.seed, precision=job.precision
    )
    prior, progress = train_denoiser(
        job.corpus(sources), images, settings, config, job.state, device=job.device,
        init=start, workers=job.workers, show=job.show(images), report=job.report,
    )  # fmt: skip
    prior.scaling = {what: rule for s in sources for what, rule in s.scaling.items()}

    def figures() -> dict[str, Any]:
        prior.error_spectrum = measured(prior, images)
        return {"denoising_psnr_db": denoising_psnr(prior, images)}

    return job.save(prior, sources, progress, init, figures)


def measure_spectrum_job(out: Path, prior: str, folder: Path, count: int) -> Path:
    """A copy of a denoiser whose card knows the denoiser's error on `count` images of a folder of images or volumes.

    prior: bundled name or weight file. Raises ConfigError, WeightsError, OutputError and what reading raises.
    """
    model = _to_be_measured(out, prior)
    images = validation_images(folder, model.channels, count)
    model.error_spectrum = measured(model, images)
    told = {"images": len(images), "of": folder.name}
    return save_prior(out, model, read_card(prior) | {"name": out.stem, "error_measured_on": told})


def measure_gaussian_job(out: Path, prior: str, folders: Sequence[Path], count: int) -> Path:
    """A copy of a denoiser whose card knows what images are like: `count` of each folder of images or volumes.

    prior: bundled name or weight file. Raises ConfigError, WeightsError, OutputError and what reading raises.
    """
    model = _to_be_measured(out, prior)
    images = [i for folder in folders for i in validation_images(folder, model.channels, count)]
    model.image_spectrum = measured_images(images)
    told = {"images": len(images), "of": [folder.name for folder in folders]}
    return save_prior(out, model, read_card(prior) | {"name": out.stem, "images_measured_on": told})


def _to_be_measured(out: Path, prior: str) -> EDMDenoiser:
    """The denoiser, once its copy can be written."""
    if out.suffix != ".safetensors":
        raise ConfigError(f"{out}: weights are written as .safetensors")
    check_writable(out.parent)
    if os.path.lexists(out):
        raise OutputError(f"{out}: exists; choose another name")
    return load_denoiser(prior)


@alone
def train_conditional_job(
    job: TrainJob, bridge: str, tasks: Sequence[str], widths: tuple[int, ...], blocks: tuple[int, ...], init: str
) -> Path:  # fmt: skip
    """A conditional model for a bridge ("any" for all of them). init: a denoiser or a conditional model, or ""."""
    config = UNetConfig(job.channels, widths, blocks, condition=job.channels)
    start = load_prior(init) if init else None
    if start is not None:
        if not isinstance(start, EDMDenoiser | BridgeDenoiser):
            raise ConfigError(f"{init}: a conditional model starts from a denoiser or another one")
        _check_levels(init, start.network, config)
    sources, images = job.load(job.channels)
    chosen = tuple(parse_task(t) for t in tasks)
    settings = ConditionalTraining(
        chosen, job.budget, job.batch, job.crop, job.seed, precision=job.precision
    )
    model, progress = train_conditional(
        job.corpus(sources), images, settings, family(bridge), config, job.state,
        device=job.device, init=start, workers=job.workers, report=job.report,
    )  # fmt: skip

    def figures() -> dict[str, Any]:
        return {"restoration_psnr_db": restoration_psnr(model, images, chosen)}

    return job.save(model, sources, progress, init, figures)


@alone
def train_autoencoder_job(
    job: TrainJob, widths: tuple[int, ...], blocks: tuple[int, ...], latent_channels: int
) -> Path:
    """The KL autoencoder."""
    sources, images = job.load(job.channels)
    settings = AutoencoderTraining(
        job.budget, job.batch, job.crop, seed=job.seed, precision=job.precision
    )
    config = AutoencoderConfig(job.channels, latent_channels, _pair(widths), _pair(blocks))
    network, progress = train_autoencoder(
        job.corpus(sources), images, settings, config, job.state,
        device=job.device, workers=job.workers, report=job.report,
    )  # fmt: skip

    def figures() -> dict[str, Any]:
        return {"round_trip_psnr_db": round_trip_psnr(network, images)}

    return job.save(network, sources, progress, "", figures)


@alone
def train_latent_job(
    job: TrainJob, autoencoder: Path, widths: tuple[int, ...], blocks: tuple[int, ...]
) -> Path:
    """The denoiser of an autoencoder's codes, saved together with it."""
    network = load_autoencoder(autoencoder)
    sources, images = job.load(network.config.channels)
    codes = Codes(job.corpus(sources), network, job.device)
    settings = DenoiserTraining(
        job.budget, job.batch, job.crop, log_sigma_mean=-0.7, log_sigma_std=1.3, sigma_max=80.0,
        sigma_data=1.0, seed=job.seed, precision=job.precision,
    )  # fmt: skip
    config = UNetConfig(network.config.latent_channels, widths, blocks, unshuffle=1)
    denoiser, progress = train_denoiser(
        codes, [], settings, config, job.state, device=job.device, workers=job.workers, report=job.report,
    )  # fmt: skip
    model = LatentEDM(network, denoiser, codes.shift.cpu(), codes.scale.cpu()).to("cpu")

    def figures() -> dict[str, Any]:
        return {"round_trip_psnr_db": round_trip_psnr(network, images)}

    return job.save(model, sources, progress, str(autoencoder), figures)


@alone
def train_varnet_job(job: TrainJob, acquisition: Acquisition, config: VarNetConfig) -> Path:
    """An unrolled network for simulated acquisitions of MR images. Raises ConfigError for photographs alone."""
    sources, images = job.load(job.channels)
    if all(s.photographs for s in sources):
        raise ConfigError(
            f"{', '.join(s.name for s in sources)}: photographs alone teach no MR images; give MR volumes or scans"
        )
    settings = VarNetTraining(acquisition, job.budget, job.batch, job.crop, job.seed, job.precision)
    model, progress = train_varnet(
        job.corpus(sources), images, settings, config, job.state,
        device=job.device, workers=job.workers, report=job.report,
    )  # fmt: skip
    model.scaling = {what: rule for s in sources for what, rule in s.scaling.items()}
    model.subjects = ", ".join(s.name for s in sources)

    def figures() -> dict[str, Any]:
        return {"reconstruction_psnr_db": reconstruction_psnr(model, images)["psnr"]}

    return job.save(model, sources, progress, "", figures)


@alone
def train_region_job(job: TrainJob, prior: str, rank: int) -> Path:
    """Low-rank factors that make a denoiser one of regions. prior: bundled name or weight file."""
    if split_options(prior)[1] is not None:
        raise ConfigError(
            f"{prior}: factors belong to the weights as they are; leave the options of the network out"
        )
    base, first = load_denoiser(prior), read_card(prior)
    file = Path(prior) if Path(prior).is_file() and prior not in bundled() else None
    adapts = Adapts(str(first["name"]) if file is None else file.stem, first["sha256"])
    region_denoiser(base)  # refused before the images are read
    sources, images = job.load(base.channels)
    if file is not None and file.resolve().parent != job.out.resolve().parent:
        job.say(
            {
                "note": f"{job.out.name} holds factors alone: it is read with {file.name} and its card beside it"
            }
        )
    settings = RegionTraining(
        job.budget, job.batch, job.crop, rank, seed=job.seed, precision=job.precision
    )
    model, progress = train_region(
        job.corpus(sources), images, settings, base, adapts, job.state,
        device=job.device, workers=job.workers, report=job.report,
    )  # fmt: skip

    def figures() -> dict[str, Any]:
        return {"inpainting_psnr_db": inpainting_psnr(model, images)}

    return job.save(model, sources, progress, prior, figures)


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    if len(values) != 2:
        raise ConfigError(f"an autoencoder has two levels, got {values}")
    return values[0], values[1]


def _check_levels(init: str, network: nn.Module, config: UNetConfig) -> None:
    """Refuse a start whose levels are not those of the network that is to be trained (ConfigError)."""
    if not isinstance(network, UNet):
        raise ConfigError(f"{init}: its network is not of the kind that is trained here")
    was, now = network.config, f"{config.widths} and {config.blocks}"
    if (was.widths, was.blocks, was.unshuffle) != (config.widths, config.blocks, config.unshuffle):
        raise ConfigError(
            f"{init}: a network of widths {was.widths} and blocks {was.blocks}, not {now}; "
            f"add --widths {','.join(map(str, was.widths))} --blocks {','.join(map(str, was.blocks))}"
        )
