"""Where trainers put a state dict: wrappings and prefixes are taken off, averages are told from raw weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from restore.errors import ConfigError, InputError
from restore.pipelines.model_files import Conversion, convert
from restore.priors.checkpoints.reading import read_checkpoint
from restore.priors.families.known import FAMILIES, family_of
from restore.priors.families.meaning import Meaning
from restore.priors.store import load_prior

GOLDEN = Path(__file__).parents[2] / "golden" / "checkpoints"
State = dict[str, Tensor]


def moved(state: State) -> State:
    return {n: t + 1 if t.is_floating_point() else t for n, t in state.items()}


def parallel(state: State) -> State:
    return {f"module.{n}": t for n, t in state.items()}


WRAPPINGS: dict[str, tuple[Callable[[State], Any], str]] = {
    "bare": (lambda s: s, ""),
    "DataParallel": (parallel, ""),
    "compiled": (lambda s: {f"_orig_mod.{n}": t for n, t in s.items()}, ""),
    "lightning": (lambda s: {"state_dict": s, "epoch": 3, "callbacks": {}}, ""),
    "InverseBench": (lambda s: {"net": moved(s), "ema": s, "optimizer": {}, "scheduler": {}}, ""),
    "raw beside EMA": (lambda s: {"net": s, "ema": moved(s)}, "raw"),
    "EMA by name": (lambda s: {"model": moved(s), "model_ema": s}, "ema"),
    "EMA of BasicSR": (lambda s: {"params": moved(s), "params_ema": parallel(s)}, ""),
}


@pytest.mark.parametrize("name", WRAPPINGS)
@pytest.mark.parametrize("kind", ["adm", "edm"])
def test_wrappings_are_taken_off(kind: str, name: str, tmp_path: Path):
    file = {"adm": "adm_additive_convresample.pt", "edm": "songunet_ddpmpp.pt"}[kind]
    state = torch.load(GOLDEN / kind / file, weights_only=True)
    wrap, which = WRAPPINGS[name]
    torch.save(wrap(state), tmp_path / "x.pt")
    found = read_checkpoint(tmp_path / "x.pt")
    assert [k for k in FAMILIES if family_of(k).claims(found)] == [kind, "tensors"]
    weights = family_of(kind).weights(found, which)
    assert weights.keys() == state.keys()
    assert all(torch.equal(weights[n].read(), state[n]) for n in list(state)[::9])


def test_safetensors_of_a_network_are_one_too(tmp_path: Path):
    state = torch.load(GOLDEN / "edm" / "songunet_ddpmpp.pt", weights_only=True)
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "x.safetensors")
    weights = family_of("edm").weights(read_checkpoint(tmp_path / "x.safetensors"), "")
    assert weights.keys() == state.keys()


def test_an_entry_that_is_not_there(tmp_path: Path):
    state = torch.load(GOLDEN / "edm" / "songunet_ddpmpp.pt", weights_only=True)
    torch.save({"net": state, "step": 1}, tmp_path / "x.pt")
    with pytest.raises(ConfigError, match="has no ema weights"):
        family_of("edm").weights(read_checkpoint(tmp_path / "x.pt"), "ema")
    with pytest.raises(ConfigError, match="'ema' or 'raw', not 'best'"):
        family_of("edm").weights(read_checkpoint(tmp_path / "x.pt"), "best")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda shadow: shadow[:-1], "156 tensors|155 tensors"),
        (lambda shadow: shadow[::-1], "another shape"),
        (lambda shadow: {"a": 1}, "no list 'shadow_params'"),
    ],
    ids=["one short", "turned round", "no list"],
)
def test_an_ema_list_that_does_not_fit(change: Callable[[Any], Any], words: str, tmp_path: Path):
    whole = torch.load(GOLDEN / "ncsnpp" / "checkpoint_ve_continuous.pth", weights_only=True)
    whole["ema"]["shadow_params"] = change(whole["ema"]["shadow_params"])
    torch.save(whole, tmp_path / "x.pth")
    found, family = read_checkpoint(tmp_path / "x.pth"), family_of("ncsnpp")
    with pytest.raises(InputError, match=words):
        family.weights(found, "")
    assert len(family.weights(found, "raw")) == 158


def test_an_ema_list_with_the_frozen_features_too(tmp_path: Path):
    whole = torch.load(GOLDEN / "ncsnpp" / "checkpoint_ve_continuous.pth", weights_only=True)
    frozen = torch.full_like(whole["model"]["module.all_modules.0.W"], 7.0)
    whole["ema"]["shadow_params"] = [frozen, *whole["ema"]["shadow_params"]]
    torch.save(whole, tmp_path / "x.pth")
    weights = family_of("ncsnpp").weights(read_checkpoint(tmp_path / "x.pth"), "ema")
    assert torch.equal(weights["all_modules.0.W"].read(), frozen)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path):
    state = torch.load(GOLDEN / "edm" / "songunet_ddpmpp.pt", weights_only=True)
    state["model.map_layer0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(InputError, match=r"not finite \(model\.map_layer0\.bias\)"):
        convert(Conversion(tmp_path / "x.pt", "edm", tmp_path / "x.safetensors"))
    assert not (tmp_path / "x.safetensors").exists()


def test_half_precision_is_kept_in_the_file_and_computed_in_single(tmp_path: Path):
    state = torch.load(GOLDEN / "edm" / "songunet_ddpmpp.pt", weights_only=True)
    torch.save({n: t.half() for n, t in state.items()}, tmp_path / "x.pt")
    said = Meaning((-1.0, 1.0), label=0)
    settings = {"precond": "EDMPrecond"}
    out = tmp_path / "x.safetensors"
    convert(Conversion(tmp_path / "x.pt", "edm", out, settings=settings, meaning=said))
    assert {t.dtype for t in load_file(out).values()} == {torch.float16}
    prior = load_prior(out)
    answer = prior(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), 0.1)
    assert answer.dtype == torch.float32
    assert bool(answer.isfinite().all())
