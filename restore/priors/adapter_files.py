"""Low-rank factors of a denoiser in a file of their own, with the record of how they were fitted.

Written and read by pipelines for `restore recon --adapt`; nothing is unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from restore.datasets.json_text import parse_json
from restore.errors import WeightsError
from restore.priors.low_rank import Adapter, by_name, from_names
from restore.priors.store import write_tensors

SCHEMA = 1


def save_adapter(path: Path, adapter: Adapter, record: dict[str, Any]) -> str:
    """Write the factors, and the record as the file's metadata; returns the sha256. Raises OutputError."""
    return write_tensors(path, by_name(adapter), json.dumps({"schema": SCHEMA} | record))


def load_adapter(path: Path) -> tuple[Adapter, dict[str, Any]]:
    """Factors and record of a file of `save_adapter`. Raises WeightsError."""
    wrong = f"{path}: not an adapter of `restore recon --adapt fit`"
    try:
        with safe_open(path, framework="pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}
            record = parse_json((f.metadata() or {})["record"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(f"{wrong} ({type(error).__name__}: {error})") from error
    names = {k.rpartition(".")[0] for k in tensors}
    if not (isinstance(record, dict) and record.get("schema") == SCHEMA and names):
        raise WeightsError(wrong)
    if set(tensors) != {f"{n}.{part}" for n in names for part in ("up", "down")}:
        raise WeightsError(f"{wrong}: factors without their partners")
    if not all(
        t.ndim == 2 and t.is_floating_point() and bool(t.isfinite().all()) for t in tensors.values()
    ):
        raise WeightsError(f"{wrong}: factors that are no matrices of finite numbers")
    return from_names(tensors), record
