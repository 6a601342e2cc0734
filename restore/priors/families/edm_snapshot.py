"""EDM's network snapshots (`network-snapshot-*.pkl`): pickled objects that carry the source text of their classes.

Loading one the official way runs that text. Here the objects are walked as they are described: parameters, buffers and
modules of each, and the arguments that it was made with. Used by `edm.py`; touches no files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint, Opaque, StoredTensor

_PERSISTENT = "_reconstruct_persistent_obj"
_ENTRIES = {"ema": ("ema",), "raw": ("net", "model"), "": ("ema", "net", "model")}


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A network of a snapshot: its state dict, and the arguments of its classes as far as they are plain."""

    tensors: dict[str, StoredTensor]
    settings: dict[str, Any]


def network_in(found: Checkpoint, which: str) -> Snapshot | None:
    """The network of a snapshot or training state; None for other files. Raises ConfigError for an unknown word."""
    if which not in _ENTRIES:
        raise ConfigError(f"weights are 'ema' or 'raw', not '{which}'")
    for name in _ENTRIES[which]:
        state = _state(found.tree.get(name))
        if state is not None:
            return Snapshot(dict(_tensors(state, "")), _settings(state, found.tree[name]))
    return None


def _state(thing: Any) -> Mapping[str, Any] | None:
    """The attributes of a described object, or None for anything else."""
    if not isinstance(thing, Opaque) or not isinstance(thing.content, Mapping):
        return None
    meta = _meta(thing)
    state = meta.get("state") if meta is not None else thing.content.get("state")
    return state if isinstance(state, Mapping) and "_modules" in state else None


def _meta(thing: Opaque) -> Mapping[str, Any] | None:
    """What the official pickle says of an object of a persistent class: class name, source text, state."""
    if not thing.name.endswith(_PERSISTENT):
        return None
    given = thing.content.get("given")
    meta = given[0] if isinstance(given, list) and given else None
    if isinstance(meta, Opaque):
        meta = meta.content
    return meta if isinstance(meta, Mapping) else None


def _tensors(state: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, StoredTensor]]:
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(state.get(kind)):
            if isinstance(value, StoredTensor):
                yield prefix + name, value
    for name, module in _items(state.get("_modules")):
        inner = _state(module)
        if inner is not None:
            yield from _tensors(inner, f"{prefix}{name}.")


def _items(thing: Any) -> list[tuple[str, Any]]:
    if isinstance(thing, Opaque):
        thing = thing.content
    return list(thing.items()) if isinstance(thing, Mapping) else []


def _settings(state: Mapping[str, Any], thing: Opaque) -> dict[str, Any]:
    """The keyword arguments of the preconditioner, which names its class, with the settings of its network."""
    meta = _meta(thing) or {}
    given = {k: v for k, v in _items(state.get("_init_kwargs")) if not isinstance(v, Opaque)}
    kind = meta.get("class_name")
    return given | ({"precond": kind} if isinstance(kind, str) else {})
