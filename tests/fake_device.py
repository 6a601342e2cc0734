"""CUDA devices that are not there: tensors that compute on the CPU, say that they lie on CUDA, and keep to themselves.

Inside `FakeDevices()` whatever is moved to or made on "cuda:N" becomes a `FakeCuda`: its numbers lie in an ordinary
tensor, its `device` is cuda:N, and an operation that also sees an ordinary tensor of one or more dimensions, or a
tensor of another device, is refused as CUDA refuses it. What CUDA allows is allowed: numbers (tensors without
dimensions), copying from device to device, indices on the CPU. A CPU generator cannot draw for it, and there is no way
to NumPy but `.cpu()`. Code that passes here names no device by itself and forgets no tensor on the CPU; kernels,
precision and speed of a real device are not tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

ACROSS = {torch.ops.aten.copy_.default}
"""Operations between devices."""
INDEXING = {
    torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default,
    torch.ops.aten._unsafe_index.Tensor, torch.ops.aten._index_put_impl_.default,
}  # fmt: skip
"""Operations whose indices, but nothing else of them, may lie on the CPU."""
AT_ONCE = {
    torch.ops.aten._conj.default: torch.ops.aten.conj_physical.default,
    torch.ops.aten._neg_view.default: torch.ops.aten.neg.default,
}
"""Operations that torch puts off by a mark on the tensor, which a dispatch of our own does not see: done at once."""


class FakeCuda(Tensor):
    """An ordinary tensor `near`, seen as one on cuda:`number`."""

    near: Tensor
    number: int

    @staticmethod
    def __new__(cls, near: Tensor, number: int = 0) -> FakeCuda:
        strided = near.layout == torch.strided
        placed = (
            {"strides": near.stride(), "storage_offset": near.storage_offset()} if strided else {}
        )
        # For torch's own code it lies on the CPU, so that autograd looks for no device that is not there.
        fake = Tensor._make_wrapper_subclass(
            cls, near.shape, dtype=near.dtype, layout=near.layout, device="cpu", requires_grad=False, **placed
        )  # fmt: skip
        fake.near, fake.number = near, number
        return fake

    __torch_function__ = torch._C._disabled_torch_function_impl

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.number)

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    def get_device(self) -> int:
        return self.number

    def tolist(self) -> Any:
        return self.near.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError(
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu()"
        )

    __array__ = numpy  # type: ignore[assignment]

    def __repr__(self, **kwargs: Any) -> str:
        return f"FakeCuda({self.near!r}, {self.number})"

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        number = _check_company(func, args, kwargs)
        if func in AT_ONCE:
            return FakeCuda(AT_ONCE[func](args[0].near), number)
        out = func(*tree_map(_near, args), **tree_map(_near, kwargs))
        if func in ACROSS:
            return args[0]
        wrapped = tree_map(lambda v: FakeCuda(v, number) if isinstance(v, Tensor) else v, out)
        return return_and_correct_aliasing(func, args, kwargs, wrapped)


class FakeDevices(TorchFunctionMode):
    """A context in which "cuda", "cuda:0", ... can be computed on."""

    def __enter__(self) -> Any:
        # A network that is moved gets new parameters: the old ones cannot be made to hold what lies elsewhere.
        self.before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        torch.__future__.set_overwrite_module_params_on_conversion(self.before)
        super().__exit__(*error)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return _moved(func, args, kwargs)
        number = _cuda_number(kwargs.get("device"))
        if number is None:
            return func(*args, **kwargs)
        if kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        return _far(func(*args, **kwargs | {"device": "cpu"}), number)


def _moved(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """`x.to(...)`, `x.cpu()` or `x.cuda()`: the device apart from everything else that they change."""
    x, rest, kwargs = args[0], list(args[1:]), dict(kwargs)
    if func is not Tensor.to:
        return _on(x, "cpu" if func is Tensor.cpu else torch.device("cuda", *(rest or [0])))
    copy = kwargs.pop("copy", False)
    if rest and isinstance(rest[0], Tensor):
        rest[:1] = [rest[0].device, rest[0].dtype]
    device, dtype, _, memory_format = torch._C._nn._parse_to(*rest, **kwargs)
    changed = x.to(
        dtype or x.dtype, copy=copy, memory_format=memory_format or torch.preserve_format
    )
    return changed if device is None else _on(changed, device)


def _on(x: Tensor, device: torch.device | str) -> Tensor:
    """x itself where it is there already."""
    here, there = x.number if isinstance(x, FakeCuda) else None, _cuda_number(device)
    if here == there:
        return x
    return _Transfer.apply(x, there) if x.requires_grad else _placed(_near(x), there)


class _Transfer(torch.autograd.Function):
    """A copy to another device that gradients pass back through."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, number: int | None) -> Tensor:
        ctx.back = x.number if isinstance(x, FakeCuda) else None
        return _placed(_near(x), number)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _placed(_near(grad), ctx.back), None


def _placed(near: Tensor, number: int | None) -> Tensor:
    copied = near.detach().resolve_conj().resolve_neg().clone()
    return copied if number is None else FakeCuda(copied, number)


def _far(value: Any, number: int) -> Any:
    return tree_map(lambda v: FakeCuda(v, number) if type(v) is Tensor else v, value)


def _near(value: Any) -> Any:
    return value.near if isinstance(value, FakeCuda) else value


def _cuda_number(device: Any) -> int | None:
    """N of "cuda:N", 0 of "cuda", None of anything else."""
    if device is None:
        return None
    found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    return (found.index or 0) if found.type == "cuda" else None


def _check_company(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The device of an operation. Raises RuntimeError, as torch does, where its tensors lie on several."""
    flat = [*_flat(args, kwargs)]
    numbers = {t.number for t in flat if isinstance(t, FakeCuda)}
    looked_at = args[:1] if func in INDEXING else (args, kwargs)
    stray = [t for t in _flat(looked_at) if type(t) is Tensor and t.ndim]
    if func in INDEXING:  # the values that are put there belong to the device too
        stray += [t for t in args[2:3] if type(t) is Tensor and t.ndim]
    if func not in ACROSS and (stray or len(numbers) > 1):
        found = sorted({f"cuda:{n}" for n in numbers} | {"cpu" for _ in stray})
        shapes = [tuple(t.shape) for t in stray]
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, but found {', '.join(found)} {shapes}"
        )
    if any(isinstance(v, torch.Generator) for v in flat):
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    return next(iter(numbers))


def _flat(*values: Any) -> Iterator[Any]:
    return iter(tree_flatten(values)[0])
