"""Open a file or folder of weights that others wrote: safetensors, torch files in both forms, folders of diffusers.

The one door for foreign weights; touches what it is given and starts one limited process for pickled files
(`pickles.py`), which executes nothing of them. Tensors are read by the place in the file that this process names.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from restore.datasets.json_text import read_json
from restore.errors import InputError, NotFoundError
from restore.priors.checkpoints import pickles
from restore.priors.checkpoints.content import Checkpoint, Opaque, StoredTensor

PATIENCE_S = 1200
"""A process that walks a pickle takes a second or two; on a busy machine many times that."""
WEIGHTS = tuple(
    f"diffusion_pytorch_model{variant}.{form}"
    for variant in ("", ".fp16")
    for form in ("safetensors", "bin")
)
"""Names of weights in a folder of diffusers, the better one first."""
CONFIGS = ("config.json", "scheduler_config.json")
_SAFETENSOR_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def read_checkpoint(path: str | Path) -> Checkpoint:
    """What a file or folder holds. Raises NotFoundError, InputError."""
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise NotFoundError(f"{path}: there is no such file or folder")
    form, tree = _file(path)
    beside = path.with_name("config.json")
    named = {"": read_json(beside)} if path.name in WEIGHTS and beside.is_file() else {}
    return Checkpoint(path, form, tree, named)


def _file(path: Path) -> tuple[str, dict[str, Any]]:
    with path.open("rb") as stream:
        head = stream.read(16)
    if len(head) < 10:
        raise InputError(path, f"{len(head)} bytes, too short for weights", "download it again")
    if head.startswith(b"version https://gi"[:16]):
        raise InputError(
            path,
            "a pointer of Git LFS instead of the file",
            "run `git lfs pull` where it came from",
        )
    if head[8:9] == b"{":
        return "safetensors", _safetensors(path)
    return _pickled(path)


def _safetensors(path: Path) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                part = file.get_slice(name)
                dtype = _SAFETENSOR_DTYPES.get(part.get_dtype(), part.get_dtype())
                found[name] = StoredTensor(tuple(part.get_shape()), dtype, _ByName(path, name))
    except (SafetensorError, OSError) as error:
        raise InputError(path, f"damaged safetensors ({error})", "download it again") from error
    return found


class _ByName:
    """Reads one tensor of a safetensors file."""

    def __init__(self, path: Path, name: str) -> None:
        self.path, self.name = path, name

    def __call__(self) -> Tensor:
        try:
            with safe_open(self.path, framework="pt") as file:
                return file.get_tensor(self.name)
        except (SafetensorError, OSError) as error:
            raise InputError(
                self.path, f"damaged safetensors ({error})", "download it again"
            ) from error


class _ByPlace:
    """Reads one tensor from where its storage lies in a file."""

    def __init__(self, path: Path, place: dict[str, Any]) -> None:
        self.path, self.place = path, place

    def __call__(self) -> Tensor:
        p = self.place
        dtype: torch.dtype = getattr(torch, p["dtype"])
        if not all(p["size"]):
            return torch.empty(p["size"], dtype=dtype)
        # Only what lies between the first and the last element: many tensors may share one storage.
        length = 1 + sum((n - 1) * s for n, s in zip(p["size"], p["stride"], strict=True))
        start = p["at"] + p["offset"] * dtype.itemsize
        raw = np.fromfile(self.path, dtype=np.uint8, count=length * dtype.itemsize, offset=start)
        if raw.size < length * dtype.itemsize:
            raise InputError(self.path, "ends too early", "download it again")
        values = torch.from_numpy(raw).view(dtype)
        return values.as_strided(p["size"], p["stride"]).clone(
            memory_format=torch.contiguous_format
        )


def _pickled(path: Path) -> tuple[str, dict[str, Any]]:
    """A pickled file, walked in a process of its own. Raises InputError with what that process said."""
    program = str(Path(pickles.__file__).resolve())
    try:
        done = subprocess.run(  # noqa: S603  (this interpreter, a file of this package, a path as one argument)
            [sys.executable, "-I", program, str(path.resolve())],
            capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        answer = json.loads(done.stdout) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError):
        answer = None
    if answer is None:
        raise InputError(
            path, "could not be walked within the limits of time and memory",
            "weights are kept in files that take a second: ask for a plain state dict or safetensors",
        )  # fmt: skip
    if "refused" in answer:
        raise InputError(
            path, f"is no file of weights that can be read: {answer['refused']}",
            "expected safetensors, a file of torch.save, or a folder of diffusers",
        )  # fmt: skip
    tree = _node(path, answer["tree"])
    return answer["form"], tree if isinstance(tree, dict) else {"": tree}


def _node(path: Path, node: list[Any]) -> Any:
    kind, *content = node
    if kind == "v":
        return content[0]
    if kind == "l":
        return [_node(path, n) for n in content[0]]
    if kind == "d":
        return {k: _node(path, n) for k, n in content[0]}
    if kind == "o":
        return Opaque(content[0], _node(path, content[1]))
    place = content[0]
    return StoredTensor(tuple(place["size"]), place["dtype"], _ByPlace(path, place))


def _folder(path: Path) -> Checkpoint:
    """A folder of diffusers: one model, or a pipeline of several in sub-folders. Raises InputError."""
    tree: dict[str, Any] = {}
    configs: dict[str, Any] = {}
    for part in ["", *sorted(p.name for p in path.iterdir() if p.is_dir())]:
        for name in CONFIGS:
            if (path / part / name).is_file():
                configs[part] = read_json(path / part / name)
        weights = next((path / part / n for n in WEIGHTS if (path / part / n).is_file()), None)
        if weights is not None:
            tree[part] = _file(weights)[1]
        elif any((path / part).glob("diffusion_pytorch_model*.index.json")):
            raise InputError(
                path / part,
                "weights in several files (an index)",
                "save them as one safetensors file",
            )
    if (path / "model_index.json").is_file():
        configs["model_index"] = read_json(path / "model_index.json")
    several = [p for p in tree if p]
    if several and "" not in tree and "model_index" not in configs:
        raise InputError(
            path, f"is no pipeline (no model_index.json), but has folders of models: {', '.join(several)}",
            "name one of them",
        )  # fmt: skip
    if not tree and not configs:
        raise InputError(
            path, "no folder of diffusers (config.json with diffusion_pytorch_model.safetensors, or model_index.json)",
            "name a file of weights or such a folder",
        )  # fmt: skip
    return Checkpoint(path, "folder of diffusers", tree, configs)
