"""Stored inputs and outputs of a published network replayed through its conversion: the proof that they are the same.

The work of `restore models check`. Reads the converted model and an .npz file, writes nothing.
"""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from restore.errors import InputError, NotFoundError, ShapeError, WeightsError, is_out_of_memory
from restore.priors.converted import converted_from, is_converted
from restore.priors.families.base import Case, outputs
from restore.priors.store import load_tensors, read_card

Precision = Literal["float64", "float32"]


@dataclasses.dataclass(frozen=True)
class Compared:
    """One stored output: the largest difference over its largest value (whole numbers: the share that differ)."""

    output: str
    difference: float
    tolerance: float

    @property
    def same(self) -> bool:
        """Whether they agree."""
        return self.difference <= self.tolerance


@dataclasses.dataclass(frozen=True)
class Replayed:
    """All outputs that belong to the model, and the names of those that do not (other files, other readings)."""

    compared: list[Compared]
    others: list[str]


def replay(
    path: Path, io: Path, precision: Precision = "float64", tolerance: float | None = None
) -> Replayed:
    """Compute every stored output that belongs to a converted model.

    precision: in which it is computed; float64 shows the difference of the two programs instead of that of roundings.
    tolerance: instead of the usual one of each output. Raises WeightsError for no converted model, NotFoundError,
    InputError for a file without arrays or without an output of this model.
    """
    arrays = read_arrays(io)
    if not is_converted(read_card(path)):
        raise WeightsError(f"{path}: is no converted model")
    card, tensors = load_tensors(path)
    found = converted_from(card).told(tensors)
    dtype = getattr(torch, precision)
    network = found.network(tensors).to(dtype)
    ready = {k: v.to(dtype) if v.is_floating_point() else v for k, v in arrays.items()}
    source = _source(card, path)
    with torch.inference_mode():
        compared = [
            compare(c, tolerance) for c in found.family.replay(network, found.config, ready, source)
        ]
    stored = outputs(ready)
    if not compared:
        raise InputError(
            io, f"has no output that belongs to '{path.name}' in this reading ({source.partition(':')[0]})",
            f"it has {', '.join(list(stored)[:8]) or 'none: outputs are called out, NAME_f64 or NAME_f32'}",
        )  # fmt: skip
    done = {c.output for c in compared}
    return Replayed(compared, [name for name in stored if name not in done])


def _source(card: dict[str, Any], path: Path) -> str:
    """What a model was converted from, NAME:ema or NAME:raw, as far as its card says so."""
    said = card.get("source")
    record = said if isinstance(said, dict) else {}
    which = "raw" if record.get("weights") == "raw" else "ema"
    return f"{Path(str(record.get('file', path.name))).stem}:{which}"


def compare(case: Case, tolerance: float | None = None) -> Compared:
    """One case computed and compared. Raises ShapeError where the shapes differ."""
    limit = case.tolerance if tolerance is None else tolerance
    reference = case.reference
    try:
        computed = case.compute()
    except (RuntimeError, ValueError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise ShapeError(
            f"{case.output}: the network cannot be run on the stored inputs ({error}); are they those of this network?"
        ) from error
    if computed.shape != reference.shape:
        raise ShapeError(
            f"{case.output}: computed {tuple(computed.shape)}, stored {tuple(reference.shape)}"
        )
    if not reference.is_floating_point():
        share = float((computed.long() != reference.long()).double().mean())
        return Compared(case.output, share, limit)
    computed, reference = computed.double(), reference.double()
    largest = float(reference.abs().max()) if reference.numel() else 0.0
    difference = float((computed - reference).abs().max()) if reference.numel() else 0.0
    if not np.isfinite(difference):
        return Compared(case.output, float("inf"), limit)
    return Compared(case.output, difference / (largest or 1.0), limit)


def read_arrays(path: Path) -> dict[str, Tensor]:
    """The numbers of an .npz file by name, or of an .npy file by that of the file. Raises NotFoundError, InputError."""
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file")
    try:
        if path.suffix == ".npy":
            return {path.stem: torch.from_numpy(np.load(path, allow_pickle=False))}
        with np.load(path, allow_pickle=False) as file:
            found = {name: np.asarray(file[name]) for name in file.files}
    except (ValueError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(path, f"is no .npz file of numbers ({error})") from error
    return {
        k: torch.from_numpy(np.ascontiguousarray(v)).reshape(v.shape)
        for k, v in found.items()
        if v.dtype.kind in "biuf"
    }
