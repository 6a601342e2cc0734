"""Options that several verbs share, so that they are called and explained the same everywhere.

Used by the verbs that run a sampler. Imports only typer.
"""

from __future__ import annotations

from typing import Annotated

import typer

Steps = Annotated[
    int | None, typer.Option(min=1, help="Steps of the sampler; its own default if absent.")
]
Samples = Annotated[
    int, typer.Option(min=1, help="Posterior samples: mean in OUT, deviation in OUT_std.")
]
Preset = Annotated[str, typer.Option(help="Named settings: tuned, or a published set.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any one setting.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace OUT.")]
