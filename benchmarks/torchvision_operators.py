"""Let `import torchvision` succeed beside a torch build without CUDA.

Used only by the environment of `make peers`: deepinv imports torchvision, whose wheels on the
package index are linked against CUDA. Beside a CPU build of torch its compiled operators cannot be
loaded, and the import fails when Python stand-ins for two of them are registered. This file declares
the two names just before torchvision is imported. Nothing that the comparisons call uses them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_NAMES = ("nms", "qnms")
_libraries: list[object] = []  # torch drops a declaration together with its library object


class _DeclareFirst(MetaPathFinder):
    """Finds nothing; declares the operators when torchvision is looked for the first time."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "torchvision":
            sys.meta_path.remove(self)
            _declare_if_missing()
        return None


def install() -> None:
    """Put the finder first. Costs nothing until torchvision is imported."""
    sys.meta_path.insert(0, _DeclareFirst())


def _declare_if_missing() -> None:
    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return
    import torch

    try:
        torch.ops.load_library(Path(spec.origin).parent / "_C.so")
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in _NAMES:
            library.define(name + _SIGNATURE)
        _libraries.append(library)
