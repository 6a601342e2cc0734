"""DRUNet: state dicts of KAIR and DPIR (`UNetRes`) and of deepinv (`DRUNet`), which have the same names.

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
from restore.priors.nets.drunet import DRUNet, DRUNetConfig


class DRUNetFamily(Family):
    """DRUNet."""

    name = "drunet"
    what = "DRUNet denoisers of KAIR, DPIR and deepinv"
    ignored = frozenset(("cls", "pretrained", "device", "pretrained_2d_isotropic"))
    inferred = "channels, widths, blocks, biases, resampling (not: average or maximum)"
    local = True
    asked = "activation (ReLU if not said, as published); range, sigma_range, complex_mode"

    def claims(self, found: Checkpoint) -> bool:
        """Head, body and tail."""
        names = state_dict_in(found, "")
        return names is not None and {"m_head.weight", "m_tail.weight"} <= set(names)

    def weights(self, found: Checkpoint, which: str) -> Weights:
        """The flat dictionary. Raises ConfigError."""
        tensors = state_dict_in(found, which)
        if tensors is None or not {"m_head.weight", "m_tail.weight"} <= set(tensors):
            raise ConfigError(f"{found.path}: holds no DRUNet (m_head, m_down1, m_body, m_tail)")
        return tensors

    def guess(self, weights: Weights) -> dict[str, Any]:
        """All but the activation, and average or maximum where it pools."""
        head, tail = weights["m_head.weight"].shape, weights["m_tail.weight"].shape
        bodies = {m[1] for n in weights if (m := re.match(r"m_body\.(\d+)\.res\.", n))}
        count = max(len(bodies), 1)
        widths = [head[0]]
        downs = {}
        for level in (1, 2, 3):
            for place in (count, count + 1):
                kernel = weights.get(f"m_down{level}.{place}.weight")
                if kernel is not None:
                    widths.append(kernel.shape[0])
                    downs[level] = kernel.shape[2]
        found: dict[str, Any] = {
            "in_channels": head[1] - 1, "out_channels": tail[0], "nc": widths, "nb": count,
            "bias": "m_head.bias" in weights, "upsample_mode": _upsampling(weights),
        }  # fmt: skip
        if set(downs.values()) == {2}:
            found["downsample_mode"] = "strideconv"
        return found

    def config(self, record: Record) -> DRUNetConfig:
        """In KAIR's form (in_nc counts the noise map) or deepinv's. Raises ConfigError."""
        values = dict(record)
        if "in_nc" in values:
            given = values.pop("in_nc")
            if type(given) is not int:
                raise ConfigError(f"argument 'in_nc' is {given!r}, expected int")
            values["in_channels"] = given - 1
        if "out_nc" in values:
            values["out_channels"] = values.pop("out_nc")
        if str(values.pop("dim", 2)).lower() not in ("2", "2d"):
            raise ConfigError("dim is not 2: only networks of pictures are known")
        return arguments(DRUNetConfig, values, self.ignored)

    def network(self, config: DRUNetConfig) -> nn.Module:
        """The U-Net."""
        return DRUNet(config)

    def kind(self, config: DRUNetConfig) -> str:
        """A denoiser."""
        return "denoiser"

    def unstated(self, config: DRUNetConfig, meaning: Meaning) -> list[str]:
        """Range of intensities and of noise; what becomes of complex images where there are one or two channels."""
        return noise_unstated(config.in_channels, meaning)

    def model(
        self, network: nn.Module, config: DRUNetConfig, meaning: Meaning, name: str
    ) -> Denoiser:
        """D(x, sigma)."""
        return noise_mapped_denoiser(network, config.in_channels, meaning, name)

    def replay(
        self, network: nn.Module, config: DRUNetConfig, arrays: Mapping[str, Tensor], source: str
    ) -> Iterator[Case]:
        """Outputs of `x` and `sigma`."""
        return noise_replay(network, arrays)


def _upsampling(weights: Weights) -> str:
    """How the decoder doubles the size, by where its kernel stands and how large it is."""
    first = weights.get("m_up3.0.weight")
    if first is None:
        return "upconv"
    return "convtranspose" if first.shape[2] == 2 else "pixelshuffle"


FAMILY = DRUNetFamily()
