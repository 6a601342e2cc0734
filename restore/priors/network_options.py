"""Options of a prior's network, told after its name: `natural@reuse=2`, `medical@tile=448,weights=gaussian`.

Read by `priors.store`, so that wherever a prior is named its options can be: on a command line, in a run file, in a
record, in `restore.solve(prior=...)`. A prior with options counts as other weights: results are not taken for those
of the plain one, and neither are intervals that were calibrated for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, Literal

from restore.config import (
    check_settings,
    from_settings,
    parse_assignments,
    setting,
    shared,
)
from restore.errors import ConfigError
from restore.priors.edm import EDMDenoiser
from restore.priors.encoder_reuse import EncoderReuse
from restore.priors.tiles import Tiling
from restore.priors.unet import UNet

MARK = "@"
_SCALE = "factor of the U-Net's {}"


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """What may be told of a bundled U-Net; the defaults change nothing.

    Raises ConfigError for values out of range, and for skips that are no numbers.
    """

    reuse: int = setting(
        1, "levels that share a pass of the encoder, at most (Faster Diffusion); 1: none", at_least=1, at_most=16
    )  # fmt: skip
    skips: str = setting(
        "1", _SCALE.format("skip connections, the outermost first, 1/0.9; the last holds for deeper ones (ScaleLong)")
    )  # fmt: skip
    backbone: float = setting(
        1.0, _SCALE.format("features from below where they meet a skip connection (FreeU)"), between=(0, 2)
    )  # fmt: skip
    tile: int = shared(Tiling, "side")
    overlap: int = shared(Tiling, "overlap")
    window: Literal["smooth", "uniform", "gaussian"] = shared(Tiling, "window")
    shift: bool = shared(Tiling, "shift")

    def __post_init__(self) -> None:
        check_settings(self)
        self.skip_scales()
        if self.reuse > 1 and self.tiling.shift:
            raise ConfigError(
                "reuse keeps the features of tiles that lie still, and shift moves them; take one"
            )

    @property
    def tiling(self) -> Tiling:
        """How large planes are cut. Raises ConfigError."""
        return Tiling(self.tile, self.overlap, self.window, self.shift)

    def skip_scales(self) -> tuple[float, ...]:
        """The factors of `skips`."""
        try:
            scales = tuple(float(part) for part in self.skips.split("/"))
        except ValueError:
            scales = ()
        if not scales or not all(0 <= s <= 2 for s in scales):
            raise ConfigError(
                f"skips must be numbers in 0..2, such as 0.9 or 1/0.9, got '{self.skips}'"
            )
        return scales

    def text(self) -> str:
        """As they are told, those at their defaults left out."""
        told = [f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        return ",".join(f"{f.name}={getattr(self, f.name)}" for f in told)

    def applied(self, model: Any) -> EDMDenoiser:
        """A model that was loaded for this, changed. Raises ConfigError for one without a bundled U-Net."""
        if not isinstance(model, EDMDenoiser) or not isinstance(model.network, UNet):
            raise ConfigError(_NOT_FOR.format(getattr(model, "name", "this prior"), self.text()))
        config, deep = model.network.config, len(model.network.down)
        scales = self.skip_scales()
        scales = (*scales, *scales[-1:] * deep)[:deep]
        model.network.config = dataclasses.replace(config, skips=scales, backbone=self.backbone)
        if self.reuse > 1:
            model.network = EncoderReuse(model.network, self.reuse, model.sigma_data)
            model.turnable = False  # the features are those of the image as it lay
        model.tiling = self.tiling
        model.name = f"{model.name}{MARK}{self.text()}"
        return model

    def on_card(self, card: dict[str, Any]) -> dict[str, Any]:
        """The card of the prior with these options: name and sha256 of its own. Raises ConfigError, as `applied`."""
        if card.get("architecture") != "unet":
            raise ConfigError(_NOT_FOR.format(card.get("name"), self.text()))
        mark = hashlib.sha256(f"{card['sha256']}{MARK}{self.text()}".encode()).hexdigest()
        return {**card, "name": f"{card['name']}{MARK}{self.text()}", "sha256": mark}


_NOT_FOR = (
    "prior '{}' has no network that the options '{}' are for: they are for denoisers with the bundled U-Net, such as "
    "medical and natural; leave them out"
)


def split_options(name: str | Path) -> tuple[str, NetworkOptions | None]:
    """A prior's name or file, and its options; None where none are told, or all are at their defaults.

    A file whose own name has the mark is itself. Raises ConfigError for unknown options, also after "auto".
    """
    text = str(name)
    bare, mark, told = text.rpartition(MARK)
    if not mark or "=" not in told or Path(text).is_file():
        return text, None
    wrong = [part for part in told.split(",") if "=" not in part]
    if wrong:
        raise ConfigError(
            f"prior '{text}': options are name=value, with commas between, such as natural{MARK}reuse=2,skips=0.9; got "
            f"'{wrong[0]}'"
        )
    options = from_settings(NetworkOptions, parse_assignments(told.split(",")))
    if bare == "auto":
        raise ConfigError(
            f"prior '{text}': options follow a prior's own name; write natural{MARK}{told}, or the name of another"
        )
    return bare, options if options.text() else None
