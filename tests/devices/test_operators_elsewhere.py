"""Every operator on a device that is not the CPU: a new file is found by itself. The second device, not the first."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
import torch
from fake_device import FakeCuda
from torch import Tensor

import restore.operators
from restore.operators.base import Compose, LinearOperator
from restore.operators.ct.beams import ConeBeam, FanBeam
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.ct.x_ray_transform import XRayTransform
from restore.operators.diagonal import Identity
from restore.operators.interop.foreign import Foreign
from restore.operators.mri.noncartesian import NonCartesianMRI
from restore.operators.nonlinear import NonlinearOperator
from restore.operators.volume.placement import Placement
from restore.solvers.proximal import DataTerm, data_step

THERE = "cuda:1"
EXACT = {"rtol": 1e-12, "atol": 1e-12}
"""The same float64 operations in the same order: nothing but the order of a few sums may differ."""


def _found(contract: type) -> list[type]:
    classes: dict[type, None] = {}
    for info in pkgutil.walk_packages(restore.operators.__path__, "restore.operators."):
        for cls in vars(importlib.import_module(info.name)).values():
            if inspect.isclass(cls) and issubclass(cls, contract) and not inspect.isabstract(cls):
                classes[cls] = None
    return [c for c in classes if hasattr(c, "example")]


LINEAR, NONLINEAR = _found(LinearOperator), _found(NonlinearOperator)


def drawn(op: LinearOperator | NonlinearOperator, shape: tuple[int, ...], seed: int) -> Tensor:
    kind = torch.complex128 if op.is_complex else torch.float64
    g = torch.Generator().manual_seed(seed)
    return torch.rand((2, *shape), generator=g, dtype=kind)


def alike(there: Tensor, here: Tensor) -> None:
    assert isinstance(there, FakeCuda)
    assert str(there.device) == THERE
    torch.testing.assert_close(there.cpu(), here, **EXACT)


@pytest.mark.parametrize("cls", LINEAR, ids=lambda cls: cls.__name__)
def test_linear_operators(cls):
    here = cls.example(torch.Generator().manual_seed(3)).to(torch.float64)
    there = here.to(THERE)
    x, y = drawn(here, here.in_shape, 1), drawn(here, here.out_shape, 2)
    for name, value in (("__call__", x), ("adjoint", y), ("normal", x), ("pinv", y)):
        alike(getattr(there, name)(value.to(THERE)), getattr(here, name)(value))
    assert there.norm() == pytest.approx(here.norm(), rel=1e-9)
    if cls in (Foreign, NonCartesianMRI, Placement):
        return  # backward leaves torch or names a device, where the fake mode does not reach
    leaf = x.to(THERE).requires_grad_()
    (gradient,) = torch.autograd.grad(there(leaf), leaf, y.to(THERE))
    alike(gradient, here.adjoint(y))


@pytest.mark.parametrize("cls", NONLINEAR, ids=lambda cls: cls.__name__)
def test_nonlinear_operators(cls):
    here = cls.example(torch.Generator().manual_seed(3)).to(torch.float64)
    there = here.to(THERE)
    x, v = drawn(here, here.in_shape, 1), drawn(here, here.out_shape, 2)
    alike(there(x.to(THERE)), here(x))
    alike(there.vjp(x.to(THERE), v.to(THERE)), here.vjp(x, v))
    alike(there.pinv(v.to(THERE)), here.pinv(v))


FAN = FanBeam(equispaced(6, 360), 12, 1.2, 30.0, 50.0)
HELIX = ConeBeam(equispaced(14, 700), (6, 10), (1.5, 1.2), 30.0, 50.0, pitch_mm=2.0)
SCANS = {
    "stored fan": XRayTransform(FAN, VoxelGrid((7, 8)), method="sparse"),
    "stored parallel beam": ParallelBeamCT(
        ParallelBeam.covering(shape=(7, 8), views=6), method="sparse"
    ),
    "helix": XRayTransform(HELIX, VoxelGrid((3, 7, 8))),
}


@pytest.mark.parametrize("name", SCANS)
def test_scans_by_stored_matrices_and_helices(name):
    here = SCANS[name].to(torch.float64)
    there = here.to(THERE)
    x, y = drawn(here, here.in_shape, 1), drawn(here, here.out_shape, 2)
    for product, value in (("__call__", x), ("adjoint", y), ("backproject", y)):
        alike(getattr(there, product)(value.to(THERE)), getattr(here, product)(value))


def test_a_preconditioned_data_step():
    here = SCANS["helix"].to(torch.float64)
    x, y = drawn(here, here.in_shape, 1), drawn(here, here.out_shape, 2)
    found = data_step(DataTerm(here.to(THERE), y.to(THERE)), x.to(THERE), 0.1, iters=3)
    alike(found.x, data_step(DataTerm(here, y), x, 0.1, iters=3).x)


def test_compositions():
    here = Compose(Identity((4, 4)), Identity((4, 4)))
    x = drawn(here, (4, 4), 1)
    alike((here.H @ here).to(THERE)(x.to(THERE)), x)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Forgetful(LinearOperator):
    """Makes its weights on the CPU whatever it is given: what these tests are there to find."""

    n: int = 4

    @property
    def in_shape(self) -> tuple[int, ...]:
        return (self.n,)

    @property
    def out_shape(self) -> tuple[int, ...]:
        return (self.n,)

    def _apply(self, x: Tensor) -> Tensor:
        return x * torch.arange(self.n, dtype=x.dtype)

    _adjoint = _apply


def test_an_operator_that_forgets_the_device_is_caught():
    x = torch.ones(4)
    Forgetful()(x)
    with pytest.raises(RuntimeError, match="same device, but found cpu, cuda:1"):
        Forgetful().to(THERE)(x.to(THERE))
