"""What the card of each architecture says, and how a model is built from it: the store's knowledge of models.

One small class an architecture, named in `BLUEPRINTS`. A blueprint checks what a card claims before anything of the
claimed size is allocated. Called by `restore.priors.store` only; touches no files.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol, get_args

import torch
from torch import Tensor, nn

from restore.errors import ConfigError, WeightsError
from restore.priors.acquisition import Acquisition
from restore.priors.autoencoder import Autoencoder, AutoencoderConfig, new_autoencoder
from restore.priors.base import ComplexMode
from restore.priors.bridge_edm import BridgeDenoiser, build_bridge_denoiser
from restore.priors.converted import converted_from
from restore.priors.distilled import DistilledModel, FewSteps
from restore.priors.edm import EDMDenoiser, build_unet_denoiser, config_from_dict
from restore.priors.error_spectrum import ErrorSpectrum
from restore.priors.families.known import FAMILIES
from restore.priors.image_spectrum import ImageSpectrum
from restore.priors.latent_edm import LatentEDM
from restore.priors.low_rank import LAYERS, by_name, factor_shapes, from_names
from restore.priors.operator_family import OperatorFamily, families_of
from restore.priors.region import Adapts, RegionDenoiser, region_denoiser, with_factors
from restore.priors.unet import UNet, UNetConfig
from restore.priors.varnet import Cascades, VarNet, VarNetConfig, new_varnet

Card = dict[str, Any]
Tensors = dict[str, Tensor]
BASE = "base."
"""Before the names of the tensors of the prior that a file of factors adapts (its card's entry "adapts")."""


class Blueprint(Protocol):
    """One architecture."""

    def describe(self, model: Any) -> Card:
        """The entries of a card that follow from the model."""

    def tensors(self, model: Any) -> Tensors:
        """All weights by name."""

    def expected(self, card: Card) -> Tensors:
        """Names and shapes that the card's model has, on the meta device. Raises KeyError, TypeError, ValueError,
        AttributeError, ConfigError for impossible cards.
        """

    def build(self, card: Card, tensors: Tensors) -> Any:
        """The model with these weights, which have the expected shapes."""


class _Denoiser:
    """A U-Net denoiser of pixels: `EDMDenoiser`."""

    def describe(self, model: EDMDenoiser) -> Card:
        if not isinstance(model.network, UNet):
            raise WeightsError(
                f"only the package's own U-Net can be saved, got {type(model.network).__name__}"
            )
        card = {
            "network": dataclasses.asdict(model.network.config), "sigma_data": model.sigma_data,
            "sigma_range": [model.sigma_min, model.sigma_max], "intensity": list(model.intensity),
            "complex_mode": model.complex_mode,
            **({"scaling": dict(model.scaling)} if model.scaling else {}),
        }  # fmt: skip
        known = {"error_spectrum": model.error_spectrum, "image_spectrum": model.image_spectrum}
        return card | {name: v.describe() for name, v in known.items() if v is not None}

    def tensors(self, model: EDMDenoiser) -> Tensors:
        return dict(model.network.state_dict())

    def expected(self, card: Card) -> Tensors:
        _check_noise(card)
        low, high = map(float, card["intensity"])
        if not -math.inf < low < high < math.inf or card["complex_mode"] not in get_args(
            ComplexMode
        ):
            raise ConfigError(
                f"intensities {low}..{high}, complex mode {card['complex_mode']!r}; that is no prior"
            )
        _error_spectrum(card)
        _image_spectrum(card)
        _scaling(card)
        return _unet_shapes(config_from_dict(card["network"]))

    def build(self, card: Card, tensors: Tensors) -> EDMDenoiser:
        config = config_from_dict(card["network"])
        prior = build_unet_denoiser(
            config, sigma_data=float(card["sigma_data"]), name=str(card["name"])
        )
        prior.sigma_min, prior.sigma_max = map(float, card["sigma_range"])
        low, high = map(float, card["intensity"])
        prior.intensity, prior.complex_mode = (low, high), card["complex_mode"]
        prior.error_spectrum, prior.scaling = _error_spectrum(card), _scaling(card)
        prior.image_spectrum = _image_spectrum(card)
        _fill(prior.network, tensors)
        prior.turnable = True  # `restore train` shows its crops in all eight orientations
        return prior


class _Distilled:
    """A denoiser's network with the numbers of its few steps and what they are for: `DistilledModel`."""

    def describe(self, model: DistilledModel) -> Card:
        own = BLUEPRINTS["unet"].describe(model.denoiser)
        steps, family = dataclasses.asdict(model.steps), dataclasses.asdict(model.family)
        return own | {"few_steps": {k: list(v) for k, v in steps.items()}, "family": family}

    def tensors(self, model: DistilledModel) -> Tensors:
        return BLUEPRINTS["unet"].tensors(model.denoiser)

    def expected(self, card: Card) -> Tensors:
        FewSteps.from_card(card["few_steps"])
        OperatorFamily.from_card(card["family"])
        return BLUEPRINTS["unet"].expected(card)

    def build(self, card: Card, tensors: Tensors) -> DistilledModel:
        denoiser = BLUEPRINTS["unet"].build(card, tensors)
        return DistilledModel(
            denoiser,
            FewSteps.from_card(card["few_steps"]),
            OperatorFamily.from_card(card["family"]),
            name=str(card["name"]),
        )


class _Conditional:
    """A U-Net that is shown the degraded image: `BridgeDenoiser`."""

    def describe(self, model: BridgeDenoiser) -> Card:
        return {
            "network": dataclasses.asdict(model.network.config), "sigma_data": model.sigma_data,
            "sigma_range": [model.sigma_min, model.sigma_max], "bridge": model.bridge, "tasks": list(model.tasks),
            "families": [dataclasses.asdict(f) for f in model.families],
        }  # fmt: skip

    def tensors(self, model: BridgeDenoiser) -> Tensors:
        return dict(model.network.state_dict())

    def expected(self, card: Card) -> Tensors:
        _check_noise(card)
        config = config_from_dict(card["network"])
        if config.condition != config.channels:
            raise ConfigError(f"{config}: a conditional model is shown one degraded image")
        if not all(isinstance(t, str) for t in [card["bridge"], *card["tasks"]]):
            raise ConfigError("bridge and tasks must be names")
        families_of(card)
        return _unet_shapes(config)

    def build(self, card: Card, tensors: Tensors) -> BridgeDenoiser:
        model = build_bridge_denoiser(
            config_from_dict(card["network"]), sigma_data=float(card["sigma_data"]), bridge=card["bridge"],
            tasks=tuple(card["tasks"]), families=families_of(card), name=str(card["name"]),
        )  # fmt: skip
        model.sigma_min, model.sigma_max = map(float, card["sigma_range"])
        _fill(model.network, tensors)
        return model


class _Autoencoder:
    """The autoencoder alone: what `restore train latent` starts from."""

    def describe(self, model: Autoencoder) -> Card:
        return {"network": dataclasses.asdict(model.config)}

    def tensors(self, model: Autoencoder) -> Tensors:
        return dict(model.state_dict())

    def expected(self, card: Card) -> Tensors:
        with torch.device("meta"):
            return Autoencoder(_autoencoder_config(card["network"])).state_dict()

    def build(self, card: Card, tensors: Tensors) -> Autoencoder:
        network = new_autoencoder(_autoencoder_config(card["network"]))
        _fill(network, tensors)
        return network


class _Latent:
    """Autoencoder and denoiser of its codes: `LatentEDM`."""

    def describe(self, model: LatentEDM) -> Card:
        if not isinstance(model.denoiser.network, UNet):
            raise WeightsError("only the package's own U-Net can be saved")
        return {
            "network": {
                "autoencoder": dataclasses.asdict(model.autoencoder.config),
                "denoiser": dataclasses.asdict(model.denoiser.network.config),
                "channels": model.channels,
            },
            "sigma_data": model.denoiser.sigma_data,
            "sigma_range": [model.sigma_min, model.sigma_max],
        }  # fmt: skip

    def tensors(self, model: LatentEDM) -> Tensors:
        found = {f"autoencoder.{k}": v for k, v in model.autoencoder.state_dict().items()}
        found |= {f"denoiser.{k}": v for k, v in model.denoiser.network.state_dict().items()}
        return found | {"codes.shift": model.shift.flatten(), "codes.scale": model.scale.flatten()}

    def expected(self, card: Card) -> Tensors:
        _check_noise(card)
        auto = _autoencoder_config(card["network"]["autoencoder"])
        config = config_from_dict(card["network"]["denoiser"])
        if config.channels != auto.latent_channels or config.condition:
            raise ConfigError(
                f"codes of {auto.latent_channels} channels, a denoiser of {config.channels}"
            )
        with torch.device("meta"):
            found = {f"autoencoder.{k}": v for k, v in Autoencoder(auto).state_dict().items()}
            statistics = {
                f"codes.{k}": torch.empty(auto.latent_channels) for k in ("shift", "scale")
            }
        shapes = _unet_shapes(config)
        return found | {f"denoiser.{k}": v for k, v in shapes.items()} | statistics

    def build(self, card: Card, tensors: Tensors) -> LatentEDM:
        auto = new_autoencoder(_autoencoder_config(card["network"]["autoencoder"]))
        config = config_from_dict(card["network"]["denoiser"])
        denoiser = build_unet_denoiser(config, sigma_data=float(card["sigma_data"]))
        denoiser.sigma_min, denoiser.sigma_max = map(float, card["sigma_range"])
        _fill(auto, _below("autoencoder.", tensors))
        _fill(denoiser.network, _below("denoiser.", tensors))
        shift, scale = tensors["codes.shift"].float(), tensors["codes.scale"].float()
        return LatentEDM(auto, denoiser, shift, scale, name=str(card["name"]))


class _VarNet:
    """An unrolled network: `VarNet`."""

    def describe(self, model: VarNet) -> Card:
        if model.acquisition is None:
            raise WeightsError(
                "an unrolled network is saved with the acquisition that it was trained on"
            )
        return {
            "network": dataclasses.asdict(model.network.config), "acquisition": dataclasses.asdict(model.acquisition),
            "subjects": model.subjects, **({"scaling": dict(model.scaling)} if model.scaling else {}),
        }  # fmt: skip

    def tensors(self, model: VarNet) -> Tensors:
        return dict(model.network.state_dict())

    def expected(self, card: Card) -> Tensors:
        Acquisition.from_card(card["acquisition"])
        _scaling(card)
        with torch.device("meta"):
            return Cascades(_varnet_config(card["network"])).state_dict()

    def build(self, card: Card, tensors: Tensors) -> VarNet:
        model = new_varnet(_varnet_config(card["network"]), name=str(card["name"]))
        model.acquisition = Acquisition.from_card(card["acquisition"])
        model.subjects, model.scaling = str(card.get("subjects", "")), _scaling(card)
        _fill(model.network, tensors)
        return model


class _Region:
    """Low-rank factors that make a denoiser one of regions: `RegionDenoiser`."""

    def describe(self, model: RegionDenoiser) -> Card:
        if model.adapter is None or model.adapts is None:
            raise WeightsError(f"'{model.name}' holds no factors of a prior that has a file")
        assert isinstance(model.network, UNet)  # noqa: S101  (for the type checker)
        return {
            "network": dataclasses.asdict(model.network.config), "rank": model.adapter.rank,
            "adapts": dataclasses.asdict(model.adapts), "spread": model.spread,
            "sigma_data": model.sigma_data, "sigma_range": [model.sigma_min, model.sigma_max],
            "intensity": list(model.intensity), **({"scaling": dict(model.scaling)} if model.scaling else {}),
        }  # fmt: skip

    def tensors(self, model: RegionDenoiser) -> Tensors:
        return {} if model.adapter is None else by_name(model.adapter)

    def expected(self, card: Card) -> Tensors:
        _check_noise(card)
        _scaling(card)
        rank, config = card["rank"], config_from_dict(card["network"])
        if type(rank) is not int or rank < 1 or config.condition != 1:
            raise ConfigError(f"factors of rank {rank!r} for {config}; that is no region prior")
        Adapts(**card["adapts"])
        if not 0 < float(card["spread"]) < math.inf:
            raise ConfigError(f"a spread of {card['spread']}; that is no region prior")
        with torch.device("meta"):
            shapes = factor_shapes(RegionDenoiser(UNet(config)), rank, LAYERS)
            return {
                f"{name}.{part}": torch.empty(shape)
                for name, pair in shapes.items()
                for part, shape in zip(("up", "down"), pair, strict=True)
            }

    def build(self, card: Card, tensors: Tensors) -> RegionDenoiser:
        config = dataclasses.replace(config_from_dict(card["network"]), condition=0)
        base = build_unet_denoiser(config, sigma_data=float(card["sigma_data"]))
        _fill(base.network, _below(BASE, tensors))
        base.sigma_min, base.sigma_max = map(float, card["sigma_range"])
        low, high = map(float, card["intensity"])
        base.intensity, base.scaling, base.turnable = (low, high), _scaling(card), True
        factors = {k: v.float() for k, v in tensors.items() if not k.startswith(BASE)}
        model = region_denoiser(base, str(card["name"]))
        model.spread = float(card["spread"])
        return with_factors(model, from_names(factors), Adapts(**card["adapts"]))


class _Published:
    """A network of another codebase under its own names: `families`. Made by `restore models convert` alone."""

    def describe(self, model: Any) -> Card:
        raise WeightsError("a converted model is not saved again; its file and card are the model")

    def tensors(self, model: Any) -> Tensors:
        raise WeightsError("a converted model is not saved again; its file and card are the model")

    def expected(self, card: Card) -> Tensors:
        return converted_from(card).shapes()

    def build(self, card: Card, tensors: Tensors) -> Any:
        found = converted_from(card).told(tensors)
        return found.model(found.network(tensors))


BLUEPRINTS: dict[str, Blueprint] = {
    "unet": _Denoiser(), "distilled-unet": _Distilled(), "varnet": _VarNet(), "region-factors": _Region(),
    "conditional-unet": _Conditional(), "autoencoder": _Autoencoder(), "latent": _Latent(),
    **dict.fromkeys(FAMILIES, _Published()),
}  # fmt: skip
_ARCHITECTURE_OF: dict[type, str] = {
    EDMDenoiser: "unet", DistilledModel: "distilled-unet", VarNet: "varnet", RegionDenoiser: "region-factors",
    BridgeDenoiser: "conditional-unet", Autoencoder: "autoencoder", LatentEDM: "latent",
}  # fmt: skip


def architecture_of(model: object) -> str:
    """The name that a model's card carries. Raises WeightsError for models that cannot be saved."""
    name = _ARCHITECTURE_OF.get(type(model))
    if name is None:
        raise WeightsError(f"a {type(model).__name__} cannot be saved")
    return name


def _check_noise(card: Card) -> None:
    sigma_data, (low, high) = float(card["sigma_data"]), map(float, card["sigma_range"])
    if not (0 < sigma_data < math.inf and 0 < low < high < math.inf):
        raise ConfigError(f"sigma_data {sigma_data}, noise {low}..{high}; that is no prior")


def _error_spectrum(card: Card) -> ErrorSpectrum | None:
    entry = card.get("error_spectrum")
    return None if entry is None else ErrorSpectrum.from_card(entry)


def _image_spectrum(card: Card) -> ImageSpectrum | None:
    entry = card.get("image_spectrum")
    return None if entry is None else ImageSpectrum.from_card(entry)


def _scaling(card: Card) -> dict[str, str]:
    """How intensities became [0, 1], by modality; nothing on cards that do not say."""
    entry = card.get("scaling", {})
    if not isinstance(entry, dict) or not all(
        isinstance(v, str) for v in [*entry, *entry.values()]
    ):
        raise ConfigError(f"scaling {entry!r}: expected rules in words by modality")
    return dict(entry)


def _unet_shapes(config: UNetConfig) -> Tensors:
    with torch.device("meta"):  # shapes first: a wrong card must not allocate its network
        return UNet(config).state_dict()


def _autoencoder_config(record: Card) -> AutoencoderConfig:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return AutoencoderConfig(**values)


def _varnet_config(record: Card) -> VarNetConfig:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}
    return VarNetConfig(**values)


def _below(prefix: str, tensors: Tensors) -> Tensors:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _fill(network: nn.Module, tensors: Tensors) -> None:
    network.load_state_dict({k: v.float() for k, v in tensors.items()})
    network.eval().requires_grad_(False)
