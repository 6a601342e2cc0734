"""What every forward operator promises, linear or not: shapes, checks, precision, derivatives, and what it is.

May be imported by any layer; imports only torch, scalings and the package's errors. `restore.operators.base` adds what
linear operators have beyond this, and hands on the names of this file.
"""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from restore.errors import ConfigError, ShapeError
from restore.scaling import Scaling

KINDS = ("mri", "ct", "image")
"""What an operator can be a model of; "image" is a photograph, and whatever has no home elsewhere."""

TASKS = ("denoise", "inpaint", "deblur", "superres", "declip", "counts", "")
"""What restoration an operator can pose; "" where it is none of these."""

ABILITIES = {
    "linear": "has adjoint, normal and norm: a LinearOperator",
    "svd": "svd(like) gives A = U S V^H, exactly",
    "identity": "A x = x: the measurement is the image and noise",
    "selects": "every sample of the measurement is a pixel, as it is, or missing and zero",
    "interpolates": "interpolate(y) enlarges a small measurement to the image's size",
    "backprojects": "backproject(y, filter) is filtered backprojection",
    "subsets": "subset(which) is the operator of some views, which lead a measurement's own dimensions",
    "periodic": "x goes on at its opposite border, and so does y: what leaves on one side comes in on the other",
    "convolves": "A^H A answers a point by nearly the same wherever it lies, and costs more than FFTs of the image",
}
"""What a sampler can demand of an operator, word by word, and what the word promises."""

Kept = TypeVar("Kept")
_NUMBERS = (torch.float32, torch.float64, torch.complex64, torch.complex128)
_INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_HALVES = (torch.float16, torch.bfloat16, torch.complex32)
_TAKEN = frozenset(_NUMBERS + _HALVES + _INTEGERS)


