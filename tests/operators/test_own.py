"""Own operators at the door of `restore.solve`: what would spoil every result is refused with what was seen."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.base import LinearOperator
from restore.operators.diagonal import Identity
from restore.operators.nonlinear import NonlinearOperator
from restore.operators.own import check_own

SHAPE = (1, 6, 7)
MASK = torch.ones(6, 7)
MASK[2:4, 1:3] = 0


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Own(LinearOperator):
    mask: Tensor = dataclasses.field(default_factory=lambda: MASK)

    @property
    def in_shape(self) -> tuple[int, ...]:
        return SHAPE

    @property
    def out_shape(self) -> tuple[int, ...]:
        return SHAPE

    def _apply(self, x: Tensor) -> Tensor:
        return x * self.mask

    def _adjoint(self, y: Tensor) -> Tensor:
        return y * self.mask


FAULTS = {
    "half the adjoint": ({"_adjoint": lambda s, y: y * s.mask / 2}, "its adjoint is not that of A"),
    "a shift, twice the same way": (
        {"_apply": lambda s, x: x.roll(1, -1), "_adjoint": lambda s, y: y.roll(1, -1)},
        "its adjoint is not that of A",
    ),
    "in place": ({"_apply": lambda s, x: x.mul_(s.mask)}, "changes x"),
    "adjoint in place": ({"_adjoint": lambda s, y: y.mul_(s.mask)}, "changes y"),
    "cut": ({"_apply": lambda s, x: (x * s.mask)[..., 1:]}, r"A\(x\) has shape \(1, 6, 6\)"),
    "other adjoint": ({"_adjoint": lambda s, y: y[..., 1:]}, r"A\^H y has shape \(1, 6, 6\)"),
    "double": ({"_apply": lambda s, x: x.double() * s.mask}, "float64 for x of float32"),
    "square": ({"_apply": lambda s, x: x**2}, "not linear"),
    "offset": ({"_apply": lambda s, x: x * s.mask + 0.1}, "not linear"),
    "not finite": ({"_apply": lambda s, x: x / 0}, "not finite"),
    "numpy": ({"_apply": lambda s, x: x.numpy()}, "ndarray"),
    "fails": ({"_apply": lambda s, x: x @ x}, "failed on random images: RuntimeError"),
    "complex": (
        {"_apply": lambda s, x: torch.fft.fft2(x), "_adjoint": lambda s, y: torch.fft.ifft2(y)},
        "images are float32",
    ),
}


def broken(name: str) -> LinearOperator:
    return type("Broken", (Own,), FAULTS[name][0])()


@pytest.mark.parametrize("name", FAULTS)
def test_what_breaks_the_contract_is_refused(name: str):
    with pytest.raises(ConfigError, match=f"operator Broken.*{FAULTS[name][1]}"):
        solve(torch.rand(SHAPE), broken(name), noise=0.1, prior="medical", n_steps=1)


def test_random_work_and_parts_of_others_are_seen():
    spent = torch.Generator().manual_seed(0)

    def noisy(self: Own, x: Tensor) -> Tensor:
        return x + 0.01 * torch.randn(x.shape, generator=spent)

    with pytest.raises(ConfigError, match="another result the second time"):
        check_own(type("Noisy", (Own,), {"_apply": noisy})())
    with pytest.raises(ConfigError, match="its adjoint is not that of A"):
        check_own(broken("half the adjoint") @ Identity(SHAPE))


def test_sound_ones_pass():
    check_own(Own())
    check_own(Own() @ Identity(SHAPE))
    check_own(type("Float", (Own,), {"_apply": lambda s, x: (x.double() * s.mask).to(x.dtype)})())

    class Saturated(NonlinearOperator):
        in_shape = out_shape = SHAPE

        def _apply(self, x: Tensor) -> Tensor:
            return x.clamp(max=0.5)

    check_own(Saturated())


CUT = {
    "numpy": (
        lambda x: torch.from_numpy(np.square(x.detach().numpy())),
        "no gradient goes through",
    ),
    "detach": (lambda x: x.detach() ** 2, "a change of 0 where"),
    "round": (lambda x: (50 * x).round() / 50, "a change of 0 where"),
    "part": (lambda x: (x + 3 * x.detach()) ** 2 / 16, "a change of 0.25 where"),
}


@pytest.mark.parametrize("name", CUT)
def test_operators_that_gradients_do_not_pass_are_refused(name: str):
    """They were followed to wherever the prior alone leads, or ended in an error of torch."""

    class Broken(NonlinearOperator):
        in_shape = out_shape = SHAPE

        def _apply(self, x: Tensor) -> Tensor:
            return CUT[name][0](x)

    with pytest.raises(ConfigError, match=f"operator Broken: .*{CUT[name][1]}"):
        solve(torch.rand(SHAPE), Broken(), noise=0.1, sampler="reddiff", n_steps=1)


@pytest.mark.parametrize("given", [lambda x: x, None, Own, torch.nn.Conv2d(1, 1, 3), MASK])
def test_what_is_no_operator_is_named(given: object):
    with pytest.raises(ConfigError, match="expected an operator"):
        solve(torch.rand(SHAPE), given, noise=0.1)
