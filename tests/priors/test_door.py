"""Somebody else's denoiser at the door: what is taken as it is, what is found out, what is refused in a sentence."""

from __future__ import annotations

import functools
from collections import namedtuple

import pytest
import torch
from torch import Tensor, nn

from restore.errors import RestoreError
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.door import recognised, tried
from restore.priors.image_prior import ImagePrior
from restore.priors.wrappers import FromDenoiser, FromEps
from restore.samplers.toolbox.levels import vp_alphas_cumprod

LIKE = torch.zeros(1)


def shrink(x: Tensor, sigma: float) -> Tensor:
    """The exact denoiser of N(0.5, 0.3^2)."""
    gain = 0.09 / (0.09 + sigma**2)
    return 0.5 + gain * (x - 0.5)


def at_the_door(
    given: object,
    item: tuple[int, ...] = (16, 12),
    is_complex: bool = False,
    gradients: bool = False,
):
    return tried(recognised(given), item, is_complex, LIKE, gradients)  # type: ignore[arg-type]


class Vector(nn.Module):
    """Insists on sigma as a tensor (N,), as networks of the EDM family do."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.mix = nn.Conv2d(channels, channels, 1)
        nn.init.eye_(self.mix.weight[:, :, 0, 0])
        nn.init.zeros_(self.mix.bias)

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return shrink(self.mix(x), sigma[:, None, None, None])


def test_models_are_what_they_are():
    model = GaussianPrior(torch.zeros(4, 4), spectrum=1.0)
    assert recognised(model) is model
    assert recognised(ImagePrior(model, (4, 4), complex_=False)) is model
    mine = recognised(shrink)
    assert isinstance(mine, FromDenoiser)
    assert (mine.name, mine.channels, mine.intensity, mine.complex_mode) == (
        "shrink",
        0,
        (0, 1),
        "separate",
    )
    assert (mine.sigma_min, mine.sigma_max) == (0, float("inf"))


@pytest.mark.parametrize(
    ("given", "item", "channels", "form"),
    [
        (shrink, (16, 12), 1, "number"),
        (shrink, (3, 16, 12), 3, "number"),
        (functools.partial(shrink), (4, 16, 12), 4, "number"),
        (Vector(), (16, 12), 1, "vector"),
        (Vector(), (3, 16, 12), 1, "vector"),  # one channel, shown the three one by one
        (Vector(3), (3, 16, 12), 3, "vector"),
        (lambda x, sigma: Vector()(x, sigma.reshape(-1)), (16, 12), 1, "vector"),
    ],
)  # fmt: skip
def test_channels_and_the_form_of_sigma_are_found_out(given, item, channels, form):
    model, notes = at_the_door(given, item)
    assert (model.channels, model.sigma_as, notes) == (channels, form, ())
    x = torch.rand(5, channels, 16, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(x, 0.2), shrink(x, 0.2))
    each = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    torch.testing.assert_close(model(x, each), shrink(x, each[:, None, None, None]))


def test_what_is_declared_is_not_guessed():
    declared = FromDenoiser(
        Vector(), channels=1, sigma_as="vector", sigma_min=0.01, sigma_max=0.5, name="mine"
    )
    model, _ = at_the_door(declared, (3, 16, 12))
    assert (model.channels, model.name, model.sigma_max) == (1, "mine", 0.5)
    with pytest.raises(RestoreError, match=r"AttributeError|TypeError|IndexError"):
        at_the_door(FromDenoiser(Vector(), sigma_as="number"))


def test_other_intensities_are_converted():
    signed = FromDenoiser(
        lambda x, sigma: 2 * shrink((x + 1) / 2, sigma / 2) - 1, trained=(-1.0, 1.0), sigma_max=1.0
    )
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(signed(x, 0.2), shrink(x, 0.2))
    assert signed.sigma_max == 0.5


def test_a_network_of_another_precision_runs_in_its_own():
    model, _ = tried(recognised(Vector()), (16, 12), False, LIKE.double(), False)
    x = torch.rand(2, 1, 16, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert model(x, 0.2).dtype == torch.float64
    torch.testing.assert_close(model(x, 0.2), shrink(x, 0.2), rtol=1e-5, atol=1e-5)


def test_in_place_work_of_a_function_stays_its_own():
    def careless(x: Tensor, sigma: float) -> Tensor:
        return x.mul_(0.5).add_(0.25)

    model, _ = at_the_door(careless)
    x = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    kept = x.clone()
    model(x, 0.2)
    assert torch.equal(x, kept)


Output = namedtuple("Output", ["sample"])
Wide = type("UNet2DOutput", (), {"__init__": lambda self, x: setattr(self, "sample", x)})


def random_(x: Tensor, sigma: float) -> Tensor:
    return x + 0.1 * torch.randn(x.shape, generator=SPENT)


SPENT = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda x, s: (x, s), "returned a tuple of 2, expected the picture alone"),
        (lambda x, s: Wide(x), r"returned a UNet2DOutput, .*network\(x, s\)\.sample"),
        (lambda x, s: None, "returned a NoneType, expected a torch.Tensor"),
        (lambda x, s: x.numpy(), "returned a ndarray"),
        (lambda x, s: x[..., 1:], r"returned \(2, 1, 16, 11\) for \(2, 1, 16, 12\)"),
        (lambda x, s: torch.cat([x, x], 1), r"returned \(2, 2, 16, 12\)"),
        (lambda x, s: (x > 0), "torch.bool"),
        (lambda x, s: x.to(torch.complex64), "torch.complex64"),
        (lambda x, s: x / 0, "not finite"),
        (random_, "answers differently"),
        (lambda x, s: x - x.mean(0, keepdim=True), "answers differently.*mixes the pictures of a batch"),
        (lambda x: x, r"failed for x \(2, 1, 16, 12\).*TypeError"),
        (nn.Conv2d(7, 7, 3), "TypeError"),
        (Vector, "the class Vector, expected an instance of it"),
        (Denoiser, "the class Denoiser"),
        (torch.zeros(3), "expected a function or a network"),
        (3, "expected a function or a network; a bundled name"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_prior_is_named(given, words):
    with pytest.raises(RestoreError, match=words):
        at_the_door(given)


def test_a_sampler_that_follows_gradients_needs_them():
    @torch.no_grad()
    def closed(x: Tensor, sigma: float) -> Tensor:
        return shrink(x, sigma)

    assert at_the_door(closed)[1] == ()
    with pytest.raises(RestoreError, match=r"'closed' cannot be differentiated.*dds"):
        at_the_door(closed, gradients=True)
    assert at_the_door(shrink, gradients=True)[1] == ()


def test_an_answer_that_is_no_denoised_picture_is_said():
    noise = at_the_door(lambda x, sigma: (x - 0.5) / sigma)[1]
    assert "times the noise away from it; a denoiser returns the clean picture" in noise[0]
    idle = at_the_door(lambda x, sigma: x)[1]
    assert "took no noise of 0.1 out of a smooth picture" in idle[0]
    # Told timesteps of 0..1000 it would do something; told 0.1 it does nothing.
    assert at_the_door(lambda x, t: x + (0.5 - x) * min(t / 1000, 1))[1] == idle


def test_sides_that_a_network_asks_for_are_found():
    def halved(x: Tensor, sigma: float) -> Tensor:
        return nn.functional.interpolate(nn.functional.avg_pool2d(x, 16), scale_factor=16.0)

    with pytest.raises(
        RestoreError, match=r"multiples of 16: FromDenoiser\(network, multiple=16\)"
    ):
        at_the_door(halved, (30, 31))
    with pytest.raises(RestoreError) as found:
        at_the_door(lambda x, sigma: x[..., 1:], (30, 31))
    assert "multiple" not in str(found.value)


def test_own_subclasses_are_tried_too():
    class Mine(Denoiser):
        name = "mine"

        def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
            return x[..., :-1, :]

    with pytest.raises(RestoreError, match=r"'mine' returned \(2, 1, 15, 12\)"):
        at_the_door(Mine())


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: FromDenoiser(shrink, chanels=3), "no setting 'chanels', did you mean 'channels'.*: sigma_min"),
        (lambda: FromDenoiser(shrink, sigma_mx=3), "no setting 'sigma_mx', did you mean 'sigma_max'"),
        (lambda: FromEps(shrink, vp_alphas_cumprod(), level="nearest"), "did you mean 'levels'"),
        (lambda: FromEps(Vector, vp_alphas_cumprod()), "FromEps: the network is the class Vector"),
        (lambda: FromEps("net.pt", vp_alphas_cumprod()), "FromEps: the network is 'net.pt'"),
        (lambda: FromDenoiser(shrink, channels=0), "channels is a whole number of 1 or more, got 0"),
        (lambda: FromDenoiser(shrink, complex_mode="both"), "complex_mode is one of separate"),
        (lambda: FromDenoiser(shrink, sigma_as="scalar"), "expected 'number' or 'vector'"),
        (lambda: FromDenoiser(shrink, sigma_min=1.0, sigma_max=0.5), "the noise range is 1.0..0.5"),
        (lambda: FromDenoiser(shrink, trained=(1.0, 1.0)), "the trained range is 1.0..1.0"),
    ],
)  # fmt: skip
def test_wrappers_name_slips(build, words):
    with pytest.raises(RestoreError, match=words):
        build()


def test_outputs_of_wrapped_networks_are_held_to_the_same():
    wrapped = FromEps(lambda x, t: (x, t), vp_alphas_cumprod(), name="pair")
    with pytest.raises(RestoreError, match=r"'pair' returned a tuple of 2.*network\(x, s\)\[0\]"):
        at_the_door(wrapped)
