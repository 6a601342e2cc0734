"""Choosing a prior: which pairs fit by what a model says of itself, what "auto" means, and that cards come first."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, WeightsError
from restore.priors import choosing
from restore.priors.analytic import GaussianPrior
from restore.priors.base import Denoiser
from restore.priors.choosing import chosen, fit, name_of
from restore.priors.conditional import ConditionalPrior, FromFunction
from restore.priors.demand import Demand
from restore.priors.image_prior import ImagePrior
from restore.priors.latent import LatentPrior
from restore.priors.matching import check
from restore.priors.store import bundled, load_prior
from restore.priors.traits import Traits, card_traits, model_traits
from restore.scaling import PEAK_RULE, PICTURE_RULE, WINDOW_RULE

DENOISER, CHAIN = ("denoiser",), ("conditional",)
SCAN = Demand("dds", DENOISER, "mri", item_shape=(8, 8), is_complex=True)
GREY = Demand("dds", DENOISER, item_shape=(1, 8, 8))
COLOUR = Demand("dds", DENOISER, item_shape=(3, 8, 8))


def asking(demand: Demand, **changes: object) -> Demand:
    return dataclasses.replace(demand, **changes)  # type: ignore[arg-type]


def test_images_of_another_kind_than_the_training_had_are_said():
    """A card says of what and by which rule; one that does not is believed."""
    ours = {"CT": WINDOW_RULE, "picture": PICTURE_RULE}
    (note,) = check(Traits("mine", "denoiser", scaling=ours), SCAN)
    assert f"'mine' was trained on CT ({WINDOW_RULE}), picture ({PICTURE_RULE}), and" in note
    assert PEAK_RULE in note
    assert check(Traits("mine", "denoiser", scaling={"MR": PEAK_RULE}), SCAN) == ()
    (note,) = check(Traits("mine", "denoiser", scaling={"MR": "maximum"}), SCAN)
    assert "MR (maximum)" in note
    assert check(Traits("mine", "denoiser"), SCAN) == ()


@pytest.mark.parametrize(
    ("channels", "mode", "shape", "is_complex", "advice"),
    [
        (3, "separate", (8, 8), False, "'medical'"),
        (3, "separate", (8, 8), True, "'medical'"),
        (2, "separate", (3, 8, 8), False, "'natural'"),
        (3, "separate", (4, 8, 8), False, "without the fourth channel"),
        (2, "channels", (8, 8), False, "'medical'"),
        (1, "channels", (8, 8), True, "'medical'"),
        (1, "separate", (2, 3, 8, 8), False, "'medical'"),
        (1, "separate", (8,), False, "'medical'"),
    ],
)
def test_channels_that_cannot_work_are_refused(channels, mode, shape, is_complex, advice):
    model = Traits("mine", "denoiser", channels, complex_mode=mode)
    with pytest.raises(ConfigError, match=f"'mine' has {channels} channels.*{advice}"):
        check(model, asking(SCAN, item_shape=shape, is_complex=is_complex))


@pytest.mark.parametrize(
    ("kind", "channels", "shape", "is_complex", "words"),
    [
        ("conditional", 2, (3, 8, 8), False, "cannot serve real images"),
        ("latent", 3, (2, 8, 8), False, "cannot serve real images"),
        ("latent", 3, (8, 8), True, "encodes real images; use a pixel prior"),
    ],
)
def test_channels_of_other_kinds(kind, channels, shape, is_complex, words):
    asked = Demand("stsl", (kind,), item_shape=shape, is_complex=is_complex)
    with pytest.raises(ConfigError, match=words):
        check(Traits("mine", kind, channels), asked)
    assert check(Traits("mine", kind, channels), asking(asked, item_shape=(8, 8), is_complex=False)) == ()  # fmt: skip


@pytest.mark.parametrize("count", [3, 4])
def test_channels_one_by_one_are_said(count):
    (note,) = check(Traits("medical", "denoiser"), asking(COLOUR, item_shape=(count, 8, 8)))
    assert f"'medical' has one channel: the {count} channels are restored one by one" in note
    assert check(Traits("medical", "denoiser"), GREY) == ()
    assert check(Traits("natural", "denoiser", 3), COLOUR) == ()


@pytest.mark.parametrize(
    ("known", "asked", "outcome"),
    [
        ((0.002, 40.0), (0.005, 0.3), ""),
        ((0.002, 40.0), (0.005, 157.4), ""),  # images are drowned there anyway
        ((0.002, 40.0), (0.0015, 0.3), ""),  # less than can be seen
        ((0.005, 0.3), (0.005 * (1 - 1e-7), 0.3 * (1 + 1e-7)), ""),  # rounding of float32
        (
            (0.01, 40.0),
            (0.005, 0.3),
            "valid from noise of 0.01, dds asks for noise of 0.005 to 0.3",
        ),
        ((0.005, 0.01), (0.005, 0.3), "refused"),
        ((0.005, 0.2), (0.005, 0.3), "refused"),
        ((0.005, 0.3), (0.005, 0.301), "refused"),
        ((0.1, 40.0), (0.005, 0.3), "refused"),
        ((0.5, 1.0), (0.005, 0.3), "refused"),
    ],
)
def test_noise_ranges(known, asked, outcome):
    model = Traits("mine", "denoiser", sigma_range=known)
    demand = asking(GREY, levels=asked)
    if outcome == "refused":
        ends = f"{known[0]:.3g} to {known[1]:.3g}"
        with pytest.raises(ConfigError, match=f"'mine' is valid for noise of {ends}.*dds asks"):
            check(model, demand)
    else:
        notes = check(model, demand)
        assert (len(notes) == 1 and outcome in notes[0]) if outcome else notes == ()


def test_noise_ranges_are_in_units_of_the_images():
    """In images of 0..100 noise of 5 is little, and a range that ends at 40 leaves them visible."""
    wide = Traits("mine", "denoiser", sigma_range=(1.0, 40.0), intensity=(0.0, 100.0))
    assert len(check(wide, asking(GREY, levels=(0.5, 30.0)))) == 1
    with pytest.raises(ConfigError, match=r"in images of 0\.\.100"):
        check(wide, asking(GREY, levels=(0.5, 60.0)))


class Ranged(Denoiser):
    name, sigma_min, sigma_max = "ranged", 0.01, 0.5

    def __init__(self) -> None:
        self.told: list[float | Tensor] = []

    def __call__(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        self.told.append(sigma)
        return x


def test_a_prior_is_never_asked_outside_its_range():
    """Also by a sampler that does not say before at which levels it will ask."""
    model = Ranged()
    prior = ImagePrior(model, (4, 4), complex_=False)
    x = torch.zeros(4, 4)
    prior(x, 0.5 * (1 + 1e-6))
    prior(x, 0.3)
    prior(x, 0.001)
    assert model.told == [0.5 * (1 + 1e-6), 0.3, 0.01]
    with pytest.raises(ConfigError, match=r"valid for noise of 0\.01 to 0\.5.*asked at 0\.6"):
        prior(x, 0.6)


@pytest.mark.parametrize(
    ("traits", "changes", "words"),
    [
        (Traits("r", "conditional"), {}, "denoiser prior, and 'r' is a conditional one; try the bundled 'medical'"),
        (Traits("d", "denoiser"), {"kinds": CHAIN}, "conditional prior, and 'd' is a denoiser one; train one for"),
        (Traits("r", "denoiser", tasks=("superres",)), {}, "'r' was trained for superres, not for this measurement"),
        (Traits("r", "conditional", bridge="rddm"), {"kinds": CHAIN, "bridge": "mrs"}, "use the sampler rddm"),
        (Traits("r", "conditional", head="noise"), {"kinds": CHAIN, "heads": ("x0",)}, "'noise'; dds takes x0"),
        (
            Traits("r", "conditional", head="noise"), {"kinds": CHAIN, "intensity": (-1.0, 1.0)},
            "only models that predict x0",
        ),
    ],
)  # fmt: skip
def test_pairs_that_cannot_work_are_refused(traits, changes, words):
    with pytest.raises(ConfigError) as caught:
        check(traits, asking(SCAN, **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("demand", "name"),
    [
        (SCAN, "medical"), (asking(SCAN, kind="ct", is_complex=False), "medical"), (GREY, "medical"),
        (COLOUR, "natural"),
        (asking(COLOUR, kinds=CHAIN), "natural-restore"), (asking(GREY, kinds=("latent",)), "natural-latent"),
        (asking(COLOUR, kinds=("distilled",)), "natural-inpaint"),
        (asking(COLOUR, kinds=("distilled",), task="superres"), "natural-x4"),
        (asking(COLOUR, kinds=("denoiser", "latent")), "natural"),
        (asking(GREY, item_shape=(8, 8), kinds=CHAIN), "natural-restore"),
    ],
)  # fmt: skip
def test_auto(demand, name):
    assert name_of("auto", demand) == name
    assert name_of("my.safetensors", demand) == "my.safetensors"
    with pytest.raises(ConfigError, match="needs a prior"):
        name_of(None, demand)


def test_there_is_no_bundled_conditional_prior_for_scans():
    with pytest.raises(
        ConfigError, match=r"needs a conditional prior, and no bundled one serves MultiCoilMRI.*dds"
    ):
        name_of("auto", asking(SCAN, kinds=CHAIN, operator="MultiCoilMRI"))


@pytest.mark.parametrize("name", bundled())
def test_the_card_says_what_the_model_says(name):
    assert card_traits(name) == dataclasses.replace(
        model_traits(load_prior(name)), sigma_range=card_traits(name).sigma_range
    )


def test_nothing_is_loaded_for_a_pair_that_cannot_work(monkeypatch):
    monkeypatch.setattr(choosing, "loaded", lambda name: pytest.fail("read the weights"))
    with (
        pytest.raises(ConfigError, match="needs a denoiser prior"),
        chosen("natural-restore", SCAN, torch.zeros(1)),
    ):
        pytest.fail("was chosen")
    with (
        pytest.raises(WeightsError, match="no prior 'medicine'"),
        chosen("medicine", SCAN, torch.zeros(1)),
    ):
        pytest.fail("was chosen")


def test_classical_samplers_get_none():
    with chosen("medical", asking(SCAN, kinds=()), torch.zeros(1)) as found:
        assert (found.model, found.notes) == (None, ())
    assert fit(None, SCAN) is None


def test_every_kind_of_model_becomes_the_prior_that_its_samplers_call():
    model = GaussianPrior(torch.zeros(8, 8), spectrum=1.0)
    assert isinstance(fit(model, SCAN), ImagePrior)
    assert isinstance(fit(model, asking(SCAN, kinds=("denoiser", "latent"))), LatentPrior)
    assert isinstance(fit(FromFunction(lambda x, level, y: (x,)), COLOUR), ConditionalPrior)
    assert isinstance(fit(load_prior("natural-latent"), COLOUR), LatentPrior)
