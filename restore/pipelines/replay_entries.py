"""What a record must hold so that its run can be repeated: `restore recon --config OUT.json` reads it.

Called by the jobs that write a record, read by `cli/replay.py`. Names of files without their folders, as everywhere in
records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restore.datasets.sidecar import source_record
from restore.priors.network_options import split_options
from restore.priors.store import bundled, read_card


def replayable(
    verb: str,
    files: Mapping[str, Path | Sequence[Path] | None],
    options: Mapping[str, Any],
    prior: str | None,
) -> dict[str, Any]:
    """The entries "run", "sources" and "prior" of a record.

    verb: the words after `restore`. files: by the option that names them, several of one that takes several, None
    for one not given. options: by their
    names, with the whole settings of the sampler under "set"; what is None or empty text is left out. prior: the one
    that was used, by name or file, None for a method without one. Raises NotFoundError, InputError, WeightsError.
    """
    run = {"verb": verb} | {k: v for k, v in options.items() if v is not None and v != ""}
    given = {k: [p] if isinstance(p, Path) else list(p) for k, p in files.items() if p is not None}
    weights = None
    if prior is not None:
        card = read_card(prior)
        weights = {"name": card["name"], "sha256": card["sha256"]}
        bare, _ = split_options(prior)
        if bare in bundled():
            run["prior"] = prior
        else:
            given["prior"] = [
                Path(bare)
            ]  # options have to be told again: the card's sha256 shows them missing
    sources = [source_record(p) | {"Option": k} for k, paths in given.items() for p in paths]
    return {"run": run, "sources": sources, "prior": weights}
