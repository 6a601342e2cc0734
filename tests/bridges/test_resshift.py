"""ResShift's schedule, forward process, posterior and losses against stored traces and closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from restore.bridges.base import clean_estimate, mix
from restore.bridges.resshift import HEADS, ResShiftSchedule
from restore.errors import ConfigError

CANCELLED = 1e-11  # float64: differences of levels that are close, 7e-15 of 1e-2 seen
SINGLE = 2e-6  # float32: one product and one sum, 6e-8 each; 2e-7 seen
WEIGHTS = 1e-9  # float64: quotients by differences of levels; 5e-11 seen
VARIANCE = 1e-6  # stored in float32, 6e-8
LOSS = 1e-4  # float32: a mean of squared differences; 1e-6 seen
STATED = 2e-5  # float32, and noise heads divide by a = 0.02
DOUBLE = 1e-12  # float64: some products and one root; 1e-15 seen

STORED_HEADS = {
    "xstart": "x0",
    "residual": "residual",
    "epsilon": "noise",
    "epsilon_scale": "scaled-noise",
}
SCHEDULES = {
    "T4_k2_p03_m02": ResShiftSchedule(4),
    "T15_k2_p03_m004": ResShiftSchedule(15, min_noise=0.04),
    "T15_k05_p1_m004": ResShiftSchedule(15, kappa=0.5, power=1.0, min_noise=0.04),
    "T15_respaced5": ResShiftSchedule(15, min_noise=0.04, n_steps=5, respacing="official"),
    "T1000_k2_p03_m004": ResShiftSchedule(1000, min_noise=0.04),
}
STORED_NAMES = {
    "sqrt_etas": "sqrt_eta",
    "etas": "eta",
    "etas_prev": "eta_prev",
    "alpha": "alpha",
    "posterior_variance": "variance",
    "posterior_log_variance_clipped": "log_variance",
}


def close(got: Tensor, wanted: Tensor, tolerance: float) -> None:
    error = float((got.double() - wanted.double()).abs().max() / wanted.double().abs().max())
    assert error <= tolerance, error


@pytest.mark.parametrize("name", SCHEDULES)
def test_stored_schedules(arrays, name):
    s, g = SCHEDULES[name], arrays("resshift/schedules")
    for theirs, ours in STORED_NAMES.items():
        torch.testing.assert_close(
            getattr(s, ours), g[f"{name}/{theirs}"], rtol=CANCELLED, atol=CANCELLED
        )
    assert list(s.times) == g[f"{name}/timestep_map"].tolist()
    kept = [s.posterior_mean(torch.ones(()), torch.zeros(()), k) for k in range(s.count)]
    taken = [s.posterior_mean(torch.zeros(()), torch.ones(()), k) for k in range(s.count)]
    close(torch.stack(kept), g[f"{name}/posterior_mean_coef1"], SINGLE)
    close(torch.stack(taken), g[f"{name}/posterior_mean_coef2"], SINGLE)
    weights = {"x0": "weight_loss_mse", "residual": "weight_loss_mse"}
    for head in HEADS:
        wanted = g[f"{name}/{weights.get(head, 'weight_loss_mse_epsilon')}"]
        torch.testing.assert_close(s.loss_weight(head), wanted, rtol=WEIGHTS, atol=0)


def test_values_of_the_method_sheet():
    """Within half a unit of the last printed digit."""
    four, fifteen = ResShiftSchedule(4), ResShiftSchedule(15, min_noise=0.04)
    near = {"abs": 5e-7}
    assert four.sqrt_eta.tolist() == pytest.approx([0.1, 0.520096, 0.761382, 0.99], **near)
    assert four.eta.tolist() == pytest.approx([0.01, 0.270500, 0.579703, 0.9801], **near)
    assert four.variance.tolist() == pytest.approx([0, 0.038521, 0.577119, 0.947297], **near)
    kept = (four.eta_prev / four.eta).tolist()
    assert kept == pytest.approx([0, 0.0369685, 0.4666190, 0.5914729], abs=1e-7)
    assert four.loss_weight("x0").tolist() == pytest.approx(
        [12.97985, 12.03789, 0.246479, 0.0880898], rel=1e-5
    )
    noise = [four.level(k).c for k in range(4)]
    assert noise == pytest.approx([0.2, 1.040, 1.523, 1.98], abs=5e-4)
    etas = "0.0004 .01373 .03108 .05458 .08502 .12321 .17004 .22644 .29341 .37199 .46330 .56849 .68882 .82557 .98010"
    assert fifteen.eta.tolist() == pytest.approx([float(v) for v in etas.split()], abs=5e-6)


@pytest.mark.traces("name", "resshift", "forward_T4", "forward_T15")
def test_stored_forward_process(arrays, name):
    g, steps = arrays(f"resshift/{name}"), int(name.removeprefix("forward_T"))
    setup = {"length": steps, "kappa": float(g["kappa"]), "min_noise": {4: 0.2, 15: 0.04}[steps]}
    latent, pixel = (
        ResShiftSchedule(**setup, input_scaling="latent"),
        ResShiftSchedule(**setup, input_scaling="pixel"),
    )
    for k in range(steps):
        index = torch.full((len(g["x0"]),), k)
        x = latent.forward(g["x0"], g["y"], g["eps"][k], index)
        close(x, g["x_t"][k], SINGLE)
        close(mix(g["x0"], g["y"], g["eps"][k], latent.level(k)), g["x_t"][k], SINGLE)
        close(latent.posterior_mean(x, g["x0"], k), g["post_mean"][k], SINGLE)
        close(x * latent.level(k).scale, g["scaled_input_latent"][k], SINGLE)
        close(x * pixel.level(k).scale, g["scaled_input_pixel"][k], SINGLE)
    torch.testing.assert_close(latent.variance, g["post_var"], rtol=SINGLE, atol=VARIANCE)
    torch.testing.assert_close(
        latent.log_variance, g["post_logvar_clipped"], rtol=SINGLE, atol=SINGLE
    )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", STORED_HEADS)
def test_stored_training_losses(arrays, name, weighted):
    g, head, s = (
        arrays("resshift/training_losses_T4"),
        STORED_HEADS[name],
        ResShiftSchedule(4, input_scaling="latent"),
    )
    case, t = f"{name}_{'w' if weighted else 'u'}", g["t"]
    x = s.forward(g["x0"], g["y"], g["noise"], t)
    close(x, g[f"{case}/z_t"], SINGLE)
    levels = [s.level(int(k)) for k in t]
    scaled = torch.stack([v * level.scale for v, level in zip(x, levels, strict=True)])
    out = torch.tanh(0.7 * scaled + 0.3 * g["y"] - 0.05 * t[:, None, None, None])
    loss = s.loss(head, out, g["x0"], g["y"], g["noise"], t, weighted=weighted)
    torch.testing.assert_close(loss, g[f"{case}/mse"], rtol=LOSS, atol=0)
    for k, level in enumerate(levels):
        x0 = clean_estimate(head, (out[k],), x[k], g["y"][k], level)
        close(x0, g[f"{case}/pred_z0"][k], STATED)


@pytest.mark.parametrize("length", [2, 4, 15])
def test_both_reverse_steps_keep_the_marginals(length):
    """On x_t = a x0 + (1 - a) y + c n each step gives the same with the factors of the level below, coefficient by
    coefficient; the variance of fresh noise and of kept noise add up."""
    s = ResShiftSchedule(length)
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for k in range(1, length):
        level, below = s.level(k), s.level(k - 1)
        for x0, y in ((one, zero), (zero, one)):
            x = mix(x0, y, zero, level)
            wanted = mix(x0, y, zero, below)
            close(s.posterior_mean(x, x0, k) + 1, wanted + 1, DOUBLE)
            close(s.deterministic(x, x0, y, k) + 1, wanted + 1, DOUBLE)
        noise = mix(zero, zero, one, level)
        fresh = s.posterior_mean(noise, zero, k) ** 2 + s.variance[k]
        assert float(fresh) == pytest.approx(below.c**2, rel=DOUBLE)
        assert float(s.deterministic(noise, zero, zero, k)) == pytest.approx(below.c, rel=DOUBLE)
    for step in (s.posterior_mean(one * 7, one, 0), s.deterministic(one * 7, one, one * 3, 0)):
        assert float(step) == 1


def test_the_posterior_is_that_of_the_residual_shifting_kernel(generator):
    """Bayes: x_{t-1} | x0 from the marginal, x_t | x_{t-1} = N(x_{t-1} + alpha (y - x0), kappa^2 alpha)."""
    s = ResShiftSchedule(15, kappa=1.3, min_noise=0.04)
    x0, y, x = torch.randn(3, 5, generator=generator, dtype=torch.float64)
    for k in range(1, 15):
        before, alpha = s.level(k - 1), float(s.alpha[k])
        prior_mean, prior_var = mix(x0, y, torch.zeros(()), before), before.c**2
        seen, seen_var = x - alpha * (y - x0), s.kappa**2 * alpha
        variance = 1 / (1 / prior_var + 1 / seen_var)
        mean = variance * (prior_mean / prior_var + seen / seen_var)
        close(s.posterior_mean(x, x0, k), mean, DOUBLE)
        assert float(s.variance[k]) == pytest.approx(variance, rel=DOUBLE)


@pytest.mark.parametrize("steps", range(1, 16))
def test_sound_respacing_keeps_both_ends(steps):
    s = ResShiftSchedule(15, min_noise=0.04, n_steps=steps)
    whole = ResShiftSchedule(15, min_noise=0.04)
    assert len(set(s.times)) == steps
    assert s.times[-1] == 14
    assert steps == 1 or s.times[0] == 0
    assert torch.equal(s.eta, whole.eta[list(s.times)])
    assert s.level(steps - 1).t == 14
    assert float(s.eta[-1]) == pytest.approx(0.9801, abs=DOUBLE)


def test_official_respacing_loses_the_level_where_the_chain_starts():
    s = ResShiftSchedule(15, min_noise=0.04, n_steps=5, respacing="official")
    assert s.times == (0, 3, 6, 9, 12)
    assert 1 - float(s.eta[-1]) == pytest.approx(0.31, abs=0.005)


@pytest.mark.parametrize("head", HEADS)
def test_a_network_that_is_right_has_no_loss_and_states_x0(generator, head):
    s, k = ResShiftSchedule(4), torch.arange(4)
    x0, y, n = torch.randn(3, 4, 2, 6, 6, generator=generator, dtype=torch.float64)
    out, x = s.target(head, x0, y, n, k), s.forward(x0, y, n, k)
    assert float(s.loss(head, out, x0, y, n, k, weighted=True).max()) == 0
    for i in range(4):
        close(clean_estimate(head, (out[i],), x[i], y[i], s.level(i)), x0[i], DOUBLE)


def test_losses_of_the_two_noise_heads_are_the_same_number(generator):
    s, k = ResShiftSchedule(4), torch.arange(4)
    x0, y, n = torch.randn(3, 4, 2, 6, 6, generator=generator, dtype=torch.float64)
    wrong = n + torch.randn(n.shape, generator=generator, dtype=torch.float64)
    c = (s.kappa * s.sqrt_eta)[:, None, None, None]
    plain = s.loss("noise", wrong, x0, y, n, k)
    torch.testing.assert_close(s.loss("scaled-noise", c * wrong, x0, y, n, k), plain)


def test_losses_are_those_of_each_sample_alone_also_for_complex_images(generator):
    s, k = ResShiftSchedule(4), torch.tensor([3, 0, 2])
    x0, y, n, out = torch.randn(4, 3, 1, 6, 6, generator=generator, dtype=torch.complex64)
    together = s.loss("x0", out, x0, y, n, k, weighted=True)
    assert together.dtype == torch.float32
    for i in range(3):
        one = slice(i, i + 1)
        alone = s.loss("x0", out[one], x0[one], y[one], n[one], k[one], weighted=True)
        torch.testing.assert_close(together[one], alone)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": 1}, "two levels or more"),
        ({"length": 4, "n_steps": 5}, "5 of 4"),
        ({"length": 4, "n_steps": 0}, "n_steps must lie in 1.."),
        ({"length": 4, "kappa": 0.0}, "above 0"),
        ({"length": 4, "power": float("inf")}, "finite"),
        ({"length": 4, "min_noise": float("nan")}, "finite"),
        ({"length": 4, "min_noise": 3.0}, "etas_end"),
        ({"length": 4, "etas_end": 1.1}, "etas_end"),
        ({"length": 4, "respacing": "other"}, "official"),
        ({"length": 4, "input_scaling": "other"}, "latent"),
    ],
)
def test_refuses_what_makes_no_schedule(settings, words):
    with pytest.raises(ConfigError, match=words):
        ResShiftSchedule(**settings)


def test_refuses_unknown_heads_and_the_variance_of_one_level():
    s, x, k = ResShiftSchedule(4), torch.zeros(1, 3), torch.zeros(1, dtype=torch.long)
    with pytest.raises(ConfigError, match="scaled-noise"):
        s.loss("velocity", x, x, x, x, k)
    with pytest.raises(ConfigError, match="one level"):
        _ = ResShiftSchedule(4, n_steps=1).log_variance