@dataclasses.dataclass(frozen=True, eq=False)
class Operator(ABC):
    """A differentiable map x -> A(x) between tensors, immutable and free of noise, solvers and configuration.

    Abstract: a subclass is a frozen dataclass (`eq=False, repr=False`) of `LinearOperator` or `NonlinearOperator`. It
    gives `in_shape` and `out_shape`, without batch dimensions (or takes them from `SameShape`), and writes `_apply`,
    which receives (*batch, *in_shape) with any number of leading batch dimensions and must not change it.
    It computes in float32, float64, complex64 and complex128: images below the operator's own precision (half
    precision, integers) are raised to it, and real ones become complex where `is_complex`.
    `restore.operators.check` tries all of this on an instance.

    `kind` (one of KINDS), `task` (one of TASKS) and `abilities` (words of ABILITIES) tell samplers, presets and trained
    priors what the operator is, `strength` how strong; `unit_scale` and `picture` how its measurement looks to a prior.
    """

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return "image"

    @property
    def task(self) -> str:
        """One of TASKS."""
        return ""

    @property
    def strength(self) -> Mapping[str, float | str]:
        """How strong its task is, in words and numbers: what a prior that was trained for one strength compares.

        Empty where there is nothing to say, or nobody has said it.
        """
        return {}

    @property
    @abstractmethod
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one image, without batch dimensions."""

    @property
    @abstractmethod
    def out_shape(self) -> tuple[int, ...]:
        """Shape of one measurement, without batch dimensions."""

    @abstractmethod
    def _apply(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _pinv(self, y: Tensor) -> Tensor: ...

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """A(x). x: (*batch, *in_shape) -> (*batch, *out_shape). Raises ShapeError, ConfigError."""

    @abstractmethod
    def vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """J(x)^H v, the gradient of Re<v, A(x)> at x: (*batch, *out_shape) -> (*batch, *in_shape).

        For a linear operator the adjoint of v, whatever x is. Raises ShapeError, ConfigError.
        """

    @torch.no_grad()
    def pinv(self, y: Tensor) -> Tensor:
        """A stable approximate inverse of y (zero-filled/SENSE image, FBP, least squares), for starting points.

        (*batch, *out_shape) -> (*batch, *in_shape); not differentiable. Raises ShapeError, ConfigError.
        """
        return self._pinv(self.project(y))

    @property
    def abilities(self) -> frozenset[str]:
        """Words of ABILITIES that hold for this operator; cheap to ask."""
        return frozenset()

    @property
    def slice_ndim(self) -> int:
        """Leading dimensions of `in_shape` that do not mix, such as slices; they lead `out_shape` too."""
        return 0

    @property
    def item_ndim(self) -> int:
        """Trailing dimensions of an image that belong together (one slice, one photograph)."""
        return len(self.in_shape) - self.slice_ndim

    @property
    def sums_components(self) -> bool:
        """Whether the first dimension of an item counts images that are summed in the measurement: no slices."""
        return False

    def shown(self, x: Tensor) -> Tensor:
        """What is looked at of an image (*batch, *in_shape): x itself, unless it has components."""
        return x

    @property
    def measured_ndim(self) -> int:
        """Trailing dimensions of a measurement that belong to one item."""
        k = self.slice_ndim
        return len(self.out_shape) - (k if self.in_shape[:k] == self.out_shape[:k] else 0)

    @property
    def is_complex(self) -> bool:
        """Whether images are complex (MRI) or real."""
        return False

    def unit_scale(self, y: Tensor) -> Scaling:
        """The intensity scale of the image behind y that suits a prior for 0..1: a factor, see `Scaling`.

        By default the 0.999 quantile of the classical image of a complex operator, and one of a real operator.
        Raises ConfigError for a measurement of zeros.
        """
        return Scaling.quantile(self.pinv(y)) if self.is_complex else Scaling()

    def picture(self, y: Tensor) -> Tensor:
        """The measurement as a picture of the image's shape, which conditional models were trained on.

        By default y itself where it has the image's shape and is real (blurred, noisy, with zeros where pixels are
        missing), anything else by its classical image. (*batch, *out_shape) -> (*batch, *in_shape).
        """
        shaped = self.in_shape == self.out_shape and not y.is_complex()
        return self._measured(y) if shaped else self.pinv(y)

    def project(self, y: Tensor) -> Tensor:
        """y with zeros where nothing is measured: missing pixels, k-space that was not sampled. By default y itself.

        (*batch, *out_shape) -> the same. Projecting twice changes nothing, and A x is left as it is;
        what is not measured may be NaN.
        """
        return self._measured(y)

    def interpolate(self, y: Tensor) -> Tensor:
        """The measurement enlarged to the image's size, with the ability "interpolates". Raises ConfigError."""
        raise self._cannot("interpolates")

    def backproject(self, y: Tensor, filter: str = "ramp") -> Tensor:
        """Filtered backprojection of y, with the ability "backprojects". Raises ConfigError."""
        raise self._cannot("backprojects")

    def subset(self, which: slice) -> Any:
        """The operator of some of its views, with the ability "subsets". Raises ConfigError."""
        raise self._cannot("subsets")

    @property
    def dtype(self) -> torch.dtype:
        """Real precision: of the first stored tensor, else the highest of the operators inside, else float32."""
        parts = list(self._parts())
        own = [p for p in parts if isinstance(p, Tensor) and p.dtype in _NUMBERS]
        if own:
            return own[0].dtype.to_real()
        inside = [p.dtype for p in parts if isinstance(p, Operator)]
        return functools.reduce(torch.promote_types, inside, torch.float32)

    @property
    def device(self) -> torch.device:
        """Device of the stored tensors (CPU where there are none)."""
        return next((t.device for t in self._tensors()), torch.device("cpu"))

    def to(self, target: torch.device | str | torch.dtype) -> Self:
        """A copy on another device or in another real precision (complex tensors follow). Raises ConfigError."""
        target = self._target(target)
        return dataclasses.replace(
            self,
            **{
                f.name: _moved(getattr(self, f.name), target)
                for f in dataclasses.fields(self)
                if f.init
            },
        )

    def _target(self, target: torch.device | str | torch.dtype) -> torch.device | torch.dtype:
        if isinstance(target, torch.dtype):
            if target not in _NUMBERS:
                raise ConfigError(f"{self}: no precision {target}, expected {_names(_NUMBERS)}")
            return target.to_real()
        device = torch.device(target)
        if device.type == "meta":
            raise ConfigError(f"{self}: on the device 'meta' there is nothing to compute with")
        return device

    def _parts(self) -> Iterator[Tensor | Operator]:
        """Tensors and operators in the fields, one level down, in order."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            for part in value if isinstance(value, tuple | list) else (value,):
                if isinstance(part, Tensor | Operator):
                    yield part

    def _tensors(self) -> list[Tensor]:
        found: list[Tensor] = []
        for part in self._parts():
            found += part._tensors() if isinstance(part, Operator) else [part]
        return found

    @cached_property
    def _number(self) -> torch.dtype:
        return self.dtype.to_complex() if self.is_complex else self.dtype

    @cached_property
    def _place(self) -> torch.device | None:
        """Where the operator's numbers lie, None where it has none."""
        return next((t.device for t in self._tensors() if t.numel()), None)

    def _image(self, x: Tensor) -> Tensor:
        """x, raised to the operator's own kind of number. Raises ShapeError, ConfigError."""
        return raised(self._checked(x, self.in_shape, "input"), self._number)

    def _measured(self, y: Tensor, what: str = "measurement") -> Tensor:
        """y, raised to the operator's own precision. Raises ShapeError, ConfigError."""
        return raised(self._checked(y, self.out_shape, what), self.dtype)

    def _checked(self, x: Tensor, shape: tuple[int, ...], what: str) -> Tensor:
        if not isinstance(x, Tensor):
            raise ConfigError(f"{self}: {what} is a {type(x).__name__}, expected a torch.Tensor")
        if x.ndim < len(shape) or tuple(x.shape[x.ndim - len(shape) :]) != shape:
            wanted = ", ".join(["*batch", *map(str, shape)])
            raise ShapeError(f"{self}: {what} has shape {tuple(x.shape)}, expected ({wanted})")
        if x.dtype not in _TAKEN:
            raise ConfigError(
                f"{self}: {what} has dtype {x.dtype}, expected {_names(_NUMBERS)}; convert it, "
                "for example with .float()"
            )
        if x.is_meta:
            raise ConfigError(f"{self}: {what} is on the device 'meta' and holds no numbers")
        if self._place is not None and self._place != x.device:
            raise ConfigError(
                f"{self}: {what} is on {x.device} and the operator on {self._place}; move one of "
                "them with .to(...)"
            )
        return x

    def _cannot(self, ability: str) -> ConfigError:
        return ConfigError(f"{self} has not the ability '{ability}' ({ABILITIES[ability]})")

    def __getstate__(self) -> dict[str, Any]:
        """The fields alone: copies make their caches anew."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def __repr__(self) -> str:
        sizes = ["x".join(map(str, s)) for s in (self.in_shape, self.out_shape)]
        return f"{type(self).__name__}({sizes[0]} -> {sizes[1]})"


class SameShape:
    """Mixin for operators whose measurement has the image's shape: one field, `shape`, says both.

    Put it before the contract: `class Mine(SameShape, LinearOperator)`.
    """

    shape: tuple[int, ...]

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of an image."""
        return tuple(self.shape)

    @property
    def out_shape(self) -> tuple[int, ...]:
        """The same as `in_shape`."""
        return tuple(self.shape)


