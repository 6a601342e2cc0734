"""Precision of networks: what words stand for, by devices that are faked."""

from __future__ import annotations

import pytest
import torch

from restore import precision
from restore.errors import ConfigError

BF16, HALF, SINGLE = torch.bfloat16, torch.float16, torch.float32


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch):
    """A processor with these instructions alone, and no limit on oneDNN unless given."""

    def made(*has: str, limit: str = "") -> None:
        monkeypatch.setattr(
            torch.cpu, "get_capabilities", lambda: dict.fromkeys(has, True), raising=False
        )
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        monkeypatch.delenv("DNNL_MAX_CPU_ISA", raising=False)
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)

    return made


@pytest.mark.parametrize(
    ("has", "limit", "fast"),
    [
        (("avx2",), "", False),
        (("avx512_f", "avx512_bf16"), "", True),
        (("avx512_f", "amx_tile"), "", False),
        (("avx512_f", "amx_tile", "amx_bf16"), "", True),
        (("avx512_bf16",), "AVX512_CORE", False),
        (("avx512_bf16",), "avx512_core_bf16", True),
        (("avx512_bf16",), "ALL", True),
        (("bf16", "sve"), "", False),  # ARM
    ],
)
def test_bfloat16_is_fast_where_the_processor_multiplies_it(processor, has, limit, fast):
    processor(*has, limit=limit)
    assert precision.has_fast_bfloat16() is fast
    assert precision.resolve("auto", "cpu") is (BF16 if fast else SINGLE)
    assert precision.is_emulated(BF16, "cpu") is not fast
    assert precision.is_emulated(HALF, "cpu")
    assert not precision.is_emulated(SINGLE, "cpu")


def test_a_torch_that_cannot_tell_computes_in_single_precision(processor, monkeypatch):
    processor()
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert precision.resolve("auto", "cpu") is SINGLE


@pytest.mark.parametrize(
    ("capability", "chosen"),
    [((6, 1), SINGLE), ((7, 0), HALF), ((7, 5), HALF), ((8, 0), BF16), ((9, 0), BF16)],
)
def test_cuda_by_generation(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.resolve("auto", "cuda:1") is chosen
    assert precision.is_emulated(BF16, "cuda") is (capability[0] < 8)
    assert precision.is_emulated(HALF, "cuda") is (capability[0] < 7)


@pytest.mark.parametrize("word", ["float32", "bfloat16", "float16"])
def test_a_word_is_what_it_says_and_is_said_again(word):
    dtype = precision.resolve(word, "cpu")
    assert precision.word_of(dtype) == word


@pytest.mark.parametrize("word", ["bf16", "double", "Float32", ""])
def test_other_words_are_refused(word):
    with pytest.raises(ConfigError, match="use auto, float32, bfloat16, float16"):
        precision.resolve(word, "cpu")


@pytest.mark.parametrize("dtype", [SINGLE, BF16])
def test_autocast_computes_products_in_the_precision(dtype):
    layer = torch.nn.Linear(2, 2)
    with precision.autocast(dtype, "cpu"):
        assert layer(torch.ones(1, 2)).dtype is dtype
