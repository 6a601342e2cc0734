"""What a file of weights holds, as a tree of entries: tensors that are read when asked for, numbers and texts.

The form that readers (`reading.py`) make and families (`restore.priors.families`) look at. Touches no files itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from restore.errors import InputError

Tree = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file. dtype: as torch names it, such as "float32". read: gives it, on the CPU, as it was stored."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Tensor] = dataclasses.field(repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class Opaque:
    """An object of some class, which is never built. name: of its class. content: what it was made from, as a tree."""

    name: str
    content: Any = None


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A file, or a folder of files, of weights.

    form: in words, such as "torch file (zip)". tree: names to sub-trees, lists, `StoredTensor`, numbers, texts, None
    or `Opaque`. In a folder: the sub-folder's name ("" for the folder itself) to its weights. configs: likewise to the
    JSON objects beside the weights.
    """

    path: Path
    form: str
    tree: Tree
    configs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def entry(self, *names: str) -> Any:
        """What lies under names of names, or None."""
        found: Any = self.tree
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        return found

    def tensors(self, *names: str, prefix: str = "") -> dict[str, StoredTensor]:
        """The tensors directly under an entry whose names begin with `prefix`, by the rest of the name.

        Raises InputError where there is no such entry, naming those that there are.
        """
        found = self.entry(*names) if names else self.tree
        if not isinstance(found, Mapping):
            there = ", ".join(list(self.tree)[:8])
            raise InputError(self.path, f"has no entry '{'.'.join(names)}', but: {there}")
        return {
            k.removeprefix(prefix): v
            for k, v in found.items()
            if isinstance(v, StoredTensor) and k.startswith(prefix)
        }


def leaves(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every leaf of a tree with the names that lead to it; places in lists count as names."""
    if isinstance(tree, Mapping):
        for name, value in tree.items():
            yield from leaves(value, (*path, name))
    elif isinstance(tree, list):
        for k, value in enumerate(tree):
            yield from leaves(value, (*path, str(k)))
    else:
        yield path, tree
