"""Where trainers put a state dict: the wrappings and prefixes that several families have in common."""

from __future__ import annotations

from collections.abc import Mapping

from restore.errors import ConfigError
from restore.priors.checkpoints.content import Checkpoint, StoredTensor

_ENTRIES = {
    "ema": ("ema", "model_ema", "ema_state_dict", "params_ema"),
    "raw": ("net", "model", "state_dict", "model_state_dict", "params"),
}
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""Of DataParallel, torch.compile, and a wrapper's attribute."""


def state_dict_in(found: Checkpoint, which: str) -> dict[str, StoredTensor] | None:
    """The state dict that a file is or has, without its prefixes; None where there is none.

    which: "ema" or "raw" in files that keep both, "" for EMA before raw. Raises ConfigError for other words, and for an
    entry that a file with several does not have.
    """
    if which not in ("", *_ENTRIES):
        raise ConfigError(f"weights are 'ema' or 'raw', not '{which}'")
    tensors = _tensors(found.tree)
    if len(tensors) > 1:
        return without_prefix(tensors)
    wanted = _ENTRIES[which] if which else (*_ENTRIES["ema"], *_ENTRIES["raw"])
    for name in wanted:
        tensors = _tensors(found.tree.get(name))
        if len(tensors) > 1:
            return without_prefix(tensors)
    there = [n for names in _ENTRIES.values() for n in names if _tensors(found.tree.get(n))]
    if which and there:
        raise ConfigError(
            f"{found.path}: has no {which} weights ({', '.join(wanted)}), but {', '.join(there)}"
        )
    return None


def without_prefix(tensors: dict[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Names without what stands before all of them."""
    for prefix in _PREFIXES:
        if tensors and all(n.startswith(prefix) for n in tensors):
            return without_prefix({n.removeprefix(prefix): t for n, t in tensors.items()})
    return tensors


def _tensors(tree: object) -> dict[str, StoredTensor]:
    if not isinstance(tree, Mapping):
        return {}
    return {k: v for k, v in tree.items() if isinstance(v, StoredTensor)}
