"""Published iterates of the data-consistency solvers, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import cg
from restore.solvers.admm import AdmmTV
from restore.solvers.proximal import DataTerm, data_step, krylov_step

DOUBLE = 1e-9  # float64: up to ten CG steps, sums over 256 pixels; 3e-13 seen


def close(got: Tensor, wanted: Tensor, tolerance: float = DOUBLE) -> None:
    error = float((got.reshape(-1) - wanted.reshape(-1)).norm() / wanted.norm())
    assert error <= tolerance, error


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_dense_real_iterates(arrays, dense, steps):
    case = arrays("dds/cg_real_dense_f64")
    term = DataTerm(dense(case["A"]), case["y"])
    close(krylov_step(term, case["x0"], iters=steps).x, case[f"noiseless_M{steps}"])
    for gamma in (1, 5):
        close(
            data_step(term, case["x0"], float(gamma), iters=steps).x,
            case[f"prox_g{gamma}_M{steps}"],
        )


@pytest.mark.parametrize("steps", [1, 5])
def test_unmatched_ct_iterates(arrays, dense, steps):
    case = arrays("dds/ct_ops_cg_f64")
    radon = dense(case["A_matrix"], (16, 16), (23, 6), back=case["AT_matrix"])
    term = DataTerm(radon, case["y"][0])
    close(term.rhs, case["ATy"])
    x0 = case["x0"][0]
    close(krylov_step(term, x0, iters=steps).x, case[f"noiseless_M{steps}"])
    close(data_step(term, x0, 1.0, iters=steps).x, case[f"prox_g1_M{steps}"])


def sense_normal(x: Tensor, maps: Tensor, mask: Tensor) -> Tensor:
    dims = (-2, -1)
    folded = torch.fft.ifftshift(mask, dim=dims)
    k = torch.fft.fft2(maps * x[..., None, :, :], norm="ortho") * folded
    return (maps.conj() * torch.fft.ifft2(k, norm="ortho")).sum(-3)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_complex_mri_iterates_use_the_hermitian_inner_product(arrays, steps):
    case = arrays("dds/mri_ops_cg_f64")
    back, x0 = case["AHy"][0, 0], case["x0"]

    def normal(x: Tensor) -> Tensor:
        # the stored maps live on the centred grid; shifts cancel in the normal operator
        return sense_normal(x, case["sens"], case["mask"][0, 0])

    noiseless = cg(normal, back, x0, iters=steps, item_ndim=2)
    close(noiseless.x, case[f"hermitian_noiseless_M{steps}"])
    for gamma in (1, 5):
        step = cg(
            lambda v, g=gamma: v + g * normal(v), x0 + gamma * back, x0, iters=steps, item_ndim=2
        )
        close(step.x, case[f"hermitian_prox_g{gamma}_M{steps}"])


def slice_maps(arrays) -> tuple[Tensor, Tensor]:
    case = arrays("dds/ct_ops_cg_f64")
    return case["A_matrix"], case["AT_matrix"]


def test_dds_3d_trace(arrays):
    forward, back = slice_maps(arrays)
    case = arrays("dds/dds3d_ct_svct_f64")
    square = back @ forward

    def normal(v: Tensor) -> Tensor:
        return (v.reshape(5, 256) @ square.mT).reshape(v.shape)

    rhs = (case["gt"].reshape(5, 256) @ forward.mT @ back.mT).reshape(5, 1, 16, 16)
    state = AdmmTV(normal, rhs, float(case["lamb"]), float(case["rho"]), axes=(-4,), item_ndim=4)
    for k in range(len(case["t"])):
        held = state.u
        v = state.step(case["cg_x_in"][k], iters=int(case["CG_iter"])).x
        close(v, case["cg_x_out"][k])
        close(state.z[0], case["z"][k])
        close(state.u[0] + state.z[0], case["shrink_in"][k])
        assert state.u is not held


def test_diffusionmbir_ct_trace(arrays):
    forward, back = slice_maps(arrays)
    case = arrays("diffusionmbir/ct_vol5_smax378_f64")
    square = back @ forward

    def normal(v: Tensor) -> Tensor:
        return (v.reshape(5, 256) @ square.mT).reshape(v.shape)

    rhs = (case["y"].reshape(5, 138) @ back.mT).reshape(5, 1, 16, 16)
    state = AdmmTV(normal, rhs, float(case["lamb"]), float(case["rho"]), axes=(-4,), item_ndim=4)
    for k in range(len(case["t"])):
        x = state.step(case["x_corr"][k], iters=1).x
        close(state.z, case["z"][k])
        close(state.u + state.z, case["shrink_in"][k])
        if k + 1 < len(case["t"]):
            close(x, case["x_in"][k + 1])


def test_diffusionmbir_mri_trace(arrays):
    case = arrays("diffusionmbir/mri_vol5_smax1_f64")
    mask = torch.fft.ifftshift(case["mask"], dim=(-2, -1))

    def normal(v: Tensor) -> Tensor:
        return torch.fft.ifft2(mask * torch.fft.fft2(v)).real

    rhs = torch.fft.ifft2(torch.fft.ifftshift(case["y"], dim=(-2, -1))).real
    state = AdmmTV(normal, rhs, float(case["lamb"]), float(case["rho"]), axes=(-4,), item_ndim=4)
    for k in range(len(case["t"]) - 1):
        x = state.step(case["x_corr"][k], iters=1).x
        close(x, case["x_in"][k + 1])


def test_isotropic_tv_first_iteration(arrays):
    """One outer and one inner iteration from zero, before the published aliasing fault can act."""
    forward, back = slice_maps(arrays)
    case = arrays("diffusionmbir/admm_tv_iso_o1_i1_f64")
    square = back @ forward
    rhs = (case["y"].reshape(5, 138) @ back.mT).reshape(5, 1, 16, 16)
    state = AdmmTV(
        lambda v: (v.reshape(5, 256) @ square.mT).reshape(v.shape),
        rhs,
        float(case["lamb"]),
        float(case["rho"]),
        axes=(-4, -2, -1),
        item_ndim=4,
        isotropic=True,
    )
    close(state.step(torch.zeros_like(rhs), iters=1).x, case["out"])
