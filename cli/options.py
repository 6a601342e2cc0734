"""Options that several verbs share, so that they are called and explained the same everywhere.

Used by the verbs that run a sampler. Imports only typer. A dataclass is a group of options: as the type of a parameter
it stands for all its fields (`cli/config_option.py`).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from restore.pipelines.interval import IntervalOptions

Steps = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Steps of the sampler; its own default if absent."),
]
Samples = Annotated[
    int,
    typer.Option(
        min=1,
        max=100_000,
        help="Posterior samples: mean in OUT, deviation in OUT_std, half-width of the interval in OUT_interval.",
    ),
]
Quality = Annotated[
    str, typer.Option(help="standard, or best: the mean of 4 samples of dds, 4 times the time.")
]
Level = Annotated[
    float,
    typer.Option(
        min=0.01,
        max=0.999,
        help="Of several samples: the share of pixels whose truth OUT_interval is to hold, 0.9 for 90 %.",
    ),
]
Unit = Annotated[
    Literal["pixel", "region"],
    typer.Option(help="Of every pixel, or of means over regions of 8 x 8 pixels."),
]
Calibration = Annotated[
    Path | None,
    typer.Option(help="Table of `restore calibrate`. Default: that for the bundled priors."),
]
Preset = Annotated[
    str,
    typer.Option(help="Named settings: tuned, or its authors' for their networks (published)."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit", metavar="S",
        help="End the sampler after so many seconds with its best estimate so far, and say at which step.",
    ),
]  # fmt: skip
SecondPrior = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="Also look for structured noise (sampler joint): herringbone, zipper (MRI), stripes (CT), haze (pictures) "
        "or a weight file; it goes to OUT_structured.",
    ),
]
Start = Annotated[
    str,
    typer.Option(
        "--start", metavar="drawn|best-of|TABLE|SEED:TILE",
        help="The sampler's noise: drawn by --seed; or one for all images: best-of the bundled table, or of one that "
        "`restore bench starts` made, or fields of TILE pixels from SEED.",
    ),
]  # fmt: skip
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any one setting.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Of the numbers inside networks: float32, bfloat16, float16, or auto, the device's quickest that serves."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the sampler is set and run."""

    steps: Steps = None
    samples: Samples = 1
    quality: Quality = "standard"
    preset: Preset = "tuned"
    settings: Settings = None
    time_limit: TimeLimit = None

    def values(self) -> dict[str, str]:
        """The single settings that were given, --steps last. Raises ConfigError."""
        from restore.config import parse_assignments

        steps = {} if self.steps is None else {"n_steps": str(self.steps)}
        return parse_assignments(self.settings or []) | steps


@dataclasses.dataclass(frozen=True)
class Separating(Sampling):
    """The same, where structured noise can be looked for beside the image."""

    second_prior: SecondPrior = ""

    def values(self) -> dict[str, str]:
        """The single settings that were given, --second-prior last. Raises ConfigError."""
        return super().values() | ({"second_prior": self.second_prior} if self.second_prior else {})

    def named(self, sampler: str) -> str:
        """The sampler's name, which a second prior chooses where nobody does. Raises ConfigError for one that has no
        place for a second prior."""
        if not self.second_prior or sampler == "joint":
            return sampler
        if sampler == "auto":
            return "joint"
        from restore.errors import ConfigError

        raise ConfigError(
            f"--second-prior is for the sampler joint, not for {sampler}; leave one of the two out"
        )


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Which interval several samples get."""

    level: Level = 0.9
    interval: Unit = "pixel"
    calibration: Calibration = None

    def options(self, samples: int) -> IntervalOptions:
        """As the pipelines take them. Raises ConfigError, also where there is one sample alone."""
        from restore.config import from_settings
        from restore.errors import ConfigError
        from restore.pipelines.interval import IntervalOptions

        given = [
            f"--{f.name}" for f in dataclasses.fields(self) if getattr(self, f.name) != f.default
        ]
        if given and samples == 1:
            raise ConfigError(
                f"{', '.join(given)}: an interval needs several samples; add --samples 8, or leave it out"
            )
        told = {"level": self.level, "unit": self.interval, "calibration": self.calibration}
        return from_settings(IntervalOptions, told)
