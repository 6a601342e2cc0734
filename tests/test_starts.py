"""Chosen starts: the choice against its closed form on a Gaussian prior, the field of noise, the table, refusals.

With eta 0 dds is affine: result = P n + Q y + q with n its first noise. For x ~ N(m, C), y = A x + std e the expected
squared error of a start n is ||P n + (Q A - I) m + q||^2 + tr((Q A - I) C (Q A - I)^T) + std^2 tr(Q Q^T), from dense
matrices that the package has no part in.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError, InputError, NotFoundError
from restore.front_door import solve, solve_problem
from restore.method import Method
from restore.noise import Gaussian
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.image.downsample import Downsample
from restore.operators.image.inpainting import Inpainting
from restore.priors.analytic import GaussianPrior
from restore.priors.store import bundled, read_card
from restore.problem import Problem
from restore.randomness import LaidDraws
from restore.registry import load_sampler
from restore.samplers.base import Planned
from restore.samplers.dds import DDS
from restore.starts import (
    ChosenStart,
    Entry,
    best,
    bundled_starts,
    found_in,
    left_out_gain,
    read_starts,
    replaced,
    start_of,
    write_starts,
)

SIDE, STD = 8, 0.1
PIXELS = SIDE**2
CHAIN = DDS(n_steps=6, sigma_start=1.0, sigma_end=0.05, eta=0.0, gamma=1.0, turns=False)
CANDIDATES, IMAGES = 6, 400
# A mean over 400 images of a fixed seed: five of its own standard errors
STANDARD_ERRORS = 5.0
AFFINE = 1e-5  # the fields of noise are float32; everything else is float64, 1e-7 seen


def operator() -> Downsample:
    return Downsample((SIDE, SIDE), 2, "area", torch.empty(0, dtype=torch.float64))


def gaussian() -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of smooth images."""
    at = np.stack(np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij"), -1).reshape(-1, 2)
    distance = np.square(at[:, None] - at[None]).sum(-1)
    return 0.5 + 0.1 * np.sin(np.arange(PIXELS)), 0.04 * np.exp(-distance / 8) + 1e-3 * np.eye(PIXELS)  # fmt: skip


def affine() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """P, Q, q of the chain, and A."""
    mean, covariance = gaussian()
    eye = torch.eye(PIXELS, dtype=torch.float64).reshape(-1, SIDE, SIDE)
    a = operator()(eye).flatten(1).mT.numpy()
    levels = np.array([level.sigma for level in CHAIN.levels()])
    p, q, c = levels[0] * np.eye(PIXELS), np.linalg.pinv(a), np.zeros(PIXELS)
    for i, s in enumerate(levels):
        shrink = covariance @ np.linalg.inv(covariance + s**2 * np.eye(PIXELS))
        w = s**2 / STD**2
        data = np.linalg.inv(np.eye(PIXELS) + w * a.T @ a)
        x0 = shrink @ p, shrink @ q, mean + shrink @ (c - mean)
        hat = data @ x0[0], data @ (x0[1] + w * a.T), data @ x0[2]
        if i + 1 == len(levels):
            return *hat, a
        e = [(state - part) / s for state, part in zip((p, q, c), x0, strict=True)]
        p, q, c = (h + levels[i + 1] * d for h, d in zip(hat, e, strict=True))
    raise AssertionError("there are levels")


def fields(tile: int) -> np.ndarray:
    """The first noise of each candidate, (K, pixels)."""
    like = torch.empty(SIDE, SIDE, dtype=torch.float64)
    starts = [ChosenStart(k, tile).draws(("0",)) for k in range(CANDIDATES)]
    return torch.stack([draws.normal_like(like, 2) for draws in starts]).flatten(1).numpy()


def measured(count: int) -> tuple[np.ndarray, Tensor]:
    """Images (count, H, W) of the prior, and what is measured of them."""
    mean, covariance = gaussian()
    rng = np.random.default_rng(4)
    x = mean + rng.standard_normal((count, PIXELS)) @ np.linalg.cholesky(covariance).T
    truth = x.reshape(count, SIDE, SIDE)
    clean = operator()(torch.from_numpy(truth))
    return truth, clean + STD * torch.from_numpy(rng.standard_normal(tuple(clean.shape)))


def prior() -> GaussianPrior:
    mean, covariance = gaussian()
    return GaussianPrior(
        torch.from_numpy(mean).reshape(SIDE, SIDE), covariance=torch.from_numpy(covariance)
    )


def restored(y: Tensor, start: str, **how) -> np.ndarray:
    found = solve_problem(
        Problem(y, operator(), Gaussian(STD)), prior=prior(), sampler=CHAIN, chosen_start=start, **how
    )  # fmt: skip
    return found.image.numpy()


def test_the_search_finds_the_start_of_least_expected_error():
    tile = 4
    p, q, c, a = affine()
    mean, covariance = gaussian()
    truth, y = measured(IMAGES)
    left = q @ a - np.eye(PIXELS)
    constant = np.trace(left @ covariance @ left.T) + STD**2 * np.trace(q @ q.T)
    noise = fields(tile)
    expected = np.square(noise @ p.T + left @ mean + c).sum(1) + constant
    images = [restored(y, f"{k}:{tile}") for k in range(CANDIDATES)]
    predicted = noise[2] @ p.T + y.flatten(1).numpy() @ q.T + c
    np.testing.assert_allclose(images[2].reshape(IMAGES, -1), predicted, rtol=0, atol=AFFINE)
    errors = np.stack([np.square(found - truth).sum((1, 2)) for found in images])
    uncertain = errors.std(1, ddof=1) / IMAGES**0.5
    assert (np.abs(errors.mean(1) - expected) < STANDARD_ERRORS * uncertain).all()
    assert np.ptp(expected) > STANDARD_ERRORS * uncertain.max()  # else there is nothing to choose
    assert best(errors) == int(expected.argmin())
    gain = left_out_gain(errors)
    assert gain is not None
    assert abs(gain - (expected.mean() - expected.min())) < STANDARD_ERRORS * uncertain.max()


def test_a_start_is_the_same_whatever_the_seed_the_batch_and_the_name():
    _, y = measured(3)
    whole = restored(y, "5:4", seed=1)
    assert np.array_equal(whole, restored(y, "5:4", seed=2))
    # The same noise; float64 sums of a batch in another order, some hundred terms.
    np.testing.assert_allclose(restored(y[1:2], "5:4")[0], whole[1], rtol=0, atol=1e-12)
    assert not np.array_equal(whole, restored(y, "6:4"))
    drawn = restored(y, "drawn", seed=1), restored(y, "drawn", seed=2)
    assert not np.array_equal(*drawn)


def test_a_field_is_laid_over_images_of_any_size():
    ids = ("a", "b")
    small, large = (LaidDraws(3, ids, 4).normal_like(torch.empty(2, *s), 2) for s in ((3, 5), (9, 16)))  # fmt: skip
    assert torch.equal(small[0], small[1])
    assert torch.equal(small, large[:, :3, :5])
    assert torch.equal(large[:, :4, :4], large[:, 4:8, 8:12])
    assert torch.equal(
        large[:, :4, :4], -large[:, 4:8, 12:]
    )  # the first sign of the sequence that is turned
    draws = LaidDraws(3, ids, 4)
    first, second = (draws.normal_like(torch.empty(2, 3, 8, 8), 3) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0, 0], first[0, 1])  # channels have noise of their own
    pair = LaidDraws(3, ids, 64).normal_like(torch.empty(2, 64, 64, dtype=torch.complex128), 2)
    assert pair.dtype == torch.complex128
    # Deviations of 4096 draws are uncertain by 1 in 90
    assert float(pair[0].real.std()) == pytest.approx(1, abs=0.06)
    assert float(pair[0].imag.std()) == pytest.approx(1, abs=0.06)
    with pytest.raises(ValueError, match="laid over images"):
        draws.normal_like(torch.empty(2, 8), 1)


