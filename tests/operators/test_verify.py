"""`restore.operators.check` finds wrong operators, says what is wrong, and lets sound ones pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators import check
from restore.operators.base import LinearOperator, NonlinearOperator, SameShape
from restore.operators.diagonal import Identity
from restore.operators.laws import LAWS

LOOSE = 1e-4  # what the test's own operator is off by is below this


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Sound(SameShape, LinearOperator):
    """The running sum along the last dimension."""

    shape: tuple[int, ...] = (3, 5)

    def _apply(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.flip(-1).cumsum(-1).flip(-1)


class WrongAdjoint(Sound):
    def _adjoint(self, y: Tensor) -> Tensor:
        return y.cumsum(-1)


class InPlace(Sound):
    def _apply(self, x: Tensor) -> Tensor:
        x[..., 1:] += 0.5 * x[..., :-1].clone()
        return x.clone()


class OwnMemory(Sound):
    """Returns the image itself."""

    def _apply(self, x: Tensor) -> Tensor:
        return x

    def _adjoint(self, y: Tensor) -> Tensor:
        return y


class WrongShape(Sound):
    def _apply(self, x: Tensor) -> Tensor:
        return x.cumsum(-1)[..., :-1]


class WrongPrecision(Sound):
    def _apply(self, x: Tensor) -> Tensor:
        return x.float().cumsum(-1)


class NotLinear(Sound):
    def _apply(self, x: Tensor) -> Tensor:
        return x.cumsum(-1) + 1


class MixesBatch(Sound):
    def _apply(self, x: Tensor) -> Tensor:
        return x.cumsum(-1) * x.abs().amax().sign()

    def _adjoint(self, y: Tensor) -> Tensor:
        return super()._adjoint(y) / y.abs().amax().clamp(min=1)


class MixesSlices(Sound):
    @property
    def slice_ndim(self) -> int:
        return 1

    def _apply(self, x: Tensor) -> Tensor:
        return x.cumsum(-2)

    def _adjoint(self, y: Tensor) -> Tensor:
        return y.flip(-2).cumsum(-2).flip(-2)


class Restless(Sound):
    """Another result every time."""

    calls = [0]  # noqa: RUF012

    def _apply(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        return x.cumsum(-1) * self.calls[0]


class WrongNormal(Sound):
    def _normal(self, x: Tensor) -> Tensor:
        return 2 * super()._normal(x)


class WrongNorm(Sound):
    def norm(self) -> float:
        return 1.0


class WrongWords(Sound):
    kind = "pet"

    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities | {"flies"}


class NoIdentity(Sound):
    @property
    def abilities(self) -> frozenset[str]:
        return super().abilities | {"identity", "selects", "interpolates"}


class Raises(Sound):
    def _adjoint(self, y: Tensor) -> Tensor:
        raise NotImplementedError("later")


class WrongInverse(Sound):
    def _pinv(self, y: Tensor) -> Tensor:
        return 100 * y


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class KeepsSingle(Sound):
    """A matrix that meets images of double precision as it is."""

    matrix: Tensor = dataclasses.field(default_factory=lambda: torch.eye(5))

    def _apply(self, x: Tensor) -> Tensor:
        return x @ self.matrix

    def _adjoint(self, y: Tensor) -> Tensor:
        return y @ self.matrix.mT


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Squares(SameShape, NonlinearOperator):
    shape: tuple[int, ...] = (3, 5)

    def _apply(self, x: Tensor) -> Tensor:
        return x**2

    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return 2 * x * v


class WrongDerivative(Squares):
    def _vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return x * v


FAULTS = [
    (WrongAdjoint, "adjoint", "<A x, y> and <x, A^H y> differ"),
    (InPlace, "pure", "A(x) changes its input"),
    (OwnMemory, "pure", "adjoint returns memory of its input"),
    (WrongShape, "shapes", "A(x) gives (3, 4) for (3, 5), expected (3, 5)"),
    (WrongPrecision, "precision", "A(x) gives torch.float32 in torch.float64"),
    (NotLinear, "linear", "A(a x + z) is not a A(x) + A(z)"),
    (MixesBatch, "batches", "adjoint of a batch differs from its items alone"),
    (MixesSlices, "slices", "a change of the first slice changes the measurement of others"),
    (Restless, "pure", "A(x) gives another result the second time"),
    (WrongNormal, "linear", "normal(x) is not A^H (A x)"),
    (WrongNorm, "norm", "norm is 1, and there are images that become"),
    (WrongWords, "shapes", "kind is 'pet', expected one of mri, ct, image"),
    (WrongWords, "shapes", "abilities holds ['flies']"),
    (NoIdentity, "looks", "has not the ability 'interpolates'"),
    (Raises, "adjoint", "raised NotImplementedError: later"),
    (WrongInverse, "pinv", "is further from y than nothing"),
    (KeepsSingle, "mixed", "multiply with tensor.to(x.dtype)"),
    (WrongDerivative, "derivative", "vjp differs from central differences"),
    (WrongDerivative, "gradients", "the gradient of A(x) is not its vjp"),
]


@pytest.mark.parametrize("operator", [Sound(), Squares(), Identity((4,))])
def test_sound_operators_pass(operator):
    report = check(operator)
    assert report.ok
    assert set(report.laws) == {name for name, law in LAWS.items() if law.concerns(operator)}
    assert f"{type(operator).__name__}(" in str(report)
    assert "FAILED" not in str(report)


@pytest.mark.parametrize(("kind", "law", "words"), FAULTS)
def test_wrong_operators_are_found(kind, law, words):
    report = check(kind(), strict=False)
    assert not report.ok
    found = [sentence for sentence in report.failures if sentence.startswith(f"{law}: ")]
    assert any(words in sentence for sentence in found), report.failures
    assert "FAILED" in str(report)
    with pytest.raises(ConfigError, match=f"{kind.__name__}.* breaks the contract of operators"):
        check(kind())


def test_single_laws_and_a_wider_tolerance():
    assert check(WrongAdjoint(), laws=["linear", "pure"]).ok

    class Rounded(Sound):
        def _apply(self, x: Tensor) -> Tensor:
            return x.float().cumsum(-1).to(x.dtype)

    assert not check(Rounded(), laws=["linear"], strict=False).ok
    assert check(Rounded(), laws=["linear"], tolerance=LOOSE).ok


def test_what_cannot_be_checked_is_named():
    with pytest.raises(ConfigError, match="got a function, expected an instance of LinearOperator"):
        check(lambda x: x)
    with pytest.raises(ConfigError, match="no law 'speed'; there are shapes"):
        check(Sound(), laws=["speed"])
