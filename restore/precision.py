"""In which floating-point numbers networks compute: the words people say, and what a device is quick at.

Called by priors, training, pipelines and the command line. State, preconditioning and data steps of a sampler stay in
single precision whatever is chosen here; only what happens inside a network is meant. Touches nothing.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from restore.config import did_you_mean
from restore.errors import ConfigError

Word = Literal["auto", "float32", "bfloat16", "float16"]
WORDS: tuple[Word, ...] = ("auto", "float32", "bfloat16", "float16")
"""What can be asked for. "auto": the quickest of the others on this device that serves."""

_ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables by which oneDNN, which computes torch's convolutions, is held to older instructions."""
_ISA_WITH_BFLOAT16 = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")
"""Parts of the names of those limits that leave the dot product of bfloat16 in."""


def resolve(word: str, device: torch.device | str) -> torch.dtype:
    """What a word of `WORDS` stands for on a device. Raises ConfigError for another word.

    "auto": bfloat16 on processors that multiply it (`has_fast_bfloat16`) and on CUDA devices from Ampere on, float16
    on Volta and Turing, which have tensor cores for that alone; else float32.
    """
    word = checked(word)
    dtypes = {
        "float32": torch.float32,
        "bfloat16": torch.bfloat16,
        "float16": torch.float16,
    }
    if word != "auto":
        return dtypes[word]
    device = torch.device(device)
    if device.type == "cpu":
        return torch.bfloat16 if has_fast_bfloat16() else torch.float32
    if device.type != "cuda" or not torch.cuda.is_available():
        return torch.float32
    generation, _ = torch.cuda.get_device_capability(device)
    if generation >= 8:
        return torch.bfloat16
    return torch.float16 if generation == 7 else torch.float32


def checked(word: str) -> Word:
    """The word, if it is one of `WORDS`. Raises ConfigError."""
    for known in WORDS:
        if word == known:
            return known
    raise ConfigError(
        f"unknown precision {word!r}{did_you_mean(str(word), WORDS)}; use {', '.join(WORDS)}"
    )


def word_of(dtype: torch.dtype) -> str:
    """The word for what was chosen, "float32" for torch.float32: what a record says instead of "auto"."""
    return str(dtype).removeprefix("torch.")


def record_of(asked: str, used: str) -> dict[str, str]:
    """The entry "precision" of a record: what was asked for, what it was, and what an automatic choice means."""
    entry = {"asked": asked, "used": used}
    if asked == "auto":
        entry["remark"] = (
            "chosen for this device; where another one chooses otherwise, a result differs by rounding; --config "
            "with this record computes in the same precision again"
        )
    return entry


def has_fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself (avx512_bf16, or AMX) and oneDNN is not told to leave it.

    Where it does not, bfloat16 is emulated and slower than float32. False under a torch that cannot tell.
    """
    limit = next((os.environ[name].upper() for name in _ISA_LIMITS if os.environ.get(name)), "ALL")
    if not any(part in limit for part in _ISA_WITH_BFLOAT16):
        return False
    has: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return torch.backends.mkldnn.is_available() and bool(
        has.get("avx512_bf16") or (has.get("amx_bf16") and has.get("amx_tile"))
    )


def is_emulated(dtype: torch.dtype, device: torch.device | str) -> bool:
    """Whether a device computes in `dtype` by way of others: right, rounded alike up to the order of sums, but slow."""
    device = torch.device(device)
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_capability(device) < (
            (8, 0) if dtype == torch.bfloat16 else (7, 0)
        )
    return dtype == torch.float16 or not has_fast_bfloat16()


def autocast(dtype: torch.dtype, device: torch.device | str) -> AbstractContextManager[object]:
    """Torch's automatic precision around a network's call: convolutions and products in `dtype`; float32: as it is."""
    if dtype not in (torch.bfloat16, torch.float16):
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype)
