"""The singular value decomposition of an operator, for samplers that work mode by mode.

May be called by samplers. Touches nothing. The decompositions themselves belong to the operators.
"""

from __future__ import annotations

from torch import Tensor

from restore.errors import ConfigError
from restore.linalg.singular import SVD
from restore.operators.base import LinearOperator
from restore.operators.linear import DENSE_ENTRIES

DECOMPOSED = ("Identity", "Diagonal", "Inpainting", "Blur", "Downsample", "MultiCoilMRI")
"""Operator classes with instances of any size that `decompose` serves."""


def decompose(operator: LinearOperator, like: Tensor) -> SVD:
    """The decomposition of an operator, in the precision and on the device of `like`, see `LinearOperator.svd`.

    Raises ConfigError for operators without one.
    """
    found = operator.svd(like)
    if found is None:
        raise ConfigError(
            f"{operator} has no singular value decomposition here; there is one for {', '.join(DECOMPOSED)} "
            "(Blur: boundary 'circular' or a separable kernel; MultiCoilMRI: one coil of modulus 1) and for any "
            f"operator whose matrix has at most {DENSE_ENTRIES} entries; use dds or diffpir"
        )
    return found
