"""The torch networks inside a model: found, held in eval mode for a run, and copied to another device.

Called by `choosing` and by the models' own `to`. What the caller handed in is never changed for good: a network comes
back in the mode that it had, and on the device that it was on.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from types import CellType, FunctionType, ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from restore.errors import ConfigError

Model = TypeVar("Model")

_DEPTH = (
    6  # attributes of attributes: a denoiser, its wrapper, a list of networks and some to spare
)
_PLAIN = (type, str, bytes, int, float, Tensor, ModuleType)


def networks_in(model: Any) -> list[nn.Module]:
    """The torch modules that a model or any callable calls, each once, parts of others left out.

    Looks at attributes, at lists, tuples and dictionaries of them, at bound methods and partial functions, and at what
    a Python function names: its closure, its defaults and its globals. A network that is hidden deeper is not found.
    """
    found: dict[int, nn.Module] = {}
    _search(model, found, set())
    parts = {id(p) for m in found.values() for p in m.modules() if p is not m}
    return [m for m in found.values() if id(m) not in parts]


@contextmanager
def in_eval_mode(model: Any) -> Iterator[None]:
    """Every network of the model in eval mode (no dropout, stored statistics); afterwards each part as it was."""
    parts = [p for network in networks_in(model) for p in network.modules()]
    training = [p.training for p in parts]
    for part in parts:
        part.training = False
    try:
        yield
    finally:
        for part, mode in zip(parts, training, strict=True):
            part.training = mode


def copied_to(model: Model, target: torch.device | str | torch.dtype) -> Model:
    """The model with its networks on another device or in another precision: a copy, or itself if nothing changes.

    The copy shares no weights with the model, unless they stay as they are. Raises ConfigError for networks that a copy
    does not reach (in the closure of a function) and for those that cannot be copied.
    """
    networks = networks_in(model)
    held = [t for n in networks for t in (*n.parameters(), *n.buffers())]
    memo = {id(t): _moved(t, target) for t in held}
    if all(memo[id(t)] is t for t in held):
        return model
    name = getattr(model, "name", "") or type(model).__name__
    try:
        twin = copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise ConfigError(
            f"prior '{name}' cannot be copied to {target} ({error}); make it for {target} yourself"
        ) from error
    for network in networks_in(twin):
        network.to(target)  # what keeps its tensors to itself, such as a scripted module
    if any(found is own for found in networks_in(twin) for own in networks):
        raise ConfigError(
            f"prior '{name}' is a function around a network that lies elsewhere, which cannot be copied to {target} "
            "from outside; move the network there yourself (network.to(...)), or give the network itself"
        )
    return twin


def _moved(tensor: Tensor, target: torch.device | str | torch.dtype) -> Tensor:
    """The tensor itself where nothing changes; whole numbers keep their type."""
    if isinstance(target, torch.dtype) and not tensor.is_floating_point():
        return tensor
    moved = tensor.detach().to(target)
    if moved.dtype == tensor.dtype and moved.device == tensor.device:
        return tensor
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(moved, requires_grad=tensor.requires_grad)
    return moved


def _search(thing: Any, found: dict[int, nn.Module], seen: set[int], depth: int = 0) -> None:
    if id(thing) in seen or depth > _DEPTH or isinstance(thing, _PLAIN):
        return
    seen.add(id(thing))
    if isinstance(thing, nn.Module):
        found[id(thing)] = thing
        return
    for part in _parts(thing):
        _search(part, found, seen, depth + 1)


def _parts(thing: Any) -> list[Any]:
    if isinstance(thing, dict):
        return list(thing.values())
    if isinstance(thing, list | tuple | set):
        return list(thing)
    if isinstance(thing, functools.partial):
        return [thing.func, *thing.args, *thing.keywords.values()]
    if inspect.ismethod(thing):
        return [thing.__self__, thing.__func__]
    if inspect.isfunction(thing):
        return _named_by(thing)
    return list(getattr(thing, "__dict__", {}).values())


def _named_by(function: FunctionType) -> list[Any]:
    """What a Python function reaches by name; of the globals the networks, and functions of its own module."""
    cells = [c.cell_contents for c in function.__closure__ or () if not _is_empty(c)]
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    names = function.__code__.co_names
    named = [function.__globals__[n] for n in names if n in function.__globals__]
    own = [g for g in named if inspect.isfunction(g) and g.__module__ == function.__module__]
    return [*cells, *defaults, *own, *(g for g in named if isinstance(g, nn.Module))]


def _is_empty(cell: CellType) -> bool:
    """Whether the variable of a closure has no value yet."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False
