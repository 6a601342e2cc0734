"""What a run was made from and how: `run.json` beside the rows.

Written by the runner at its start, read by the table, the comparison and the report. No patient data: the folder of
the data appears by its name alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import restore
from restore.bench.method import Method
from restore.bench.protocol import Protocol
from restore.datasets.json_text import read_json, write_json
from restore.datasets.sidecar import environment
from restore.errors import ConfigError, InputError, NotFoundError

FORMAT = 1
KINDS: dict[str, type] = {
    "protocol": str, "average_over": str, "headline": list, "settings": list, "environment": dict, "calls": list,
}  # fmt: skip
"""What a record must hold."""
TEXTS = ("headline", "settings")


def record_path(run: Path, part: tuple[int, int] | None = None) -> Path:
    """The record of a run, or of part k of n of it."""
    return run / ("run.json" if part is None else f"run-{part[0]}-of-{part[1]}.json")


def write_record(
    path: Path,
    protocol: Protocol,
    methods: Sequence[Method],
    *,
    samples: int,
    seed: int,
    device: str,
    volumes: Sequence[str],
) -> dict[str, Any]:
    """Write the record of this call; the calls before it stay in "calls".

    Raises ConfigError where the folder holds a run of another protocol, InputError, OutputError.
    """
    old = read_record(path) if path.exists() else None
    if old is not None and old["protocol"] != protocol.name:
        raise ConfigError(
            f"{path.parent}: holds a run of {old['protocol']}, this one is {protocol.name}; choose another -o"
        )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    call = {
        "started": now, "version": restore.__version__, "options": protocol.describe(), "device": device,
        "methods": [_plain(m) for m in methods], "samples": samples, "seed": seed, "volumes": len(volumes),
    }  # fmt: skip
    settings = [*(old["settings"] if old else ()), *(s.name for s in protocol.settings())]
    record: dict[str, Any] = {
        "format": FORMAT, "protocol": protocol.name, "average_over": protocol.average_over,
        "headline": list(protocol.headline), "settings": list(dict.fromkeys(settings)),
        "environment": environment(device), "calls": [*(old["calls"] if old else []), call],
        "intended_use": "research only, not for diagnosis",
    }  # fmt: skip
    write_json(path, record)
    return record


def read_record(path: Path) -> dict[str, Any]:
    """A record. Raises InputError for anything else."""
    record = read_json(path)
    if record.get("format") != FORMAT:
        raise InputError(path, f"is no record of a benchmark of format {FORMAT}")
    for name, kind in KINDS.items():
        if not isinstance(record.get(name), kind):
            raise InputError(path, f"'{name}' is {record.get(name)!r:.60}, no {kind.__name__}")
    if not all(isinstance(word, str) for name in TEXTS for word in record[name]):
        raise InputError(path, f"one of {' and '.join(TEXTS)} is no list of texts")
    return record


def read_records(run: Path) -> list[dict[str, Any]]:
    """The records of a run, of all its parts. Raises NotFoundError, InputError."""
    found = sorted(run.glob("run*.json"))
    if not found:
        raise NotFoundError(f"{run}: holds no run.json; give the folder of a `restore bench` run")
    return [read_record(path) for path in found]


def _plain(method: Method) -> dict[str, Any]:
    record = dataclasses.asdict(method)
    record["prior"] = Path(method.prior).name
    return record
