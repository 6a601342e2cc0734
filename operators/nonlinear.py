"""The contract of non-linear forward models: a map and its vector-Jacobian product.

May be imported by any layer; imports only torch, scalings, the contract of all operators and the package's errors.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from restore.errors import ShapeError
from restore.operators.contract import Operator
from restore.scaling import Scaling


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class NonlinearOperator(Operator):
    """A map that is not linear: `_apply` is written out of torch operations, `_vjp` may be a closed form.

    Its measurement cannot be rescaled, hence `unit_scale` is one.
    """

    def __call__(self, x: Tensor) -> Tensor:
        """A(x). x: (*batch, *in_shape) -> (*batch, *out_shape). Raises ShapeError, ConfigError."""
        return self._apply(self._image(x))

    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """J(x)^H v, the gradient of Re<v, A(x)> at x. v: (*batch, *out_shape) -> (*batch, *in_shape).

        Raises ShapeError, ConfigError.
        """
        return self._vjp(self._image(x), self._measured(v, "cotangent"))

    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        if x.is_inference():
            with torch.inference_mode(False):  # what autograd keeps must be an ordinary tensor
                return torch.func.vjp(self._apply, x.clone())[1](v.clone())[0]
        return torch.func.vjp(self._apply, x)[1](v)[0]

    def _pinv(self, y: Tensor) -> Tensor:
        if self.in_shape != self.out_shape:
            raise ShapeError(f"{self}: no rough inverse is known; give the sampler a start")
        return y.clone()

    def unit_scale(self, y: Tensor) -> Scaling:
        """One, whatever y is."""
        return Scaling()
