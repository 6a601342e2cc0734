"""Priors of structured noise against brute force: Bayes' rule over all ways to be hit, dense covariances, Tweedie."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from restore.errors import ConfigError
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.priors.group_sparse import GroupSparse
from restore.priors.off_bins import OffBins
from restore.priors.second import Seen
from restore.priors.structured import STRUCTURES, Numbers, second_unknown
from restore.priors.veil import Veil

EXACT = 1e-10  # float64: sums over at most 8 ways to be hit, of 6 numbers; 1e-15 seen
DENSE = 1e-9  # float64 against a solve of 20 x 20, condition 1e3; 1e-14 seen
SLOPE = (
    1e-5  # central differences of 1e-5 in float64: 1e-10 of truncation, 1e-11 of rounding over 1e-5
)

RATE, STD, SIGMA = 0.2, 1.5, 0.7
LEVELS = (0.005, 0.3)


def numbers(*shape: int, complex_: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(4)
    kind = torch.complex128 if complex_ else torch.float64
    return torch.randn(*shape, generator=g, dtype=kind)


def by_bayes(u: Tensor) -> Tensor:
    """E[u0 | u] of three groups of two numbers, (2, 3): the mean over all ways to be hit, each with its evidence."""
    total, weights = torch.zeros_like(u), 0.0
    for hit in itertools.product((0, 1), repeat=u.shape[1]):
        at = torch.tensor(hit, dtype=torch.float64)
        variance = at * STD**2 + SIGMA**2
        parts = torch.view_as_real(u) if u.is_complex() else u[..., None]
        v = variance[None, :, None]
        log = (-(parts**2) / (2 * v) - v.log() / 2).sum()
        log = log + (at * math.log(RATE) + (1 - at) * math.log(1 - RATE)).sum()
        total, weights = total + log.exp() * (at * STD**2 / variance) * u, weights + log.exp()
    return total / weights


@pytest.mark.parametrize("complex_", [False, True])
def test_groups_have_the_mean_that_bayes_rule_gives(complex_):
    u = numbers(2, 3, complex_=complex_)
    found = GroupSparse(STD, RATE, (-2,), torch.ones(())).estimate(u, SIGMA)
    torch.testing.assert_close(found.mean, by_bayes(u), rtol=EXACT, atol=EXACT)


def test_a_number_alone_has_the_error_that_tweedie_gives():
    """sigma^2 times the slope of the mean, for groups of one real number."""
    u, step = numbers(5), 1e-5
    sparse = GroupSparse(STD, RATE, (-2,), torch.ones(()))

    def mean(v: Tensor) -> Tensor:
        return sparse.estimate(v[None], SIGMA).mean[0]

    slope = (mean(u + step) - mean(u - step)) / (2 * step)
    root = sparse.estimate(u[None], SIGMA).root(torch.ones(1, 5, dtype=torch.float64))[0]
    torch.testing.assert_close(root**2, slope, rtol=SLOPE, atol=SLOPE)


def test_what_the_data_show_sets_a_lost_group_free():
    sparse, zero = GroupSparse(10.0, 1e-3, (-2,), torch.ones(())), torch.zeros(4, 3)
    seen = zero.clone()
    seen[:, 1] = 5.0
    found = sparse.estimate(zero, 0.1, Seen(seen, 0.1))
    assert not bool(found.mean.any())
    free = found.root(torch.ones(4, 3))[0]
    torch.testing.assert_close(free, torch.tensor([0.0, 1.0, 0.0]), rtol=0, atol=1e-3)  # 1 and p


def test_a_veil_has_the_gradient_that_differences_give():
    """Of sum g u for its unknowns; and patches have the deviation that they should, in the mean over the picture."""
    veil, step = Veil((6, 5), 0.2, 0.3), 1e-5
    theta, g = 0.5 * numbers(2, veil.unknowns), numbers(2, 6, 5)
    slopes = []
    for k in range(veil.unknowns):
        d = torch.zeros(veil.unknowns).double()
        d[k] = step
        off = (g * (veil.field(theta + d) - veil.field(theta - d))).sum((1, 2))
        slopes.append(off / (2 * step))
    found = -veil.pulled(theta, g)
    torch.testing.assert_close(found, torch.stack(slopes, -1), rtol=SLOPE, atol=SLOPE)
    modes = torch.eye(veil.unknowns).double()[2:]
    patches = (veil.field(modes) / veil.field(torch.zeros_like(modes))).log().square().sum(0)
    assert float(patches.mean()) == pytest.approx(0.16, rel=DENSE)


def test_off_bins_are_followed_nearly_along_their_rings():
    """Against the rings of single bins: by the adjoint of projection and filter alone, without the weights of views."""
    operator = ParallelBeamCT(ParallelBeam.covering(shape=(16, 16), views=24))
    bins, g = OffBins(operator, 0.01), numbers(1, 16, 16).float()
    units = torch.eye(bins.bins)[:, None, :]
    rings = operator.pinv(bins.field(units))
    exact = -(rings * g).sum((1, 2))  # none at the ends
    found = bins.pulled(units[:1], g).flatten()
    assert float(torch.cosine_similarity(exact, found, dim=0)) > 0.95  # 0.98 seen
    assert float(found.norm() / exact.norm()) == pytest.approx(1, abs=0.2)  # 0.05 seen


def scan() -> MultiCoilMRI:
    g = torch.Generator().manual_seed(3)
    maps = torch.randn(2, 3, 8, 8, generator=g, dtype=torch.complex64)
    return MultiCoilMRI(maps, torch.arange(8) % 2 == 0)


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("herringbone", scan()),
        ("zipper", scan()),
    ],
)
def test_each_kind_explains_its_own_noise_and_nothing_that_was_not_measured(name, operator):
    """A strong artefact of the kind is left as it is; nothing shows where there are no samples."""
    second = second_unknown(name, operator, Numbers(), LEVELS)
    shape = (2, *operator.out_shape)
    u = torch.zeros(shape, dtype=torch.complex64 if operator.is_complex else torch.float32)
    if name == "herringbone":
        u[..., 3, 4] = 6.0
    else:
        u = (torch.exp(2j * torch.pi * torch.arange(8) * 3 / 8)[:, None] * torch.ones(8)).expand(
            shape
        )
        u = operator.project(u)
    measured = second.operator(second.prior.estimate(u, 0.005).mean)
    torch.testing.assert_close(measured, operator.project(u), rtol=0.02, atol=1e-4)  # Wiener gains
    unknown = second.operator(second.prior.estimate(torch.full_like(u, 3.0), 0.3).mean)
    assert torch.equal(operator.project(unknown), unknown)


def test_every_kind_says_what_it_is():
    for name, kind in STRUCTURES.items():
        assert kind.what
        assert kind.usual.std
        assert (kind.usual.rate is None) == (kind.sought is not None), name


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="a rate between 0 and 1"):
        GroupSparse(1.0, 1.0, (-1,), torch.ones(()))
    with pytest.raises(ConfigError, match="expected numbers above 0"):
        Veil((4, 4), 0.5, 0.0)
