"""Training state in one safetensors file: network, its average, optimiser and counters. No pickle.

Used by the training loop. Tensors are stored under `net.`, `ema.` and `opt.<index>.`; the record as metadata.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from restore.datasets.json_text import parse_json
from restore.errors import WeightsError
from restore.priors.store import write_tensors
from restore.training.identity import Identity, check_identity


def save_state(
    path: Path,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    record: dict[str, Any],
) -> None:
    """Write everything that is needed to go on, atomically. Raises OutputError."""
    tensors = {f"net.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for index, p in enumerate(_parameters(optimiser)):
        tensors |= {f"opt.{index}.{k}": v for k, v in optimiser.state[p].items()}
    plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
    write_tensors(path, plain, json.dumps(record))


def load_state(
    path: Path,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    identity: Identity,
) -> tuple[int, float]:
    """Fill network, average and optimiser from a file of `save_state`; returns its step and its seconds.

    Raises ConfigError for the state of another training, WeightsError for a damaged or foreign file.
    """
    tensors, record = _read(path)
    check_identity(path, record.get("identity"), identity)
    _check_shapes(path, tensors, network, ema)
    progress = _progress(path, record)
    network.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
    for k in ema:
        ema[k].copy_(tensors[f"ema.{k}"])
    for index, p in enumerate(_parameters(optimiser)):
        prefix = f"opt.{index}."
        state = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        if state:
            # In the layout of the parameter: sums then run in the same order as without the interruption.
            optimiser.state[p] = {
                k: torch.empty_like(p).copy_(v) if v.shape == p.shape else v
                for k, v in state.items()
            }
    return progress


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():  # a pipe would be waited for
        raise WeightsError(f"{path}: not a training state but no file; delete it to start anew")
    try:
        with safe_open(path, framework="pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}
            record = parse_json((f.metadata() or {})["record"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a training state ({error}); delete it to start anew"
        ) from error
    if not isinstance(record, dict):
        raise WeightsError(f"{path}: not a training state; delete it to start anew")
    return tensors, record


def _check_shapes(
    path: Path, tensors: dict[str, Tensor], network: nn.Module, ema: dict[str, Tensor]
) -> None:
    expected = {f"net.{k}": v.shape for k, v in network.state_dict().items()}
    expected |= {f"ema.{k}": v.shape for k, v in ema.items()}
    if expected != {k: v.shape for k, v in tensors.items() if k.startswith(("net.", "ema."))}:
        raise WeightsError(
            f"{path}: belongs to another network shape; delete it or give the same options"
        )


def _progress(path: Path, record: dict[str, Any]) -> tuple[int, float]:
    found = record.get("progress")
    if isinstance(found, dict):
        step, seconds = found.get("step"), found.get("seconds")
        if (
            isinstance(step, int)
            and isinstance(seconds, int | float)
            and step >= 0 <= seconds < float("inf")
        ):
            return step, float(seconds)
    raise WeightsError(f"{path}: its progress is {found!r}; delete it to start anew")


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimiser.param_groups for p in group["params"]]
