"""Options that several verbs share, so that they are called and explained the same everywhere.

Used by the verbs that run a sampler. Imports only typer. A dataclass is a group of options: as the type of a parameter
it stands for all its fields (`cli/config_option.py`).
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

Steps = Annotated[
    int | None,
    typer.Option(min=1, max=100_000, help="Steps of the sampler; its own default if absent."),
]
Samples = Annotated[
    int,
    typer.Option(min=1, max=100_000, help="Posterior samples: mean in OUT, deviation in OUT_std."),
]
Preset = Annotated[str, typer.Option(help="Named settings: tuned, or a published set.")]
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
    preset: Preset = "tuned"
    settings: Settings = None

    def values(self) -> dict[str, str]:
        """The single settings that were given, --steps last. Raises ConfigError."""
        from restore.config import parse_assignments

        steps = {} if self.steps is None else {"n_steps": str(self.steps)}
        return parse_assignments(self.settings or []) | steps
