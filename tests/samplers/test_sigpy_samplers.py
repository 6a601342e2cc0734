"""sigpy's reconstructions as samplers: what sigpy's own applications give, without a trace in numpy's generator."""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import torch

from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.diagonal import Identity
from restore.operators.interop import from_sigpy
from restore.operators.mri.coil_maps import espirit, fold_phase, image_phase
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.trajectories import radial
from restore.registry import load_sampler, sampler_names
from restore.scaling import Scaling

STEPS = 1e-4  # float32: some ten steps of FFTs, in units 700 times larger
LIMIT = 0.02  # the steps are not the limit
MAPS = 1e-5  # float32 in the same steps
RECOVERED = 0.25  # from a third of the data

sigpy = pytest.importorskip("sigpy")
mri = pytest.importorskip("sigpy.mri")

NAMES = ("sigpy-wavelet", "sigpy-jsense")


@pytest.fixture(scope="module")
def scan():
    """Two slices of the phantom, six coils, a quarter of the lines; ESPIRiT maps that hold the image's phase."""
    volume = head_phantom((40, 96, 80))
    measured = simulate_mri(volume, coils=6, acceleration=4, slices=slice(15, 17), seed=7)
    kspace = torch.from_numpy(measured.kspace[:])
    maps, _ = espirit(kspace)
    maps = fold_phase(maps, image_phase(kspace, maps))
    operator = MultiCoilMRI(maps, torch.from_numpy(measured.mask))
    return kspace, operator, torch.from_numpy(volume.data[15:17])


def weights_of(operator: MultiCoilMRI) -> np.ndarray:
    return operator.mask.float().expand(operator.in_shape[-2:]).numpy().copy()


def relative(a, b) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def test_wavelet_is_that_of_sigpys_application(scan):
    kspace, operator, _ = scan
    y, single = kspace[0], MultiCoilMRI(operator.maps[0], operator.mask)
    mine = solve(
        y, single, sampler="sigpy-wavelet", lamda=2e-3, max_iter=15, scaling=Scaling(700.0)
    )
    theirs = mri.app.L1WaveletRecon(
        (y / 700).numpy(), operator.maps[0].numpy(), 2e-3, weights=weights_of(operator), max_iter=15,
        alpha=1 / single.norm() ** 2, show_pbar=False,
    ).run()  # fmt: skip
    # Fifteen steps with FFTs of another library in single precision: 1e-6 seen.
    assert relative(mine.image.numpy() / 700, theirs) < STEPS
    drawn = mri.app.L1WaveletRecon(
        (y / 700).numpy(), operator.maps[0].numpy(), 2e-3, weights=weights_of(operator), max_iter=100,
        show_pbar=False,
    ).run()  # fmt: skip
    long = solve(y, single, sampler="sigpy-wavelet", lamda=2e-3, scaling=Scaling(700.0)).image
    # With sigpy's own step, drawn: another way to the same minimum.
    assert relative(long.numpy() / 700, drawn) < LIMIT


def test_jsense_is_that_of_sigpys_applications(scan):
    kspace, operator, _ = scan
    y, weights = (kspace[1] / 700).numpy(), weights_of(operator)
    mine = solve(
        kspace[1], MultiCoilMRI(operator.maps[1], operator.mask), sampler="sigpy-jsense", max_iter=8,
        maps_iter=4, scaling=Scaling(700.0),
    ).image.numpy() / 700  # fmt: skip
    maps = mri.app.JsenseRecon(y, lamda=1e-2, weights=weights, max_iter=4, show_pbar=False).run()
    theirs = mri.app.SenseRecon(y, maps, 1e-2, weights=weights, max_iter=8, show_pbar=False).run()
    # The phase is turned into the operator's frame, which changes no magnitude but by rounding.
    assert relative(np.abs(mine), np.abs(theirs)) < MAPS
    assert np.vdot(np.abs(mine), mine).real > 0.95 * np.linalg.norm(mine) ** 2


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n == "sigpy-jsense" else []) for n in NAMES],
)
def test_better_than_zeros_whatever_the_batch_and_the_generator_untouched(scan, name):
    """PSNR of this scan: zero-filled 19.6, sigpy-jsense 21.5, sigpy-wavelet 22.8, our own wavelet 23.4 dB."""
    kspace, operator, truth = scan
    settings = {"max_iter": 20}

    def psnr(image):
        return float(20 * torch.log10(truth.max() / (image.abs() - truth).square().mean().sqrt()))

    scaling = operator.unit_scale(kspace)
    np.random.seed(5)  # noqa: NPY002 (the generator that sigpy draws from)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    together = solve(kspace, operator, sampler=name, scaling=scaling, **settings).image
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    zero_filled = solve(kspace, operator, sampler="zerofilled").image
    assert psnr(together) > psnr(zero_filled) + 1
    again = solve(kspace, operator, sampler=name, scaling=scaling, **settings).image
    assert torch.equal(again, together)
    alone = solve(
        kspace[1], MultiCoilMRI(operator.maps[1], operator.mask), sampler=name, scaling=scaling, **settings
    ).image  # fmt: skip
    assert torch.equal(alone, together[1])
    batch = solve(
        torch.stack([kspace, 2 * kspace]), operator, sampler=name, scaling=scaling, **settings
    )
    assert torch.equal(batch.image[0], together)


def test_wavelet_serves_a_radial_scan_of_sigpy():
    maps = np.ones((1, 24, 24), np.complex64)
    A = from_sigpy(mri.linop.Sense(maps, coord=radial(60, 48, (24, 24))))
    truth = torch.zeros(24, 24, dtype=torch.complex64)
    truth[6:18, 8:15] = 1
    found = solve(A(truth), A, sampler="sigpy-wavelet", max_iter=40, scaling=Scaling()).image
    assert (
        float((found - truth).norm() / truth.norm()) < RECOVERED
    )  # sharp edges and no corners of k-space
    with pytest.raises(ConfigError, match="sigpy-jsense makes coil maps of Cartesian k-space"):
        solve(A(truth), A, sampler="sigpy-jsense")


def test_other_measurements_and_values_are_refused(monkeypatch):
    for name in NAMES:
        assert name in sampler_names()
        assert "extra" in sampler_names()[name]
        with pytest.raises(ConfigError, match=f"{name} serves"):
            solve(torch.rand(8, 8), Identity((8, 8)), sampler=name)
        with pytest.raises(ConfigError):
            dataclasses.replace(load_sampler(name)(), max_iter=0)
    for part in [m for m in sys.modules if m.split(".")[0] == "sigpy"]:
        monkeypatch.delitem(sys.modules, part)
    monkeypatch.setitem(sys.modules, "sigpy", None)
    for name in NAMES:
        with pytest.raises(ConfigError, match=rf"{name} needs the package sigpy.*restore\[sigpy\]"):
            load_sampler(name)()