def test_the_fields_repeat_at_no_distance():
    """The sum of products of r with itself at a distance d stays far below their number, other than of a period."""
    count, tile = 64, 2
    column = LaidDraws(3, ("a",), tile).normal_like(torch.empty(1, count * tile, 1), 2)[0, ::tile, 0]  # fmt: skip
    signs = (column / column[0]).round()
    assert set(signs.tolist()) == {1.0, -1.0}
    together = [float((signs[d:] * signs[: count - d]).mean()) for d in range(1, count // 2)]
    assert (
        max(map(abs, together)) < 0.4
    )  # 0.22 seen; 1 where the same field comes again at that distance


def test_no_generator_but_its_own_is_touched():
    state = torch.random.get_rng_state()
    _, y = measured(1)
    restored(y, "5:4")
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_result_says_what_its_start_was():
    _, y = measured(1)
    problem = Problem(y, operator(), Gaussian(STD))
    found = solve_problem(problem, prior=prior(), sampler=CHAIN, chosen_start="5:4")
    assert found.provenance["start"] == {"noise": "5:4"}
    assert "start" not in solve_problem(problem, prior=prior(), sampler=CHAIN).provenance


@pytest.mark.parametrize(
    ("start", "how", "said"),
    [
        ("5:4", {"samples": 3}, "3 samples with it would be the same image 3 times"),
        ("5:4", {"sampler": "split"}, "split takes no chosen start"),
        (
            "5:4",
            {"sampler": "diffpir", "preset": "dpir"},
            "diffpir draws no noise with these settings",
        ),
        ("5:4", {"sampler": "tv", "prior": None}, "tv takes no chosen start"),
        ("5:4", {"z_noise": -0.5}, "dds couples slices"),
        ("best", {}, "it is drawn, best-of, a table"),
        ("5:0", {}, "a side of 1..4096"),
        ("5:9999", {}, "a side of 1..4096"),
        ("best-of", {}, "name the prior .* instead of a model in memory"),
    ],
)
def test_what_cannot_be_is_refused(start, how, said):
    _, y = measured(1)
    asked = {"sampler": "dds", "prior": prior()} | how
    with pytest.raises(ConfigError, match=said):
        solve(y, operator(), noise=STD, chosen_start=start, **asked)


def test_volumes_are_refused():
    geometry = ParallelBeam.covering(shape=(6, 6), views=4)
    volume = Problem(
        torch.zeros(2, *geometry.sinogram_shape), ParallelBeamCT(geometry), Gaussian(1.0)
    )
    assert not volume.has_volumes  # slices
    stacked = dataclasses.replace(
        Problem(torch.zeros(4, 6, 6), Inpainting(torch.ones(6, 6), (4, 6, 6)), Gaussian(1.0)),
        planes=(0,),
    )
    with pytest.raises(ConfigError, match="laid over slices and pictures"):
        solve_problem(stacked, prior=prior(), sampler=CHAIN, chosen_start="5:4")


def entry(**changes) -> Entry:
    superres = Planned("image", "superres")
    method = Method.of(
        load_sampler("resshift").configured("tuned", superres, {}), superres,
        "natural-restore", str(read_card("natural-restore")["sha256"]),
    )  # fmt: skip
    return dataclasses.replace(
        Entry(method, "image", "superres", ChosenStart(7, 16), {"candidates": 4}), **changes
    )


def test_a_start_is_found_where_everything_matches(tmp_path):
    table = tmp_path / "starts.json"
    write_starts(table, [entry()])
    assert read_starts(table) == [entry()]
    superres = Planned("image", "superres")
    sampler = load_sampler("resshift").configured("tuned", superres, {})
    start = start_of(str(table), sampler, "natural-restore", superres, 1)
    assert start is not None
    assert start.text == "7:16"
    assert start.record == {"noise": "7:16", "table": "starts.json", "for": "superres", "candidates": 4}  # fmt: skip
    assert start_of("drawn", sampler, "natural-restore", superres, 8) is None


@pytest.mark.parametrize(
    ("method", "operator", "said"),
    [
        ({"weights": "0"}, Planned("image", "superres"), "for the weights of 'natural-restore'"),
        ({"sampler": "rddm"}, Planned("image", "superres"), "for rddm with 'natural-restore'"),
        ({}, Planned("image", "deblur"), "for resshift on deblur; .* images PHOTOGRAPHS .*--tasks deblur"),
        ({"settings": {"n_steps": 9}}, Planned("image", "superres"), "for these settings of resshift on superres"),
        ({}, Planned("ct"), "for resshift on CT; `restore bench starts ct-sparse-view VOLUMES -o"),
    ],
)  # fmt: skip
def test_a_miss_names_what_differs_and_the_command(method, operator, said):
    asked = dataclasses.replace(entry().method, **method)
    with pytest.raises(ConfigError, match=said):
        found_in(Path("starts.json"), [entry()], asked, operator)


def test_a_newer_start_replaces_the_one_it_stands_for():
    newer, other = entry(start=ChosenStart(9, 16)), entry(task="deblur")
    assert replaced([entry(), other], [newer]) == [other, newer]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.update(kind="factors"), "is no table of starts"),
        (lambda t: t.update(entries=3), "is no table of starts"),
        (lambda t: t["entries"][0].pop("start"), "entry 1 is damaged"),
        (lambda t: t["entries"][0]["start"].update(seed="7"), "no whole numbers"),
        (lambda t: t["entries"][0]["start"].update(tile=0), "entry 1 is damaged"),
        (lambda t: t["entries"][0]["sampler"]["settings"].update(n_steps=9), "not those of the fingerprint"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_refused(tmp_path, change, said):
    table = tmp_path / "starts.json"
    write_starts(table, [entry()])
    content = json.loads(table.read_text())
    change(content)
    table.write_text(json.dumps(content))
    with pytest.raises(InputError, match=said):
        read_starts(table)


def test_a_table_that_is_not_there_names_its_command(tmp_path):
    with pytest.raises(NotFoundError, match="`restore bench starts` makes one"):
        read_starts(tmp_path / "none.json")


def test_the_bundled_table_is_for_the_bundled_weights_and_the_tuned_presets():
    weights = {read_card(name)["sha256"]: name for name in bundled()}
    entries = read_starts(bundled_starts())
    assert entries
    for one in entries:
        assert weights[one.method.weights] == one.method.prior
        operator = Planned(one.kind, one.task)
        sampler = load_sampler(one.method.sampler).configured("tuned", operator, {})
        start = start_of("best-of", sampler, one.method.prior, operator, 1)
        assert start == one.start
        assert one.found["images"] >= 6