def lasting(make: Callable[[Any], Kept]) -> cached_property[Kept]:
    """A cached property whose tensors serve autograd later, whatever mode the first call runs in."""

    @functools.wraps(make)
    def made(operator: Any) -> Kept:
        with torch.inference_mode(False), torch.no_grad():
            return make(operator)

    return cached_property(made)


def as_stored(operator: str, what: str, value: Any) -> Tensor:
    """A tensor as it is, an array or lists of numbers as a tensor of their own. Raises ConfigError for
    anything else."""
    if isinstance(value, Tensor):
        return value
    try:
        return torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{operator}: {what} is a {type(value).__name__} that is no tensor of numbers ({error}); give a tensor or "
            "an array"
        ) from error


def check_stored(operator: str, what: str, tensor: Tensor) -> None:
    """Raise ConfigError for a tensor that an operator cannot keep: one without numbers, or of half precision."""
    if tensor.is_meta:
        raise ConfigError(f"{operator}: {what} is on the device 'meta' and holds no numbers")
    if tensor.dtype in _HALVES:
        raise ConfigError(
            f"{operator}: {what} has dtype {tensor.dtype}, expected {_names(_NUMBERS)}; images may "
            "be of half precision, what an operator keeps may not"
        )


def raised(x: Tensor, number: torch.dtype) -> Tensor:
    """x in a kind of number, or in its own where that is higher."""
    return x if x.dtype == number else x.to(torch.promote_types(x.dtype, number))


def _moved(value: Any, target: torch.device | torch.dtype) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_moved(part, target) for part in value)
    if isinstance(value, Operator):
        return value.to(target)
    if not isinstance(value, Tensor):
        return value
    if isinstance(target, torch.dtype) and value.is_complex():
        return value.to(target.to_complex())
    if isinstance(target, torch.dtype) and not value.is_floating_point():
        return value
    return value.to(target)


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes)
