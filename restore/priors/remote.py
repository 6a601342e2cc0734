"""Priors that are fetched by name: weights and card from a table's address, once, into the cache.

Used by `restore.priors.store`, which takes them for files from then on.
"""

from __future__ import annotations

import logging
from pathlib import Path

from restore.datasets.fetch_table import Entry
from restore.datasets.fetching import fetch, folder_of
from restore.errors import InputError

_logger = logging.getLogger(__name__)


def fetched(entry: Entry) -> Path:
    """The weight file of a prior, its card beside it; fetched on first use.

    Raises InputError for an entry that is no prior, and what fetching raises.
    """
    names = {Path(f.name).suffix: f.name for f in entry.files}
    weights = names.get(".safetensors", "")
    if len(entry.files) != 2 or names.get(".json") != Path(weights).with_suffix(".json").name:
        raise InputError(
            entry.table,
            f"priors: {entry.name}: a prior is two files, X.safetensors and its card X.json",
        )
    if not (folder_of(entry) / weights).is_file():
        _logger.warning("fetching the prior %s (%s)", entry.name, entry.licence)
    fetch(entry)
    return folder_of(entry) / weights
