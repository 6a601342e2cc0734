"""Options of published networks for which no output is stored: every layer is used once, and sizes come out right."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import restore
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.model_files import Conversion, convert, inspect_file
from restore.priors.families.known import family_of
from restore.priors.store import load_prior

NCSNPP: dict[str, Any] = {
    "num_channels": 2, "image_size": 16, "centered": True, "nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1,
    "attn_resolutions": [8], "num_scales": 10, "sigma_min": 0.01, "sigma_max": 50, "sde": "vesde", "continuous": True,
    "scale_by_sigma": True, "skip_rescale": True,
}  # fmt: skip


def filled(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """The network off the meta device, with small random weights."""
    network = network.to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(0.1 * torch.randn(tensor.shape, generator=generator))
    return network


def calls(network: nn.Module, modules: list[nn.Module], run: Any) -> Counter[int]:
    """How often each of some modules is called."""
    found: Counter[int] = Counter()
    handles = [
        m.register_forward_hook(lambda *_, k=k: found.update([k])) for k, m in enumerate(modules)
    ]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return found


WAYS = [
    (progressive, entrance, block, fir)
    for progressive in ("none", "output_skip", "residual")
    for entrance in ("none", "input_skip sum", "input_skip cat", "residual sum")
    for block in ("biggan", "ddpm")
    for fir in (True, False)
]


@pytest.mark.parametrize(("progressive", "entrance", "block", "fir"), WAYS)
def test_every_layer_of_ncsnpp_is_walked_once(
    progressive: str, entrance: str, block: str, fir: bool, generator: torch.Generator
):
    entrance, _, combine = entrance.partition(" ")
    family = family_of("ncsnpp")
    settings = NCSNPP | {
        "progressive": progressive, "progressive_input": entrance, "resblock_type": block, "fir": fir,
        "progressive_combine": combine or "sum", "embedding_type": "fourier" if fir else "positional",
    }  # fmt: skip
    with torch.device("meta"):
        network = family.network(family.config(settings))
    network = filled(network, generator)
    x = torch.randn(2, 2, 16, 12, generator=generator)
    out: list[Tensor] = []
    layers = list(network.get_submodule("all_modules"))
    found = calls(network, layers, lambda: out.append(network(x, torch.tensor([3.0, 7.0]))))
    assert found == dict.fromkeys(range(len(layers)), 1)
    assert out[0].shape == x.shape


@pytest.fixture
def pipeline(tmp_path: Path, generator: torch.Generator) -> Path:
    """A folder as diffusers saves it: codes of a VQ autoencoder, a U-Net of them, a scheduler."""
    unet = {
        "_class_name": "UNet2DModel", "block_out_channels": [8, 16], "norm_num_groups": 4, "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    }  # fmt: skip
    vqvae = {
        "_class_name": "VQModel", "block_out_channels": [8, 8], "norm_num_groups": 4, "num_vq_embeddings": 12,
        "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
        "scaling_factor": 0.5,
    }  # fmt: skip
    scheduler = {
        "_class_name": "DDIMScheduler",
        "beta_schedule": "scaled_linear",
        "beta_start": 0.0015,
        "beta_end": 0.0195,
    }
    family = family_of("diffusers")
    folder = tmp_path / "ldm"
    for name, record in {"unet": unet, "vqvae": vqvae}.items():
        with torch.device("meta"):
            network = family.network(family.config(record))
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(record))
        weights = filled(network, generator).state_dict()
        save_file(weights, folder / name / "diffusion_pytorch_model.safetensors")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "LDMPipeline"}))
    return folder


def test_a_latent_pipeline_says_everything_itself(pipeline: Path, tmp_path: Path):
    """Codes, their scale, schedule, prediction and range are in the folder; STSL runs in the codes."""
    assert inspect_file(pipeline).kinds == ("diffusers",)
    out = tmp_path / "ldm.safetensors"
    made = convert(Conversion(pipeline, "diffusers", out))
    assert made.kind == "latent"
    assert made.missing() == []
    prior = load_prior(out)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    z = prior.encode(x)
    assert z.shape == (1, 3, 8, 8)
    vae = made.network(load_file(out)).get_submodule("vqvae")
    assert torch.allclose(z, vae.moments(2 * x - 1)[0] * 0.5)  # type: ignore[operator]
    assert torch.allclose(2 * prior.decode(z) - 1, vae.decode(z / 0.5), atol=1e-5)  # type: ignore[operator]
    operator = Inpainting(
        torch.rand(16, 16, generator=torch.Generator().manual_seed(1)) < 0.7, (3, 16, 16)
    )
    found = restore.solve(
        operator(x[0]), operator, noise=0.05, prior=str(out), sampler="stsl", n_steps=2
    )
    assert found.image.shape == (3, 16, 16)
    assert bool(found.image.isfinite().all())
