"""FFDNet: state dicts of KAIR (`model.0.weight`) and of deepinv (`blocks.0.0.weight`).

Denoisers D(x, sigma) that are told the noise level in units of the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.base import Denoiser
from restore.priors.checkpoints.content import Checkpoint
from restore.priors.families.base import Case, Family, Record, Weights, arguments
from restore.priors.families.meaning import Meaning
from restore.priors.families.noise_mapped import noise_mapped_denoiser, noise_replay, noise_unstated
from restore.priors.families.unwrapping import state_dict_in
from restore.priors.nets.ffdnet import FFDNet, FFDNetConfig

_OF_KAIR = {"in_nc": "channels", "nc": "width", "nb": "convolutions"}
_OF_DEEPINV = {
    "img_channels": "channels", "nf": "width", "n_conv_layers": "convolutions", "last_conv_bias": "last_bias",
    "residual_denoising": "residual",
}  # fmt: skip
_ACTS = {"R": "", "BR": "batch_norm", "IR": "instance_norm"}


class FFDNetFamily(Family):
    """FFDNet."""

    name = "ffdnet"
    what = "FFDNet denoisers of KAIR and deepinv"
    ignored = frozenset(("cls", "out_nc", "orthogonal_init", "pretrained", "device"))
    inferred = "channels, width, number of convolutions, batch normalisation, whose naming"
    local = True
    asked = (
        "instance normalisation and residual form of deepinv's; range, sigma_range, complex_mode"
    )

    def claims(self, found: Checkpoint) -> bool:
        """A row of convolutions, the first of which sees four images of a pixel and a noise map."""
        return _named(found, "") is not None

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The flat dictionary. Raises ConfigError."""
        tensors = _named(found, which)
        if tensors is None:
            raise ConfigError(
                f"{found.path}: holds no FFDNet (model.0.weight ... or blocks.0.0.weight ... of convolutions)"
            )
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """All but instance normalisation without weights, and the residual form."""
        form = "kair" if "model.0.weight" in weights else "deepinv"
        convs = [n for n, t in weights.items() if len(t.shape) == 4]
        last = max(convs, key=_place)
        found: dict[str, Any] = {
            "form": form, "channels": weights[last].shape[0] // 4, "width": weights[last].shape[1],
            "convolutions": len(convs), "last_bias": last.replace("weight", "bias") in weights,
        }  # fmt: skip
        normed = [n for n, t in weights.items() if n.endswith("weight") and len(t.shape) == 1]
        if normed or form == "kair":
            running = any(n.endswith("running_mean") for n in weights)
            found["norm"] = "" if not normed else "batch_norm" if running else "instance_norm"
        return found

    def config(self, record: Record) -> FFDNetConfig:
        """In KAIR's form, deepinv's or that of `nets.ffdnet`. Raises ConfigError."""
        values = dict(record)
        act = values.pop("act_mode", None)
        for names, form in ((_OF_KAIR, "kair"), (_OF_DEEPINV, "deepinv")):
            for theirs in names.keys() & values.keys():
                values[names[theirs]] = values.pop(theirs)
                values.setdefault("form", form)
        if act is not None:
            if act not in _ACTS:
                raise ConfigError(f"act_mode is '{act}'; known: {', '.join(_ACTS)}")
            values["norm"] = _ACTS[act]
        if values.get("norm", "") is None:
            values["norm"] = ""
        return arguments(FFDNetConfig, values, self.ignored)

    def network(self, config: FFDNetConfig) -> nn.Module:
        """The network."""
        return FFDNet(config)

    def kind(self, config: FFDNetConfig) -> str:
        """A denoiser."""
        return "denoiser"

    def unstated(self, config: FFDNetConfig, meaning: Meaning) -> list[str]:
        """Range of intensities and of noise; what becomes of complex images where there are one or two channels."""
        return noise_unstated(config.channels, meaning)

    def model(
        self, network: nn.Module, config: FFDNetConfig, meaning: Meaning, name: str
    ) -> Denoiser:
        """D(x, sigma)."""
        return noise_mapped_denoiser(network, config.channels, meaning, name)

    def replay(
        self, network: nn.Module, config: FFDNetConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Outputs of `x` and `sigma`."""
        return noise_replay(network, arrays)


def _named(found: Checkpoint, which: str) -> Weights | None:
    """The state dict where it is that of a row of convolutions with FFDNet's shapes."""
    tensors = state_dict_in(found, which)
    if tensors is None:
        return None
    if all(n[0].isdigit() for n in tensors):  # KAIR's own prefix looks like a wrapper's
        tensors = {f"model.{n}": t for n, t in tensors.items()}
    if not all(re.match(r"model\.\d+\.|blocks\.\d+\.", n) for n in tensors):
        return None
    convs = sorted((n for n, t in tensors.items() if len(t.shape) == 4), key=_place)
    if len(convs) < 2:
        return None
    seen, out = tensors[convs[0]].shape[1], tensors[convs[-1]].shape[0]
    return tensors if out % 4 == 0 and seen - out in (1, 4) else None


def _place(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in name.split(".") if part.isdigit())


FAMILY = FFDNetFamily()
