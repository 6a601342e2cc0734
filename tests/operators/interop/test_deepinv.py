"""deepinv's physics as our operators and ours as its physics. Runs where deepinv is installed (`make peers`)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.front_door import solve
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.inpainting import Inpainting
from restore.operators.interop import from_deepinv, to_deepinv
from restore.operators.interop.foreign import mismatch_of
from restore.operators.mri.multicoil import MultiCoilMRI

DOUBLE = 1e-4  # float64 beside float32, 6e-8 of each of some hundred products
SINGLE = 1e-5  # float32: the same operator reached in two ways, sums of some hundred products
SOLVED = 1e-2  # the proximal point is found by iteration in deepinv, to its own tolerance
STEPS = 1e-3  # eight steps carry the rounding of float32 along

deepinv = pytest.importorskip("deepinv")
physics = deepinv.physics


def relative(a: Tensor, b: Tensor) -> float:
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


def multicoil(scan: MultiCoilMRI):
    return physics.MultiCoilMRI(
        mask=scan.mask.float(), coil_maps=scan.maps[None], img_size=scan.in_shape
    )


def tomography(exact: bool):
    return physics.Tomography(
        angles=20, img_width=24, circle=False, normalize=False, adjoint_via_backprop=exact
    )


def test_multi_coil_mri_is_complex_here(scan, same_map):
    op = from_deepinv(multicoil(scan), (2, *scan.in_shape))
    same_map(op, scan, 1e-5)  # single precision; 2e-7 seen
    assert op.kind == "mri"


def test_inpainting(same_map):
    mask = (torch.rand(1, 8, 9, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    theirs = physics.Inpainting((3, 8, 9), mask=mask.expand(3, 8, 9))
    same_map(from_deepinv(theirs, (3, 8, 9)), Inpainting(mask[0], (3, 8, 9)), 1e-6)


@pytest.mark.parametrize("name", ["tomography", "blur", "superres", "mri"])
def test_double_precision_reaches_the_physics(name):
    """Its complex tensors stay complex. Tomography interpolates on a grid that stays single: 1e-6 apart."""
    made = {
        "tomography": (tomography(True), (1, 24, 24)),
        "blur": (physics.BlurFFT((3, 16, 16), filter=physics.blur.gaussian_blur(1.2)), (3, 16, 16)),
        "superres": (
            physics.Downsampling((3, 16, 16), filter="bicubic", factor=2),
            (3, 16, 16),
        ),
        "mri": (physics.MRI(mask=torch.eye(16)), (2, 16, 16)),
    }[name]
    single = from_deepinv(*made)
    double = single.to(torch.float64)
    dtype = torch.complex128 if single.is_complex else torch.float64
    x = torch.rand(2, *single.in_shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert double(x).dtype == dtype
    assert relative(double(x), single(x)) < DOUBLE
    assert mismatch_of(double) < (1e-4 if name == "tomography" else 1e-12)


def test_tomography_says_how_its_adjoint_is():
    assert from_deepinv(tomography(True), (1, 24, 24)).mismatch < SINGLE
    with pytest.raises(ConfigError, match=r"off by \d\.\d %"):
        from_deepinv(tomography(False), (1, 24, 24))
    assert from_deepinv(tomography(False), (1, 24, 24), allow_unmatched=True).mismatch > 0.005


def test_later_calls_of_the_physics_change_nothing():
    theirs = physics.MRI(mask=torch.eye(16))
    op = from_deepinv(theirs, (2, 16, 16))
    x = torch.rand(16, 16, dtype=torch.complex64)
    before = op(x)
    theirs.A(torch.rand(1, 2, 16, 16), mask=torch.ones(16, 16))  # deepinv keeps this mask
    assert torch.equal(op(x), before)


def test_refusals():
    with pytest.raises(ConfigError, match="got a int, expected a deepinv"):
        from_deepinv(3, (1, 2, 2))
    with pytest.raises(ConfigError, match="real and imaginary channel"):
        from_deepinv(physics.MRI(mask=torch.eye(16)), (16, 16))
    several = physics.Inpainting((1, 8, 8), mask=0.5).stack(physics.Inpainting((1, 8, 8), mask=0.5))
    with pytest.raises(ConfigError, match=r"gives a TensorList.*restore\.operators\.Stack"):
        from_deepinv(several, (1, 8, 8))


def test_ours_as_a_physics(scan):
    theirs, ours = multicoil(scan), to_deepinv(scan)
    x = torch.rand(2, 2, *scan.in_shape, generator=torch.Generator().manual_seed(0))
    y = theirs.A(x)
    assert relative(ours.A(x), y) < SINGLE
    assert relative(ours.A_adjoint(y), theirs.A_adjoint(y)) < SINGLE
    # Their least squares runs on ours; it stops at 1e-4.
    assert relative(ours.prox_l2(x, y, 10.0), theirs.prox_l2(x, y, 10.0)) < SOLVED
    with pytest.raises(ConfigError, match=r"no parameters to change, got \['mask'\]"):
        ours.A(x, mask=torch.ones(20, 15))


def test_planes_get_a_channel_and_gradients_flow():
    ct = ParallelBeamCT(ParallelBeam.covering(shape=(12, 12), views=9))
    ours = to_deepinv(ct)
    x = torch.rand(2, 1, 12, 12, requires_grad=True)
    y = ours.A(x)
    assert y.shape == (2, 1, *ct.out_shape)
    y.square().sum().backward()
    assert relative(x.grad, 2 * ct.normal(x.detach()[:, 0])[:, None]) < SINGLE


def test_samplers_give_the_same_image(scan):
    truth = torch.zeros(scan.in_shape, dtype=torch.complex64)
    truth[5:15, 4:11] = 1
    y = scan(truth)
    for sampler in ("tv", "dds"):
        theirs, ours = (
            solve(y, A, noise=0.01, sampler=sampler, n_steps=8).image
            for A in (from_deepinv(multicoil(scan), (2, *scan.in_shape)), scan)
        )
        assert relative(theirs, ours) < STEPS  # eight steps carry the rounding along
