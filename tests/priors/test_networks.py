"""Networks inside models: found wherever they are called from, in eval mode for a run, copied and never moved."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import Tensor, nn

from restore.errors import ConfigError
from restore.priors.edm import build_unet_denoiser
from restore.priors.networks import copied_to, in_eval_mode, networks_in
from restore.priors.store import load_prior
from restore.priors.unet import UNetConfig
from restore.priors.wrappers import FromDenoiser, FromScore

NET = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout(0.5), nn.BatchNorm2d(1))


def through_a_global(x: Tensor, sigma: float) -> Tensor:
    return NET(x)


def twice_removed(x: Tensor, sigma: float) -> Tensor:
    return through_a_global(x, sigma)


def closure():
    network = NET
    return lambda x, sigma: network(x)


class Holder:
    def __init__(self) -> None:
        self.parts = {"net": [NET]}
        self.itself = self

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        return self.parts["net"][0](x)

    def method(self, x: Tensor, sigma: float) -> Tensor:
        return self(x, sigma)


WAYS = [
    NET, through_a_global, twice_removed, closure(), Holder(), Holder().method, functools.partial(closure()),
    lambda x, sigma, net=NET: net(x), FromDenoiser(NET), FromScore(closure()), FromDenoiser(Holder().method),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
def test_a_network_is_found_and_given_back_as_it_was(way):
    assert networks_in(way) == [NET]
    NET.train()
    NET[2].eval()  # frozen statistics, as people have them
    with in_eval_mode(way):
        assert not any(part.training for part in NET.modules())
    assert [part.training for part in NET] == [True, True, False]
    assert NET.training


def test_modes_come_back_after_an_error():
    NET.train()
    with pytest.raises(KeyError), in_eval_mode(NET):
        raise KeyError
    assert NET.training


def test_what_holds_no_network():
    assert networks_in(lambda x, sigma: x) == []
    assert networks_in({"a": [1, "b", torch.zeros(2)]}) == []


@pytest.mark.parametrize("way", [NET, FromDenoiser(NET), Holder(), Holder().method], ids=range(4))
def test_a_copy_moves_and_the_callers_network_stays(way):
    NET[0].weight.requires_grad_(False)
    twin = copied_to(way, torch.float64)
    (copied,) = networks_in(twin)
    assert {p.dtype for p in copied.parameters()} == {torch.float64}
    assert {p.dtype for p in NET.parameters()} == {torch.float32}
    assert [p.requires_grad for p in copied.parameters()] == [
        p.requires_grad for p in NET.parameters()
    ]
    assert copied[2].num_batches_tracked.dtype == torch.int64  # whole numbers stay whole
    torch.testing.assert_close(copied[0].weight.float(), NET[0].weight)
    with torch.no_grad():
        copied[0].weight.zero_()
    assert bool(NET[0].weight.any())
    NET[0].weight.requires_grad_(True)
    assert copied_to(way, torch.float32) is way
    assert copied_to(way, "cpu") is way


def test_what_a_copy_cannot_reach_is_said():
    with pytest.raises(ConfigError, match=r"function around a network.*network\.to"):
        copied_to(closure(), torch.float64)


def test_models_copy_themselves():
    prior = build_unet_denoiser(UNetConfig(1, (8,), (1,)), name="tiny")
    twin = prior.to(torch.float64)
    assert twin is not prior
    assert (twin.name, twin.sigma_data) == (prior.name, prior.sigma_data)
    assert next(prior.network.parameters()).dtype == torch.float32
    assert next(twin.network.parameters()).dtype == torch.float64
    for name in ("natural-restore", "natural-latent"):
        model = load_prior(name)
        assert {p.dtype for n in networks_in(model.to(torch.float64)) for p in n.parameters()} == {
            torch.float64
        }
        assert {p.dtype for n in networks_in(model) for p in n.parameters()} == {torch.float32}
