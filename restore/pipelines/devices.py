"""Which device to compute on. Never a silent fall-back: only `auto` may choose the CPU."""

from __future__ import annotations

import re

import torch

from restore.config import did_you_mean
from restore.errors import ConfigError, DeviceError

_NAMES = ("auto", "cpu", "cuda")


def choose_device(name: str = "auto") -> torch.device:
    """`auto`, `cpu`, `cuda` (the first one) or `cuda:N` as a torch device, which for CUDA has its number.

    The name is read here and not by torch, whose device numbers are bytes: "cuda:256" would be the first device.
    Raises ConfigError for a name that is none of these, DeviceError for a device that is not there.
    """
    found = re.fullmatch(r"(auto|cpu|cuda)(?::(\d{1,9}))?", name)
    if found is None or (found[2] is not None and found[1] != "cuda"):
        kind = name.partition(":")[0]
        hint = did_you_mean(kind.lower(), _NAMES) if kind not in _NAMES else ""
        raise ConfigError(
            f"unknown device '{name}'{hint}; use auto, cpu, cuda, or cuda:N, the devices counted from 0"
        )
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found[1] == "cpu" or (found[1] == "auto" and not count):
        return torch.device("cpu")
    index = int(found[2] or 0)
    if not count:
        raise DeviceError(
            f"device '{name}' was asked for, but torch {torch.__version__} sees no CUDA device; use --device cpu, or "
            "install a CUDA build of torch and its driver"
        )
    if index >= count:
        there = "cuda:0 alone" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"device '{name}' was asked for, but there is {there}; use one of them")
    return torch.device("cuda", index)
