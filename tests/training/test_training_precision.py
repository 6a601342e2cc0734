"""Which numbers a training computes in: words, and what "auto" is on a device."""

from __future__ import annotations

import pytest
import torch

from restore.errors import ConfigError
from restore.training import precision
from restore.training.precision import chosen, dtype_of


@pytest.mark.parametrize(
    ("quick", "word"),
    [(torch.bfloat16, "bfloat16"), (torch.float32, "float32"), (torch.float16, "float32")],
)
def test_auto_is_bfloat16_where_the_device_is_quick_at_it(monkeypatch, quick, word):
    """Half precision with five bits of exponent would need scaled losses: float32 instead."""
    monkeypatch.setattr(precision, "resolve", lambda word, device: quick)
    assert chosen("auto", "cpu") == word


def test_words():
    assert dtype_of(chosen("float32", "cpu")) == torch.float32
    assert dtype_of(chosen("bfloat16", "cpu")) == torch.bfloat16
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        chosen("bfloat", "cpu")
