"""Networks of other codebases on a device that is not the CPU: none of them makes or keeps a tensor elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_device import FakeCuda

from restore.pipelines.model_files import Conversion, convert
from restore.priors.base import Denoiser
from restore.priors.families.meaning import Meaning
from restore.priors.store import load_prior

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoints"
THERE = "cuda:1"
CASES = {
    "adm": ("adm_additive_convresample.pt", Meaning((-1.0, 1.0), "cosine", "v"), {}),
    "ncsnpp": ("checkpoint_ve_continuous.pth", Meaning(complex_mode="separate"), {}),
    "ncsnpp, VP": ("checkpoint_ve_continuous.pth", Meaning(complex_mode="separate"), {"sde": "vpsde"}),
    "edm": ("songunet_ddpmpp.pt", Meaning((-1.0, 1.0), label=1), {"precond": "EDMPrecond"}),
    "edm, VP": ("songunet_ddpmpp.pt", Meaning((-1.0, 1.0), label=1), {"precond": "VPPrecond"}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_converted_denoiser(name: str, tmp_path: Path):
    kind = name.partition(",")[0]
    file, meaning, settings = CASES[name]
    home, out = GOLDEN / kind, tmp_path / "x.safetensors"
    convert(
        Conversion(home / file, kind, out, home / "config.json", settings=settings, meaning=meaning)
    )
    here = load_prior(out)
    assert isinstance(here, Denoiser)
    there = here.to(THERE)
    g = torch.Generator().manual_seed(0)
    x = torch.rand(2, here.channels, 14, 16, generator=g)
    for sigma in (0.1, torch.tensor([0.1, 0.4])):
        moved = sigma.to(THERE) if isinstance(sigma, torch.Tensor) else sigma
        found = there(x.to(THERE), moved)
        assert isinstance(found, FakeCuda)
        # The same float32 operations in the same order.
        torch.testing.assert_close(found.cpu(), here(x, sigma), rtol=1e-5, atol=1e-6)
