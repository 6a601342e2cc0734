"""Training state in one safetensors file: network, its average, optimiser and counters. No pickle.

Used by the training loops. Tensors are stored under `net.`, `ema.` and `opt.<index>.`; numbers as metadata.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from restore.datasets.atomic import atomic_file
from restore.errors import WeightsError


def save_state(
    path: Path,
    network: nn.Module,
    ema: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    record: dict,
) -> None:
    """Write everything that is needed to go on, atomically."""
    tensors = {f"net.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"ema.{k}": v for k, v in ema.items()}
    for index, p in enumerate(_parameters(optimiser)):
        tensors |= {f"opt.{index}.{k}": v for k, v in optimiser.state[p].items()}
    with atomic_file(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary,
                  metadata={"record": json.dumps(record)})  # fmt: skip


def load_state(
    path: Path, network: nn.Module, ema: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> dict:
    """Fill network, average and optimiser from a file of `save_state`; returns its record. Raises WeightsError."""
    try:
        with safe_open(path, framework="pt") as f:
            tensors = {k: f.get_tensor(k) for k in f.keys()}
            record = json.loads((f.metadata() or {})["record"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a training state ({error}); delete it to start anew"
        ) from error
    expected = {f"net.{k}": v.shape for k, v in network.state_dict().items()}
    expected |= {f"ema.{k}": v.shape for k, v in ema.items()}
    if expected != {k: v.shape for k, v in tensors.items() if k.startswith(("net.", "ema."))}:
        raise WeightsError(
            f"{path}: belongs to another network shape; delete it or give the same options"
        )
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
    return record


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [p for group in optimiser.param_groups for p in group["params"]]
