"""Which device to compute on. Never a silent fall-back: only `auto` may choose the CPU."""

from __future__ import annotations

import torch

from restore.errors import ConfigError, DeviceError


def choose_device(name: str = "auto") -> torch.device:
    """`auto`, `cpu`, `cuda` or `cuda:1` as a torch device. Raises ConfigError or DeviceError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"unknown device '{name}'; use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (
        not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()
    ):
        raise DeviceError(
            f"device '{name}' was asked for, but torch {torch.__version__} sees {torch.cuda.device_count()} CUDA "
            "devices; use --device cpu, or install a CUDA build of torch"
        )
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"device '{name}' is not supported; use auto, cpu or cuda")
    return device
