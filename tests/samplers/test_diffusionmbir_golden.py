"""DiffusionMBIR replayed on stored noise against the published numerics in float64, and its two baselines.

Every trace found in the folder is replayed: the file's name says what was run.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.linalg.conjugate_gradients import Solution
from restore.operators.base import LinearOperator
from restore.priors.analytic import GaussianPrior
from restore.priors.image_prior import ImagePrior
from restore.problem import Problem
from restore.samplers.diffusionmbir import DiffusionMBIR
from restore.solvers import admm
from restore.solvers.admm import AdmmTV

SINGLE = 1e-6  # the stored states have single precision; float64 here
STORED = 1e-7  # the stored levels have single precision; 1e-11 seen
DOUBLE = 1e-10  # float64: one power of the ratio of levels, 378; 3e-15 of it seen

SIDE = 16


def close(got: Tensor, wanted: Tensor, tolerance: float = SINGLE) -> None:
    error = float((got.flatten() - wanted.flatten()).norm() / wanted.norm())
    assert error <= tolerance, error


def radon(arrays, dense) -> LinearOperator:
    case = arrays("dds/ct_ops_cg_f64")
    return dense(case["A_matrix"], (SIDE, SIDE), back=case["AT_matrix"])


def real_fourier(mask: Tensor, dense) -> LinearOperator:
    """mask * fftshift(fft2 x) of real images, and Re ifft2: neither orthonormal, yet their product has norm 1."""
    eye = torch.eye(SIDE * SIDE, dtype=torch.float64).reshape(-1, SIDE, SIDE)
    forward = (mask * torch.fft.fftshift(torch.fft.fft2(eye), dim=(-2, -1))).flatten(1).mT
    unit = torch.eye(SIDE * SIDE, dtype=torch.complex128).reshape(-1, SIDE, SIDE)
    back = [
        torch.fft.ifft2(torch.fft.ifftshift(u, dim=(-2, -1))).real.flatten(1).mT
        for u in (unit, 1j * unit)
    ]
    parts = torch.cat([forward.real, forward.imag])
    return dense(parts, (SIDE, SIDE), back=torch.cat(back, dim=1))


def settings_of(name: str, g: dict[str, Tensor]) -> DiffusionMBIR:
    kind = "published-mri" if name.startswith("mri") else "published"
    settings: dict[str, Any] = {
        "n_steps": int(g["N"]),
        "sigma_start": float(g["sigma_max"]),
        "sigma_end": float(g["sigma_min"]),
        "tv_axes": "all" if "alltv" in name else "z",
        "final": not name.startswith("mri"),
    }
    sampler = DiffusionMBIR.configured(kind, LinearOperator, settings)
    assert (sampler.snr, sampler.tv_weight, sampler.tv_rho) == pytest.approx(
        (float(g["snr"]), float(g["lamb"]), float(g["rho"]))
    )
    return sampler


def replayed(name: str, arrays, dense, replay, watched, **changes: Any):
    """Steps, the watched prior and the stored arrays of one trace."""
    g = arrays(f"diffusionmbir/{name}")
    if name.startswith("mri"):
        operator = real_fourier(g["mask"].reshape(SIDE, SIDE), dense)
        y = g["y"].reshape(-1, SIDE * SIDE)
        problem = Problem(torch.cat([y.real, y.imag], dim=-1), operator)
    else:
        operator = radon(arrays, dense)
        problem = Problem(g["y"].reshape(len(g["y"]), -1), operator)
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    spectrum = 0.002 + 0.498 / (1 + (f[:, None] ** 2 + f**2) / 0.08**2) ** 2
    mean = torch.full((SIDE, SIDE), float(g["mu"]), dtype=torch.float64)
    prior = watched(GaussianPrior(mean, spectrum=spectrum))
    pairs = zip(g["noise_pred"], g["noise_corr"], strict=True)
    noises = [g["noise_init"], *(n for pair in pairs for n in pair)]
    sampler = dataclasses.replace(settings_of(name, g), **changes)
    images = ImagePrior(prior, problem.item_shape, complex_=False)
    return list(sampler.steps(problem, images, replay(noises))), prior, g


@pytest.mark.traces("name", "diffusionmbir", "*_vol*_f64")
def test_published_chains(arrays, dense, replay, watched, name):
    steps, prior, g = replayed(name, arrays, dense, replay, watched)
    assert [s.evaluations for s in steps] == [2 * k + 2 for k in range(int(g["N"]))]
    for k, step in enumerate(steps):
        assert step.sigma == pytest.approx(float(g["sigma_label"][k]), rel=STORED)
        close(prior.inputs[2 * k], g["x_in"][k])
        close(prior.inputs[2 * k + 1], g["x_pred"][k])
    close(steps[-1].x0, g["final"])


def test_the_published_langevin_step_depends_on_the_chunk(arrays, dense, replay, watched):
    name = "ct_vol5_smax378_f64"
    published = replayed(name, arrays, dense, replay, watched)[0][-1].x0
    for changes in ({"chunk": 4}, {"step_norms": "slice"}):  # chunks of three and two slices
        other = replayed(name, arrays, dense, replay, watched, **changes)[0][-1].x0
        assert float((other - published).norm() / published.norm()) > 1e-4
    close(replayed(name, arrays, dense, replay, watched, chunk=6)[0][-1].x0, published, 0.0)


@pytest.mark.traces("name", "diffusionmbir", "ve_index_N*")
def test_the_level_index_of_the_released_code(arrays, name):
    g = arrays(f"diffusionmbir/{name}")
    n = len(g["index"])
    sampler = DiffusionMBIR(n_steps=n, schedule="ve", sigma_start=378, sigma_end=0.01)
    levels = np.exp(np.linspace(np.log(0.01), np.log(378), n))
    intended = [v.sigma for v in sampler.levels()]
    np.testing.assert_allclose(intended, levels[::-1], rtol=DOUBLE)
    used = dataclasses.replace(sampler, official_index=True).levels()
    index = g["index"].numpy()
    np.testing.assert_allclose([v.sigma for v in used], levels[index], rtol=DOUBLE)
    lower = np.where(index == 0, 0, levels[np.maximum(index - 1, 0)])
    np.testing.assert_allclose([v.next for v in used], lower, rtol=DOUBLE)
    t = g["t"].double().numpy()
    np.testing.assert_allclose([v.told for v in used], 0.01 * 37800.0**t, rtol=SINGLE)
    assert (n, int((index != n - 1 - np.arange(n)).sum())) in ((1000, 83), (2000, 137))


def test_in_single_precision_four_levels_repeat_one_and_leave_one_out():
    sampler = DiffusionMBIR(n_steps=4, schedule="ve", official_index=True)
    grid = [v.sigma for v in dataclasses.replace(sampler, official_index=False).levels()]
    assert [v.sigma for v in sampler.levels()] == [grid[0], grid[2], grid[2], grid[3]]


# ---------------------------------------------------------------------------------------------
# Isotropic ADMM-TV from zero. The released CG lets its first direction share memory with the
# residual: from the second inner step on the published iterates are those of the faulty solver,
# which stands here and not in the package.


def sharing_cg(
    apply, b: Tensor, x0: Tensor, *, iters: int, item_ndim: int, **ends: object
) -> Solution:
    """CG of the released code, whose first direction is the residual itself, changed in place."""
    ends.pop("singular")  # told of each pass without a proximal term
    assert not any(ends.values())  # as many steps as asked for, not preconditioned
    x, r = x0.clone(), b - apply(x0)
    p, rr = r, (r * r).sum()
    for _ in range(iters):
        q = apply(p)
        alpha = rr / (p * q).sum()
        x = x + alpha * p
        r -= alpha * q
        rr, old = (r * r).sum(), rr
        p = r + rr / old * p
    nothing = torch.zeros(())
    return Solution(x, nothing, nothing, nothing)


@pytest.mark.traces("name", "diffusionmbir", "admm_tv_iso_o*_f64")
def test_isotropic_tv(arrays, dense, monkeypatch, name):
    outer, inner = (int(part[1:]) for part in name.split("_")[3:5])
    g, operator = arrays(f"diffusionmbir/{name}"), radon(arrays, dense)
    rhs = operator.adjoint(g["y"].reshape(len(g["y"]), -1))
    monkeypatch.setattr(admm, "cg", sharing_cg)
    state = AdmmTV(
        operator.normal, rhs, float(g["lamb"]), float(g["rho"]),
        axes=(-3, -2, -1), item_ndim=3, isotropic=True,
    )  # fmt: skip
    x = torch.zeros_like(rhs)
    for _ in range(outer):
        x = state.step(x, iters=inner).x
    close(x, g["out"])
