"""RDDM's schedules, forward process, posterior, heads and losses against the released code's numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from torch import Tensor

from restore.bridges import rddm
from restore.bridges.base import Level, mix
from restore.bridges.rddm import HEADS, RDDMSchedule
from restore.errors import ConfigError

SINGLE = 1e-5  # stored in float32: a few roundings of 6e-8; 3e-7 seen
DOUBLE = 1e-9  # float64: sums over a thousand times; 1e-15 seen


@pytest.fixture(scope="session")
def stored(arrays):
    def load(name: str) -> dict[str, Tensor]:
        return {k: v.double() for k, v in arrays(f"rddm/{name}").items()}

    return load


def close(got: Tensor, wanted: Tensor, tolerance: float = SINGLE) -> None:
    """Relative to the largest value."""
    assert got.shape == wanted.shape
    error = float((got.double() - wanted.double()).abs().max() / wanted.double().abs().max())
    assert error <= tolerance, error


@pytest.mark.parametrize("length", [20, 1000])
@pytest.mark.parametrize("sum_scale", [0.01, 0.1, 1.0])
def test_default_schedules(stored, length, sum_scale):
    g, s = stored("schedules"), RDDMSchedule(length, sum_scale)
    ours = {
        "alphas": s.alphas, "alphas_cumsum": s.A, "betas2": s.betas2, "betas": s.betas2.sqrt(),
        "betas2_cumsum": s.B2, "betas_cumsum": s.B,
        "posterior_mean_coef1": s.posterior[0], "posterior_mean_coef2": s.posterior[1],
        "posterior_mean_coef3": s.posterior[2], "posterior_variance": s.posterior[3],
    }  # fmt: skip
    for name, values in ours.items():
        assert values.dtype == torch.float64
        close(values, g[f"T{length}_ss{sum_scale}/{name}"])
    one_minus = g[f"T{length}_ss{sum_scale}/one_minus_alphas_cumsum"]
    close(s.a[:-1], one_minus[:-1])
    assert (float(s.a[-1]), float(one_minus[-1])) == (0.0, pytest.approx(1e-6))


@pytest.mark.parametrize("kind", ["decreased", "increased", "average"])
def test_linear_weights(stored, kind):
    wanted = stored("schedules")[f"linear_T1000/{kind}"]
    torch.testing.assert_close(rddm.weights(kind, 1000), wanted, rtol=DOUBLE, atol=0)


@pytest.mark.parametrize("ratio", [0.3, 1, 3])
@pytest.mark.parametrize("kind", ["decreased", "increased", "average", "normal"])
def test_power_family(stored, kind, ratio):
    wanted = stored("schedules")[f"powerlaw_T1000/{kind}_ratio{ratio}"]
    power = ratio if kind in ("decreased", "increased") else None
    got = rddm.weights(kind, 1000, power)
    torch.testing.assert_close(got, wanted, rtol=SINGLE, atol=0)
    assert float(got.sum()) == pytest.approx(1, abs=DOUBLE)
    if power is not None:
        assert float(got[0 if kind == "increased" else -1]) == 0


def test_values_of_the_specification():
    s, ddpm = RDDMSchedule(1000, 1.0), RDDMSchedule(1000, 1.0, "ddpm", "ddpm")
    printed = {
        "1.998002e-3": s.alphas[0], "9.99001e-4": s.alphas[500], "1.998e-6": s.alphas[999],
        "0.7507492": s.A[500], "0.00141351": s.B[0], "0.5012492": s.B[500], "0.9990005": s.B[998],
        ".001996": s.posterior[1][998], "1.33200e-6": s.posterior[3][1],
        "5.00083e-5": ddpm.A[0], "0.9936472": ddpm.A[999], "0.0100008": ddpm.B[0],
        "0.9999798": ddpm.B[999],
    }  # fmt: skip
    for text, got in printed.items():
        one_digit = 10.0 ** Decimal(text).as_tuple().exponent
        assert float(got) == pytest.approx(float(text), abs=one_digit)
    assert float(s.A[999]) == 1
    assert float(s.betas2[0]) == pytest.approx(1.998e-6, abs=0.5e-9)


@pytest.mark.parametrize(
    ("length", "steps", "wanted"),
    [
        (1000, 5, (999, 799, 599, 399, 199, -1)),
        (50, 7, (49, 41, 34, 27, 20, 13, 6, -1)),
        (20, 20, tuple(range(19, -2, -1))),
        (1000, 1, (999, -1)),
    ],
)
def test_times(length, steps, wanted):
    assert RDDMSchedule(length).times(steps) == wanted


def test_times_from_an_earlier_start():
    assert RDDMSchedule(1000).times(5, 899) == (899, 719, 539, 359, 179, -1)


def test_forward_and_posterior(stored):
    g, s = stored("forward_T20_ss0.5"), RDDMSchedule(20, 0.5)
    x0, y = g["x0"], g["x_in"]
    for t in range(20):
        x = s.forward(x0, y, g["eps"][t], torch.tensor([t, t]))
        close(x, g["x_t"][t])
        torch.testing.assert_close(x, mix(x0, y, g["eps"][t], s.level(t)), rtol=DOUBLE, atol=DOUBLE)
        of_x, of_r, of_x0, variance = (v[t] for v in s.posterior)
        close(of_x * g["x_t"][t] + of_r * (y - x0) + of_x0 * x0, g["post_mean"][t])
        assert float(variance) == pytest.approx(float(g["post_var"][t]), rel=SINGLE)


def test_forward_takes_a_time_per_sample(generator):
    x0, y, n = torch.randn(3, 2, 4, 4, 4, generator=generator, dtype=torch.float64).unbind(0)
    s = RDDMSchedule(30)
    x = s.forward(x0, y, n, torch.tensor([3, 29]))
    for k, t in enumerate((3, 29)):
        torch.testing.assert_close(x[k], mix(x0[k], y[k], n[k], s.level(t)))


def test_unit_stride_posterior_is_the_step_of_eta_one(generator):
    x0, y, n = torch.randn(3, 4, 4, generator=generator, dtype=torch.float64).unbind(0)
    s = RDDMSchedule(30, 0.7)
    for t in range(1, 30):
        here, there = s.level(t), s.level(t - 1)
        x = mix(x0, y, n, here)
        exact = rddm.Prediction(y - x0, n, x0)
        of_x, of_r, of_x0, variance = (float(v[t]) for v in s.posterior)
        mean = of_x * x + of_r * (y - x0) + of_x0 * x0
        assert rddm.reverse_variance(here, there, 1.0) == pytest.approx(variance, rel=DOUBLE)
        for update in ("use_pred_noise", "use_x_start"):
            got = rddm.reverse(x, exact, here, there, variance=variance, update=update)
            torch.testing.assert_close(got, mean, rtol=DOUBLE, atol=DOUBLE)
        z = torch.ones_like(x)
        got = rddm.reverse(x, exact, here, there, z, update="special_eta_1")
        torch.testing.assert_close(got, mean + variance**0.5, rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("rule", ["rddm", "ddim"])
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_exact_predictions_keep_the_marginal(generator, rule, eta):
    """Mean and variance of the next state are those of the forward process (equation 0.2 of the bridge family)."""
    x0, y, n, z = torch.randn(4, 5, 5, generator=generator, dtype=torch.float64).unbind(0)
    s = RDDMSchedule(100, 0.5)
    for t, u in ((99, 60), (60, 20), (20, 0)):
        here, there = s.level(t), s.level(u)
        v = rddm.reverse_variance(here, there, eta, rule)
        assert 0 <= v <= there.c**2
        got = rddm.reverse(
            mix(x0, y, n, here), rddm.Prediction(y - x0, n, x0), here, there, z, variance=v
        )
        wanted = mix(x0, y, ((there.c**2 - v) ** 0.5 * n + v**0.5 * z) / there.c, there)
        torch.testing.assert_close(got, wanted, rtol=DOUBLE, atol=DOUBLE)


@pytest.mark.parametrize("clip", ["none", "official", "wide"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_finds_the_truth(generator, head, clip):
    x0 = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64) - 0.5
    y = torch.rand(2, 3, 4, 4, generator=generator, dtype=torch.float64) - 0.5
    n = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    level = Level(500, 0.3, 0.4)
    x = mix(x0, y, n, level)
    found = rddm.predictions(head, rddm.targets(head, x0, y, n), x, y, level, clip)
    for got, wanted in zip(found, (y - x0, n, x0), strict=True):
        torch.testing.assert_close(got, wanted, rtol=DOUBLE, atol=DOUBLE)


def test_wide_clamp_leaves_a_full_residual_alone():
    x0, y = -0.9 * torch.ones(1, 1, 2, 2), 0.9 * torch.ones(1, 1, 2, 2)
    level = Level(0, 0.5, 0.1)
    x = mix(x0, y, torch.zeros_like(x0), level)
    outs = {clip: rddm.predictions("residual", (y - x0,), x, y, level, clip)
            for clip in ("none", "official", "wide")}  # fmt: skip
    assert torch.equal(outs["wide"].residual, outs["none"].residual)
    assert float(outs["official"].residual.max()) == 1
    assert float(outs["official"].x0.mean()) == pytest.approx(-0.1)


def test_a_noise_head_where_nothing_is_left():
    x = y = torch.ones(1, 1, 2, 2)
    for clip in ("none", "wide"):
        with pytest.raises(ConfigError, match="start_time=899"):
            rddm.predictions("noise", (x,), x, y, Level(999, 0.0, 1.0), clip)
    found = rddm.predictions("noise", (0.5 * x,), x, y, Level(999, 0.0, 1.0), "official")
    assert float(found.x0[0, 0, 0, 0]) == -1  # -0.5 / 1e-6, clamped


@pytest.mark.parametrize("head", [h for h in HEADS if h != "x0"])
@pytest.mark.parametrize("norm", [1, 2])
def test_stored_losses(stored, head, norm):
    g, s = stored("losses_T1000_ss1"), RDDMSchedule(1000, 1.0)
    x0, y, t = g["x0"], g["x_in"], g["t"].long()
    x, when = s.forward(x0, y, g["noise"], t), t.reshape(-1, 1, 1, 1) / 1000
    out = torch.tanh(0.8 * x - 0.5 * y + 0.3 * when), torch.tanh(0.4 * x + 0.6 * y - 0.2 * when)
    out = out if "+" in head else out[:1]
    per_sample = rddm.loss(head, out, x0, y, g["noise"], norm=norm)
    assert per_sample.shape == (2,)
    wanted = float(g[HEADS[head] + ("" if norm == 1 else "_l2")])
    assert float(per_sample.mean()) == pytest.approx(wanted, rel=SINGLE)


def test_loss_of_the_clean_image(generator):
    x0, y, n, out = torch.randn(4, 2, 3, 4, 4, generator=generator).unbind(0)
    wanted = (out - x0).abs().mean((1, 2, 3))
    torch.testing.assert_close(rddm.loss("x0", (out,), x0, y, n), wanted)
    torch.testing.assert_close(
        rddm.loss("x0", (out,), x0, y, n, norm=2), (out - x0).square().mean((1, 2, 3))
    )


KINDS = [(k, None) for k in ("decreased", "increased", "average", "normal", "ddpm")]
KINDS += [
    (k, p) for k in ("decreased", "increased") for p in (0.3, 3.0)
]  # the others know no power


@pytest.mark.parametrize(("kind", "power"), KINDS)
def test_schedules_descend_to_a_clean_image(kind, power):
    s = RDDMSchedule(200, 1.0, kind, kind, power, power)
    for values in (s.alphas, s.betas2, s.a, 1 - s.B2):
        assert float(values.min()) >= 0
    assert all(bool(torch.isfinite(v[1:]).all()) for v in s.posterior)
    assert [float(v[0]) for v in s.posterior] == [0, 0, 1, 0]
    if kind != "ddpm":
        assert (float(s.a[-1]), float(s.B2[-1])) == (0, pytest.approx(1))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"length": 1}, "length"),
        ({"sum_scale": 0.0}, "sum_scale"),
        ({"sum_scale": 1.5}, "sum_scale"),
        ({"alpha": "cosine"}, "cosine"),
        ({"alpha_power": 0.0}, "power"),
        ({"beta": "average", "beta_power": 1.0}, "power"),
        ({"beta": "ddpm"}, "sum_scale=1"),
    ],
)
def test_what_makes_no_schedule(settings, says):
    with pytest.raises(ConfigError, match=says):
        RDDMSchedule(**settings)


def test_unknown_names():
    x = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ConfigError, match="unknown head 'velocity'"):
        rddm.predictions("velocity", (x,), x, x, Level(0, 0.5, 0.5))
    with pytest.raises(ConfigError, match="unknown head"):
        rddm.targets("velocity", x, x, x)
    with pytest.raises(ConfigError, match="norm"):
        rddm.loss("x0", (x,), x, x, x, norm=3)
    with pytest.raises(ConfigError, match="no weights"):
        rddm.weights("ddpm", 10)
