"""Models that were converted from a family of published networks: what their card says, and what is made of it.

Between the store, which knows files, and `families`, which know networks. A card of such a model has `architecture`
(the family), `settings` (its constructor's arguments) and `meaning` (`families/meaning.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.families.base import Family
from restore.priors.families.known import FAMILIES, family_of
from restore.priors.families.meaning import Meaning, meaning_from

Card = dict[str, Any]
Tensors = dict[str, Tensor]

OPTIONS = {
    "range": "--range LOW:HIGH (intensities of the training images, such as -1:1 or 0:1)",
    "schedule": "--schedule linear:0.0001:0.02:1000 (or scaled_linear:, cosine:, resshift:, rddm:, irsde: ...)",
    "prediction": "--prediction eps, x0 or v (of a chain to a degraded image also residual, residual+noise, ...)",
    "complex_mode": "--complex-mode separate, channels or magnitude (what becomes of complex images)",
    "label": "--label N (the class to ask for; -1 for none, in EDM)",
    "normalize_input": "--set normalize_input=true or false, as its configuration says (true for published ones)",
    "latent_flag": "--set latent_flag=false for a network of pixels; one of codes is joined with its autoencoder by "
    "`restore models join`",
    "precond": "--set precond=EDMPrecond, VPPrecond or VEPrecond (the class that trained it)",
    "sigma_range": "--sigma-range LOW:HIGH (noise in units of the training images)",
    "tasks": "--tasks deblur,superres,... (what it was trained on)",
    **{
        f"context.{name}": f"converting again with --context FILE that holds a tensor '{name}' ({what})"
        for name, what in (
            ("prompt", "the text encoder's answer to the empty text, (words, width)"),
            ("degradation", "what DA-CLIP says of the degradation"), ("image", "what DA-CLIP says of the image"),
        )
    },
}  # fmt: skip
"""How each thing that a file does not tell is said, by its name in `Meaning` or among the settings."""
CONTEXT = "context."
"""Before the names of tensors that a network is told beside the image."""
ALONE = ("autoencoder", "part", "tensors")
"""Kinds that are no priors by themselves."""


def is_converted(card: Card) -> bool:
    """Whether a card is of such a model."""
    return card.get("architecture") in FAMILIES


@dataclasses.dataclass(frozen=True)
class Converted:
    """A network of a family with its settings and what is said of its images.

    assumed: settings that were said nowhere and are the official default, NAME=VALUE each.
    """

    family: Family
    config: Any
    meaning: Meaning
    name: str
    assumed: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """As `Family.kind`."""
        return self.family.kind(self.config)

    def shapes(self) -> Tensors:
        """Names and shapes of the network's tensors and of what it is told beside the image, on the meta device."""
        try:
            with torch.device("meta"):
                found = self.family.network(self.config).state_dict()
        except (ValueError, RuntimeError, ArithmeticError, LookupError) as error:
            raise ConfigError(f"no network has these settings ({error})") from error
        return found | {CONTEXT + k: v for k, v in (self.meaning.context or {}).items()}

    def network(self, tensors: Tensors) -> nn.Module:
        """The network with these tensors, which fit it, in eval mode without gradients.

        Weights in half precision are computed with in float32, which every device is good at.
        """
        with torch.device("meta"):
            network = self.family.network(self.config)
        own = {
            k: v.float() if v.dtype in (torch.float16, torch.bfloat16) else v
            for k, v in tensors.items()
            if not k.startswith(CONTEXT)
        }
        network.load_state_dict(own, assign=True)
        return network.eval().requires_grad_(False)

    def told(self, tensors: Tensors) -> Converted:
        """The same with the context that lies with the weights."""
        context = {k.removeprefix(CONTEXT): v for k, v in tensors.items() if k.startswith(CONTEXT)}
        return dataclasses.replace(
            self, meaning=dataclasses.replace(self.meaning, context=context or None)
        )

    def missing(self) -> list[str]:
        """What has to be said before it can be a prior; nothing for what is none by itself."""
        if self.kind in ALONE:
            return []
        return self.family.unstated(self.config, self.meaning)

    def model(self, network: nn.Module | None = None) -> Any:
        """The model; without a network one that can be asked about itself and not called.

        Raises ConfigError where something is not said, with the options that say it.
        """
        missing = self.missing()
        if missing:
            options = "; ".join(OPTIONS.get(m, m) for m in missing)
            raise ConfigError(
                f"prior '{self.name}': the weights do not tell {', '.join(missing)}, and nothing is guessed: say it "
                f"with `restore models state {self.name}.safetensors` and {options}"
            )
        made = self.family.model(network or nn.Identity(), self.config, self.meaning, self.name)
        if self.kind == "denoiser":
            made.local = self.family.local
        return made


def converted_from(card: Card) -> Converted:
    """What a card says. Raises KeyError, TypeError, ValueError, ConfigError for impossible ones."""
    family = family_of(str(card["architecture"]))
    meaning = meaning_from(card.get("meaning", {}))
    sizes = {str(k): tuple(map(int, v)) for k, v in card.get("context", {}).items()}
    if sizes:
        shapes = {k: torch.empty(v, device="meta") for k, v in sizes.items()}
        meaning = dataclasses.replace(meaning, context=shapes)
    return Converted(family, family.config(card["settings"]), meaning, str(card["name"]))
