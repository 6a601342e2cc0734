"""ResShift replayed on stored noise, step by step, against the published chains in their float32."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from restore.bridges.base import Level
from restore.operators.diagonal import Identity
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.problem import Problem
from restore.samplers.resshift import ResShift

AMPLIFIED = 1e-4  # float32, and noise heads divide by a = 0.02 at the start; 6e-6 seen
SINGLE = 2e-5  # float32: some roundings of 6e-8 a step, fifteen steps; 1e-6 seen

HEADS = {
    "xstart": "x0",
    "residual": "residual",
    "epsilon": "noise",
    "epsilon_scale": "scaled-noise",
}


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Largest deviation relative to the largest value."""
    error = float((got.double() - wanted.double()).abs().max() / wanted.double().abs().max())
    assert error <= tolerance, error


def head_of(case: str) -> str:
    return next(n for n in sorted(HEADS, key=len, reverse=True) if f"_{n}_" in f"_{case}_")


class Network(FromFunction):
    """The stored runs' stand-in networks; keeps what it was shown."""

    def __init__(self, case: str, g: dict[str, Tensor]) -> None:
        answer = self.tanh if "tanh" in case else self.gauss
        super().__init__(
            answer, head=HEADS[head_of(case)], intensity=(-1.0, 1.0), bridge="resshift"
        )
        self.g, self.inputs = g, []

    def tanh(self, x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        self.inputs.append(x)
        return (torch.tanh(0.7 * (x * level.scale) + 0.3 * y - 0.05 * level.t),)

    def gauss(self, x: Tensor, level: Level, y: Tensor) -> tuple[Tensor, ...]:
        """E[x0 | x_t] in float64, from the scaled input."""
        self.inputs.append(x)
        a, c, variance = level.a, level.c, float(self.g["s"]) ** 2
        xt, y, mu = (x * level.scale).double() / level.scale, y.double(), self.g["mu0"].double()
        offset = xt - a * mu - (1 - a) * y
        x0 = mu + variance * a / (variance * a**2 + c**2) * offset
        noise = (xt - a * x0 - (1 - a) * y) / c
        answers = {"x0": x0, "residual": y - x0, "noise": noise, "scaled-noise": c * noise}
        return (answers[self.head].float(),)


def settings_of(case: str, g: dict[str, Tensor]) -> dict:
    trained = int(case[1:].split("_")[0])
    stored = {"kappa": "kappa", "power": "power", "min_noise": "min_noise_level", "etas_end": "etas_end"}  # fmt: skip
    settings = {ours: float(g[theirs]) for ours, theirs in stored.items() if theirs in g}
    return settings | {
        "trained_steps": trained,
        "n_steps": len(g["states"]),
        "respacing": "official",
        "clip": "clip" in case,
    }


def amplified(network: Network, sampler: ResShift, i: int, x0: Tensor) -> float:
    """Noise heads divide by a, 0.02 at the start: what ten float32 roundings of x become in x0, relative to x0."""
    if "noise" not in network.head:
        return 0.0
    a = sampler.schedule.level(sampler.n_steps - 1 - i).a
    return float(10 * 2**-23 * network.inputs[i].abs().max() / (a * x0.abs().max()))


@pytest.mark.traces("chain", "resshift", "chain_*")
def test_published_chains(arrays, replay, chain):
    g, case = arrays(f"resshift/{chain}"), chain.removeprefix("chain_")
    y = g["z_y"]
    if "lq" in g:  # the published run enlarges by torch's bicubic kernel; ours is handed the result
        y = F.interpolate(g["lq"], size=y.shape[-2:], mode="bicubic", align_corners=False)
        close(y, g["z_y"], SINGLE)
    problem = Problem((y + 1) / 2, Identity(tuple(y.shape[1:])))
    preset = "published-15" if case.startswith("T15") else "published"
    sampler = ResShift.configured(preset, Identity, settings_of(case, g))
    network = Network(case, g)
    prior = ConditionalPrior(network, problem.item_shape, ResShift.intensity)
    steps = list(sampler.steps(problem, prior, replay([g["noise_T"], *g["step_noise"]])))

    tolerance = AMPLIFIED if "epsilon" in case else SINGLE
    n = len(g["states"])
    assert [s.i for s in steps] == list(range(n))
    assert [s.evaluations for s in steps] == list(range(1, n + 1))
    close(network.inputs[0], g["x_T"], tolerance)
    for i, step in enumerate(steps):
        x0 = 2 * step.x0 - 1
        close(x0, g["pred_x0"][i], tolerance + amplified(network, sampler, i, g["pred_x0"][i]))
        mean = sampler.schedule.posterior_mean(network.inputs[i], x0, n - 1 - i)
        close(mean, g["means"][i], tolerance)
        close(network.inputs[i + 1] if i < n - 1 else x0, g["states"][i], tolerance)


def test_the_presets_are_the_published_settings(arrays):
    for preset, case in (("published", "T4_xstart_gauss"), ("published-15", "T15_xstart_gauss")):
        g, s = arrays(f"resshift/chain_{case}"), ResShift.configured(preset, Identity, {})
        assert (s.kappa, s.power, s.min_noise, s.etas_end) == (
            float(g["kappa"]), float(g["power"]), float(g["min_noise_level"]), float(g["etas_end"])
        )  # fmt: skip
        assert s.n_steps == s.trained_steps == int(g["steps"])
        assert s.stochastic
        assert not s.data_consistency
        assert not s.clip
