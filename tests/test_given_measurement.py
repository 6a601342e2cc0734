"""Arrays, lists and every kind of number through `restore.solve`: the same picture, or a sentence."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import data

from restore.errors import ConfigError, ShapeError
from restore.front_door import solve
from restore.operators.ct.beer_lambert import BeerLambert
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.diagonal import Identity
from restore.operators.image.blur import Blur
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.operators.image.kernels import gaussian
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.scaling import Scaling

EIGHT = data.astronaut()[:32, 200:232].transpose(2, 0, 1)
SHAPE = EIGHT.shape
PLAIN = torch.from_numpy(EIGHT / 255.0).float()
MASK = torch.from_numpy(np.random.default_rng(0).random(SHAPE[1:]) < 0.6).float()
FAST = {"sampler": "dds", "n_steps": 3, "noise": 0.02}


def restored(y: object, noise: object = 0.02):
    return solve(y, Inpainting(MASK, SHAPE), **FAST | {"noise": noise})


def test_every_form_gives_the_same_picture():
    wanted = restored(PLAIN)
    read_only = PLAIN.numpy().copy()
    read_only.flags.writeable = False
    forms = {
        "array": PLAIN.numpy(), "read only": read_only, "backwards": np.flip(PLAIN.numpy().copy()[::-1], 0),
        "big-endian": PLAIN.numpy().astype(">f4"), "lists": PLAIN.tolist(),
        "with gradient": PLAIN.clone().requires_grad_(),
        "double": PLAIN.double(), "uint8 array": EIGHT, "uint8": torch.from_numpy(EIGHT.copy()),
        "uint16": (EIGHT.astype(np.uint16) * 257), "float64 array": EIGHT / 255.0,
        "long double": (EIGHT / np.longdouble(255)),
    }  # fmt: skip
    for name, y in forms.items():
        found = restored(y)
        # Rounding of single precision through three passes of a network.
        torch.testing.assert_close(found.image.float(), wanted.image, rtol=0, atol=2e-4, msg=name)
        assert any("divided by" in n for n in found.notes) == name.startswith("uint")
        assert found.image.dtype == (
            torch.float64
            if name in ("double", "lists", "float64 array", "long double")
            else torch.float32
        )
    for half in (torch.float16, torch.bfloat16):
        found = restored(PLAIN.to(half))
        assert "computed in float32" in found.notes[0]
        # bfloat16 keeps eight bits: 4e-3 of white.
        torch.testing.assert_close(found.image, wanted.image, rtol=0, atol=0.04)
    assert torch.equal(
        restored(PLAIN, np.float32(0.02)).image, restored(PLAIN, float(np.float32(0.02))).image
    )


def test_torch_default_of_double():
    torch.set_default_dtype(torch.float64)
    try:
        for A in (Inpainting(MASK, SHAPE), Downsample(SHAPE, 2), Identity(SHAPE)):
            found = solve(A(PLAIN.double()), A, **FAST).image
            assert found.dtype == torch.float64
            assert bool(torch.isfinite(found).all())
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (EIGHT.astype(np.int64), "whole numbers whose unit nobody can tell"),
        (255 * PLAIN, "reaches 2"),
        (np.array(["a"]), "expected a tensor or array of numbers"),
        ([[1.0], [1.0, 2.0]], "no array"),
        (None, "expected a tensor or array of numbers"),
        (PLAIN.to_sparse(), "to_dense"),
        (np.ma.masked_greater(PLAIN.numpy(), 0.2), "of its values are masked"),
        (torch.nested.nested_tensor([PLAIN, PLAIN]), "nested tensor"),
        (PLAIN.to("meta"), "meta"),
        (np.moveaxis(EIGHT / 255, 0, -1), "np.moveaxis"),
    ],
)
def test_what_is_no_measurement_is_refused_in_a_sentence(y, words):
    with pytest.raises((ConfigError, ShapeError), match=words):
        restored(y)


def test_a_stated_scale_is_believed_and_a_bright_picture_noted():
    found = solve(
        255 * PLAIN, Inpainting(MASK, SHAPE), **FAST | {"noise": 5.1}, scaling=Scaling(255.0)
    )
    torch.testing.assert_close(found.image / 255, restored(PLAIN).image, rtol=0, atol=1e-4)
    assert any("reaches" in n for n in restored(4 * PLAIN).notes)


def test_other_ranges_are_said():
    assert "two parts" in restored(PLAIN.to(torch.complex64)).notes[0]
    assert any("(y + 1) / 2" in n for n in restored(2 * PLAIN - 1).notes)
    deep = (PLAIN.numpy() * 4095).astype(np.uint16)
    assert any(f"largest value is {deep.max()} of 65535" in n for n in restored(deep).notes)
    assert any("grey levels of 0..255 it is 0.1" in n for n in restored(PLAIN, 25.5).notes)


def test_samples_that_are_all_the_same_are_said():
    found = solve(PLAIN, Identity(SHAPE), noise=0.05, sampler="tweedie", samples=2)
    assert any("all 2 samples are the same: tweedie draws nothing" in n for n in found.notes)
    drawn = solve(PLAIN, Identity(SHAPE), noise=0.05, sampler="dds", n_steps=2, samples=2)
    assert not any("samples are the same" in n for n in drawn.notes)


def test_kspace_is_complex_and_halves_of_it_are_raised():
    A = MultiCoilMRI.single_coil(torch.ones(16, 16), (16, 16))
    k = A(PLAIN[0, :16, :16].to(torch.complex64))
    with pytest.raises(ConfigError, match="k-space is complex"):
        solve(k.abs(), A, noise=0.01)
    wanted = solve(k, A, noise=0.01, sampler="tv", n_steps=3).image
    array = solve(k.numpy().astype(np.complex128), A, noise=0.01, sampler="tv", n_steps=3).image
    torch.testing.assert_close(array.to(torch.complex64), wanted, rtol=0, atol=1e-4)
    half = solve(k.to(torch.complex32), A, noise=0.01, sampler="tv", n_steps=3)
    assert "complex64" in half.notes[0]


def test_counts_are_whole_numbers():
    A = BeerLambert(ParallelBeamCT(ParallelBeam(equispaced(4), 12, 1.0, (8, 8))), 100.0)
    y = A(torch.zeros(8, 8)).round()
    how = {"noise": None, "sampler": "reddiff", "n_steps": 2, "scaling": Scaling()}
    found = solve(y.int().numpy(), A, **how)
    assert torch.equal(found.image, solve(y, A, **how).image)
    assert "Poisson" in found.notes[0]


@pytest.mark.parametrize(
    "sampler", ["mrs", "resshift", "rddm", "irsde", "ddrm", "diffpir", "pigdm"]
)
def test_a_whole_picture_with_its_mask_is_a_picture_with_holes(sampler):
    A = Inpainting(MASK, SHAPE)
    whole, holes = (solve(y, A, noise=0.02, sampler=sampler, n_steps=2) for y in (PLAIN, A(PLAIN)))
    assert torch.equal(whole.image, holes.image)


def test_a_kernel_that_is_not_normalised_is_noted():
    blur = Blur(gaussian(1.2), (1, 16, 16))
    y = blur(torch.full((1, 16, 16), 0.5))
    fitting = solve(y, blur, noise=0.01, prior="medical", n_steps=2).notes
    assert not [n for n in fitting if "kernel" in n]
    loud = Blur(100 * gaussian(1.2), (1, 16, 16))
    (note,) = [
        n for n in solve(y, loud, noise=0.01, prior="medical", n_steps=2).notes if "kernel" in n
    ]
    assert "turns white (1) into 100" in note


def test_inference_mode_of_the_caller_is_no_harm():
    """dps follows gradients through the network; the answer is that of a caller without the mode."""
    mask = torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) < 0.7
    operator = Inpainting(mask, (1, 12, 12))
    y = operator(torch.full((1, 12, 12), 0.4))
    plain = solve(y, operator, noise=0.05, prior="medical", sampler="dps", n_steps=3).image
    with torch.inference_mode():
        inside = solve(
            y.clone(), operator, noise=0.05, prior="medical", sampler="dps", n_steps=3
        ).image
    torch.testing.assert_close(inside, plain, rtol=0, atol=0)  # the same operations
