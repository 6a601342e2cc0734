"""What a training is made of: images, start, seed and options, so that no state file is continued by another training.

Used by the families of models and the loop. An identity is a flat mapping of names to JSON values; the budget's steps
and minutes are left out, so that a longer one may go on.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from restore.errors import ConfigError

Identity = Mapping[str, Any]

LENGTH = ("steps", "minutes")
"""Fields of a budget that say how long, not what."""


def identity_of(
    data: str, settings: Any, config: Any, start: nn.Module | None = None, **more: Any
) -> dict[str, Any]:
    """The identity of a training.

    data: fingerprint of what the batches are drawn from. settings, config: dataclasses of the training and of the
    network. start: the network that the weights come from.
    """
    options = _flat(dataclasses.asdict(settings)) | _flat(dataclasses.asdict(config)) | _flat(more)
    first = "" if start is None else digest_of_weights(start)
    return {"data": data, "start": first} | {
        k: v for k, v in options.items() if k.rpartition(".")[2] not in LENGTH
    }


def check_identity(path: Path, found: object, wanted: Identity) -> None:
    """Refuse a state of another training, saying in what it differs. Raises ConfigError."""
    advice = "give the same, write to another OUT, or start anew with --restart"
    if not isinstance(found, dict) or "data" not in found:
        raise ConfigError(
            f"{path}: does not say which images and options it was trained with; {advice}"
        )
    names = [n for n in sorted({*found, *wanted}) if found.get(n) != wanted.get(n)]
    if names:
        raise ConfigError(
            f"{path}: an unfinished or finished training of another kind: "
            + "; ".join(_difference(n, found.get(n), wanted.get(n)) for n in names[:4])
            + f"; {advice}"
        )


def digest_of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 over types, shapes and values, in hex."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def digest_of_weights(network: nn.Module) -> str:
    """SHA-256 over the names and values of a network's tensors, in hex."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(digest_of_arrays([_array(tensor)]).encode())
    return digest.hexdigest()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().float().numpy()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as `a.b`, sequences as texts: what a JSON file gives back as it was."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list | tuple):
            found[prefix + name] = ", ".join(map(str, value))
        else:
            found[prefix + name] = value
    return found


def _difference(name: str, found: Any, wanted: Any) -> str:
    if name == "data":
        return "other images, or another --augment or --phase"
    if name == "start":
        return "another prior to start from"
    return f"{name.rpartition('.')[2]} {'unknown' if found is None else found}, now {wanted}"
