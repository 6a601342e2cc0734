"""The pretended CUDA device refuses what CUDA refuses and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from fake_device import FakeCuda, FakeDevices
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def devices():
    with FakeDevices():
        yield


def drawn(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_what_is_moved_or_made_there_is_there():
    x = drawn(2, 3)
    far = x.to("cuda:1")
    made = [
        far + 1, far.clone(), torch.zeros(3, device=far.device), torch.zeros_like(far), far.new_ones(2),
        torch.arange(4, device="cuda:1"), torch.tensor([1.0], device=torch.device("cuda", 1)),
        x.to(far), x.to(torch.device("cuda:1"), torch.float64), x.to(device="cuda:1", dtype=torch.float64),
        torch.fft.fft2(far).real, far[0], far.T, torch.as_tensor([1.0, 2.0], device=far.device), far.double(),
    ]  # fmt: skip
    assert {str(t.device) for t in made} == {"cuda:1"}
    assert all(t.is_cuda and isinstance(t, FakeCuda) for t in made)
    assert x.to("cuda").device == torch.device("cuda:0")
    assert type(far.cpu()) is Tensor
    assert torch.equal(far.cpu(), x)
    assert far.to("cuda:1") is far
    assert str(far.to("cuda:0").device) == "cuda:0"
    assert float(far.sum()) == pytest.approx(float(x.sum()))
    assert far.tolist() == x.tolist()


REFUSED: dict[str, Callable[[Tensor, Tensor], object]] = {
    "addition": lambda far, near: far + near,
    "addition in place": lambda far, near: near.add_(far),
    "product": lambda far, near: far @ near.T,
    "stack": lambda far, near: torch.stack([far, near]),
    "where": lambda far, near: torch.where(near > 0, far, 0.0),
    "a mask of pixels": lambda far, near: torch.where(far > 0, near, 0.0),
    "indices there, data here": lambda far, near: near[far > 0],
    "values here put there": lambda far, near: far.index_put_(
        (torch.zeros(2, dtype=torch.long),), near
    ),
    "another device": lambda far, near: far + near.to("cuda:1"),
    "a layer": lambda far, near: nn.Linear(3, 3)(far),
    "CPU generator": lambda far, near: torch.randn(
        3, device=far.device, generator=torch.Generator()
    ),
    "CPU generator in place": lambda far, near: far.normal_(generator=torch.Generator()),
    "NumPy": lambda far, near: far.numpy(),
    "NumPy by itself": lambda far, near: np.asarray(far),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cuda_refuses_is_refused(name):
    near = drawn(2, 3)
    with pytest.raises((RuntimeError, TypeError), match=r"same device|generator|numpy"):
        REFUSED[name](near.to("cuda"), near)


def test_what_cuda_allows_is_allowed():
    near = drawn(2, 3)
    far = near.to("cuda")
    scalar = torch.tensor(2.0, dtype=torch.float64)
    assert torch.equal((far * scalar).cpu(), near * 2)
    assert torch.equal(torch.where(far > 0, far, scalar.float()).cpu(), near.where(near > 0, 2.0))
    assert torch.equal(far[:, torch.tensor([2, 0])].cpu(), near[:, [2, 0]])
    assert torch.equal(far[near > 0].cpu(), near[near > 0])
    there = torch.empty_like(far)
    there.copy_(near)
    assert torch.equal(there.cpu(), near)
    here = torch.empty(2, 3)
    here.copy_(far)
    here[0] = far[1]
    assert type(here) is Tensor
    assert torch.equal(here, near[[1, 1]])


def test_conjugates_are_conjugates():
    near, other = drawn(2, 3, dtype=torch.complex64), 1j * drawn(2, 3, dtype=torch.complex64)
    far = near.to("cuda")
    for compute in (
        lambda a, b: a.conj() * b,
        lambda a, b: (b.conj() @ a.mH).imag,
        lambda a, b: torch.linalg.vecdot(a, b),
    ):
        assert torch.equal(compute(far, other.to("cuda")).cpu(), compute(near, other))
    assert torch.equal((near.conj().to("cuda") * far).cpu(), near.conj() * near)


def test_writing_into_views_and_outputs():
    near = drawn(2, 3)
    far = near.to("cuda")
    far[0].mul_(2)
    far[1, 1:] = 7.0
    torch.add(far[0], 1, out=far[0])
    near[0].mul_(2).add_(1)
    near[1, 1:] = 7.0
    assert torch.equal(far.cpu(), near)


def test_gradients_pass_through_and_across():
    near = drawn(2, 3).requires_grad_()
    far = near.detach().to("cuda").requires_grad_()
    (there,) = torch.autograd.grad((far**2).sum(), far)
    assert there.is_cuda
    (here,) = torch.autograd.grad((near.to("cuda") ** 2).sum(), near)
    assert type(here) is Tensor
    assert torch.equal(there.cpu(), here)
    value, pull = torch.func.vjp(lambda v: v**2, far.detach())
    assert torch.equal(pull(torch.ones_like(value))[0].cpu(), here)


def test_networks_run_there_once_their_weights_are_there():
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU())
    x = drawn(2, 1, 8, 8)
    here = network(x)
    network.to("cuda:1")
    there = network(x.to("cuda:1"))
    assert str(there.device) == "cuda:1"
    torch.testing.assert_close(there.cpu(), here)


def test_sparse_matrices():
    starts, columns, values = torch.tensor([0, 1, 3]), torch.tensor([1, 0, 2]), drawn(3)
    matrix = torch.sparse_csr_tensor(starts, columns, values, (2, 3), check_invariants=False)
    far = torch.sparse_csr_tensor(
        starts.to("cuda"), columns.to("cuda"), values.to("cuda"), (2, 3), check_invariants=False
    )
    x = drawn(3, 2)
    assert far.is_cuda
    torch.testing.assert_close((far @ x.to("cuda")).cpu(), matrix @ x)
    with pytest.raises(RuntimeError, match="same device"):
        far @ x


def test_afterwards_all_is_as_before():
    with FakeDevices():
        assert torch.zeros(2, device="cuda").is_cuda
    assert type(torch.zeros(2)) is Tensor
