"""deepinv: a `LinearPhysics` as our operator, and ours as a `LinearPhysics`.

Called by users through `restore.operators.interop`. deepinv is optional and imported on first use; see
benchmarks/README.md for how to install it beside this package.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.extras import load_extra
from restore.operators.base import LinearOperator
from restore.operators.interop.foreign import Foreign, wrapped


def from_deepinv(
    physics: Any,
    in_shape: tuple[int, ...],
    *,
    two_channels: bool | None = None,
    kind: str | None = None,
    allow_unmatched: bool = False,
) -> Foreign:
    """A `deepinv.physics.LinearPhysics` as an operator, without its noise model.

    in_shape: one image as deepinv has it, without the batch: (C, H, W). two_channels: deepinv keeps complex images and
    k-space as two real channels (2, H, W); then our images are complex (H, W) and our measurements complex, without
    that channel. By default so for its MRI classes. kind: by default "mri" for those, else "image"; "ct" would
    say that lengths are mm.
    A copy of the physics is kept, so that later calls with other parameters do not change the operator; `.to` moves a
    copy. Computes in the physics' precision, batches at once, where the physics lies.
    Raises ConfigError (no linear physics, several measurements at once, an adjoint that is none, such as that of
    `Tomography(adjoint_via_backprop=False)`, unless `allow_unmatched`).
    """
    deepinv = load_extra("deepinv", "deepinv", "from_deepinv")
    if not isinstance(physics, deepinv.physics.LinearPhysics):
        raise ConfigError(
            f"from_deepinv: got a {type(physics).__name__}, expected a deepinv.physics.LinearPhysics"
        )
    mri = isinstance(physics, deepinv.utils.mixins.MRIMixin)
    complex_ = mri if two_channels is None else two_channels
    if complex_ and in_shape[:1] != (2,):
        raise ConfigError(
            f"from_deepinv: in_shape is {in_shape}, expected (2, ...): real and imaginary channel"
        )
    products = DeepinvProducts(copy.deepcopy(physics).eval(), complex_)
    before = tuple(in_shape[1:] if complex_ else in_shape)
    after = products.forward(torch.zeros(1, *before, dtype=_number(complex_))).shape[1:]
    found = kind or ("mri" if mri else "image")
    operator = Foreign(
        products, f"deepinv {type(physics).__name__}", before, tuple(after), complex_, found
    )
    return wrapped(operator, allow_unmatched=allow_unmatched)


def to_deepinv(operator: LinearOperator) -> Any:
    """An operator as a `deepinv.physics.LinearPhysics` without noise, on (B, C, ...) tensors.

    Planes (H, W) get one channel, images with channels keep theirs, and complex ones become two real channels on
    either side, as in deepinv's own MRI: (B, 2, H, W) and (B, 2, coils, H, W). Differentiable.
    Raises ConfigError where deepinv is missing.
    """
    return _restored()(operator)


@dataclasses.dataclass(frozen=True, eq=False)
class DeepinvProducts:
    """A and A_adjoint of a physics, with complex numbers as two channels where `is_complex`."""

    physics: Any
    is_complex: bool

    def forward(self, x: Tensor) -> Tensor:
        """(n, *in_shape) -> (n, *out_shape). Raises ConfigError for a physics of several measurements."""
        return self._product(self.physics.A, x)

    def backward(self, y: Tensor) -> Tensor:
        """(n, *out_shape) -> (n, *in_shape)."""
        return self._product(self.physics.A_adjoint, y)

    def to(self, target: torch.device | torch.dtype) -> Self:
        """With a copy of the physics elsewhere or in another precision."""

        def move(
            t: Tensor,
        ) -> Tensor:  # Module.to would cut complex buffers down to their real part
            if isinstance(target, torch.dtype) and t.is_complex():
                return t.to(target.to_complex())
            if isinstance(target, torch.dtype) and not t.is_floating_point():
                return t
            return t.to(target)

        return dataclasses.replace(self, physics=copy.deepcopy(self.physics)._apply(move))

    def _product(self, product: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        given = channels_of(x) if self.is_complex else x
        answer = product(given.to(self._like))
        if not isinstance(answer, Tensor):
            raise ConfigError(
                f"from_deepinv: {type(self.physics).__name__} gives a {type(answer).__name__}, expected one "
                "tensor; wrap its parts, and stack them with restore.operators.Stack"
            )
        answer = answer.detach().to(device=x.device, dtype=x.real.dtype)
        return complex_of(answer) if self.is_complex else answer.clone()

    @property
    def _like(self) -> Tensor:
        """A number of the physics: its first one that has a precision."""
        kept = (*self.physics.buffers(), *self.physics.parameters())
        return next((t for t in kept if t.is_floating_point()), torch.empty(0))


def channels_of(x: Tensor) -> Tensor:
    """Complex (n, ...) as real (n, 2, ...)."""
    return torch.view_as_real(x.resolve_conj()).movedim(-1, 1).contiguous()


def complex_of(x: Tensor) -> Tensor:
    """Real (n, 2, ...) as complex (n, ...)."""
    return torch.complex(x[:, 0].contiguous(), x[:, 1].contiguous())


def _number(is_complex: bool) -> torch.dtype:
    return torch.complex64 if is_complex else torch.float32


@functools.cache
def _restored() -> Any:
    base: Any = load_extra("deepinv.physics", "deepinv", "to_deepinv").LinearPhysics

    class Restored(base):
        """One of our operators."""

        def __init__(self, operator: LinearOperator) -> None:
            super().__init__()
            self.operator = operator

        def A(self, x: Tensor, **parameters: Any) -> Tensor:
            return self._product(
                self.operator, x, self.operator.in_shape, self.operator.out_shape, parameters
            )

        def A_adjoint(self, y: Tensor, **parameters: Any) -> Tensor:
            return self._product(
                self.operator.adjoint,
                y,
                self.operator.out_shape,
                self.operator.in_shape,
                parameters,
            )

        def _product(
            self,
            product: Callable[[Tensor], Tensor],
            x: Tensor,
            before: tuple[int, ...],
            after: tuple[int, ...],
            parameters: dict[str, Any],
        ) -> Tensor:
            if parameters:
                raise ConfigError(
                    f"{self.operator}: an operator of restore has no parameters to change, got {list(parameters)}"
                )
            if self.operator.is_complex:
                return channels_of(product(complex_of(x)))
            # A plane gets a channel, an image with channels has one.
            answer = product(x.reshape(len(x), *before))
            return answer.unsqueeze(1) if len(after) == 2 else answer

    return Restored
