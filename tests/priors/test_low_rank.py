"""Low-rank factors of convolutions: nothing before they are fitted, W + up down after, never in the prior itself."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from restore.errors import ConfigError, WeightsError
from restore.priors.adapter_files import load_adapter, save_adapter
from restore.priors.analytic import GaussianPrior
from restore.priors.edm import EDMDenoiser, build_unet_denoiser
from restore.priors.low_rank import (
    Adapter,
    adapted,
    factors_of,
    fresh_adapter,
    layers,
    trainable,
)
from restore.priors.unet import UNetConfig

TINY = UNetConfig(widths=(8, 12), blocks=(1, 1), embedding=8)
ROUNDED = 1e-5  # float32: a sum of rank products beside one of merged weights, over some hundred inputs; 6e-7 seen


def prior(config: UNetConfig = TINY) -> EDMDenoiser:
    """With weights everywhere: blocks of a new network end in zeros."""
    made, g = build_unet_denoiser(config, seed=1, name="tiny"), torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in made.network.parameters():
            p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return made


def filled(adapter: Adapter) -> Adapter:
    g = torch.Generator().manual_seed(3)
    return Adapter(
        {n: (0.1 * torch.randn(up.shape, generator=g), d) for n, (up, d) in adapter.factors.items()}
    )


def image() -> torch.Tensor:
    return torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(4))


def test_a_fresh_adapter_changes_no_bit_and_says_its_size():
    model = prior()
    adapter = fresh_adapter(model, 4, seed=0)
    assert set(adapter.factors) == set(layers(model))
    assert any("down.0" in n for n in adapter.factors)
    assert any("up.0" in n for n in adapter.factors)  # transposed convolutions too
    assert adapter.rank == 4
    assert 0 < adapter.parameters < sum(p.numel() for p in model.network.parameters())
    assert torch.equal(adapted(model, adapter)(image(), 0.3), model(image(), 0.3))
    with torch.no_grad():
        assert torch.equal(trainable(model, adapter)[0](image(), 0.3), model(image(), 0.3))
    again = fresh_adapter(model, 4, seed=0)
    other = fresh_adapter(model, 4, seed=1)
    for name, (_, down) in adapter.factors.items():
        assert torch.equal(down, again.factors[name][1])
        assert not torch.equal(down, other.factors[name][1])


def test_merged_and_trained_factors_are_the_same_map_and_the_prior_stays():
    model = prior()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    adapter = filled(fresh_adapter(model, 4, seed=0))
    twin, sums = trainable(model, adapter)
    answer = twin(image(), 0.3)
    assert answer.requires_grad
    assert {p.requires_grad for s in sums.values() for p in s.parameters()} == {True}
    free = [p for p in twin.network.parameters() if p.requires_grad]
    assert len(free) == 2 * len(sums)  # the factors alone
    merged = adapted(model, factors_of(sums))(image(), 0.3)
    torch.testing.assert_close(merged, answer, rtol=ROUNDED, atol=ROUNDED)
    assert not torch.equal(merged, model(image(), 0.3))
    answer.sum().backward()
    for k, v in model.network.state_dict().items():
        assert torch.equal(v, before[k])


def test_a_file_brings_the_same_factors_back(tmp_path):
    model = prior()
    adapter = filled(fresh_adapter(model, 2, seed=0))
    save_adapter(tmp_path / "a.safetensors", adapter, {"prior": {"name": "tiny"}})
    back, record = load_adapter(tmp_path / "a.safetensors")
    assert record["prior"] == {"name": "tiny"}
    assert torch.equal(adapted(model, back)(image(), 0.3), adapted(model, adapter)(image(), 0.3))


def test_what_does_not_fit_is_refused(tmp_path):
    adapter = fresh_adapter(prior(), 4, seed=0)
    other = prior(dataclasses.replace(TINY, widths=(8, 16)))
    with pytest.raises(WeightsError, match="another network than that of the prior 'tiny'"):
        adapted(other, adapter)
    with pytest.raises(ConfigError, match="no convolutions that could be adapted"):
        fresh_adapter(GaussianPrior(torch.zeros(4, 4), spectrum=1.0), 4, seed=0)
    broken = {
        "text": b"no tensors", "nan": None,
    }  # fmt: skip
    (tmp_path / "text.safetensors").write_bytes(broken["text"] or b"")
    name, (up, down) = next(iter(adapter.factors.items()))
    save_adapter(tmp_path / "nan.safetensors", Adapter({name: (up * torch.nan, down)}), {})
    for word in broken:
        with pytest.raises(WeightsError, match="not an adapter of `restore recon --adapt fit`"):
            load_adapter(tmp_path / f"{word}.safetensors")
