"""One job of a list and what became of it: data alone, so that other processes and other machines can be given them.

Made by `cli/many.py` from what `inputs`, `bids` and `names` found; run by an engine (`runner`, `engines/`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

State = Literal["done", "done before", "failed"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One input of a verb and its result.

    verb: as in `restore recon`. name: the input as lines and records show it, mirrored by the result's name. source:
    file or folder. out: where the result goes, None for verbs that print. options: every parameter of the verb's
    function by name, source and out included, plain values that travel between processes.
    """

    verb: str
    name: str
    source: Path
    out: Path | None
    options: Mapping[str, Any] = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a job.

    state: "done before" where the same result lay there already. exit_code: 0, or that of the error. sentence: what
    the job failed of. seconds: of this run. figures: what a verb that measures found, by name.
    """

    job: Job
    state: State
    seconds: float = 0.0
    exit_code: int = 0
    sentence: str = ""
    figures: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the result lies there."""
        return self.state != "failed"
