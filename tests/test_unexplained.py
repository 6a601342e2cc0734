"""What an answer does not explain: of k-space made with numpy's FFT, and of views of discs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from people_kspace import CLEAN, MAPS, MASK, NOISY, SHAPE, STD, TRUTH
from torch import Tensor

from restore.front_door import solve
from restore.noise import Gaussian
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.parallel_beam import ParallelBeamCT
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.real_images import RealImages
from restore.problem import Problem
from restore.unexplained import Unexplained, worst_unexplained

LINES, WEAK = (36, 45), (20, 60)
"""Of the fully sampled middle, and of every other line outside of it, little above the noise."""


def exchanged(kspace: np.ndarray, lines: tuple[int, int] = LINES) -> np.ndarray:
    found = kspace.copy()
    found[..., list(lines)] = kspace[..., list(lines[::-1])]
    return found


def tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(values.astype(np.complex64))


def looked_at(*kspace: np.ndarray, std: float = STD, times: float = 1) -> Unexplained | None:
    """The truth, so many times as bright, beside k-space of some slices."""
    y = torch.stack([tensor(k * MASK) for k in kspace])
    A = MultiCoilMRI(tensor(MAPS).expand(len(y), -1, -1, -1), torch.from_numpy(MASK))
    return worst_unexplained(
        Problem(y, A, Gaussian(std)), tensor(times * TRUTH).expand(len(y), -1, -1)
    )


def test_the_truth_explains_its_measurement():
    assert looked_at(NOISY) is None
    # Exact noise is no noise to compare with.
    A = MultiCoilMRI(tensor(MAPS), torch.from_numpy(MASK))
    assert worst_unexplained(Problem(tensor(CLEAN * MASK), A), tensor(TRUTH)) is None


def test_lines_that_were_exchanged_are_named():
    found = looked_at(NOISY, exchanged(NOISY), NOISY)
    assert found is not None
    assert found.rows is not None
    assert found.item == "1"
    assert set(found.rows.which) == set(LINES)
    assert found.rows.of == MASK.sum()
    assert found.rows.of_all > 0.9
    # Two lines exchanged: |a - b|^2 of both over |a|^2 + |b|^2.
    a, b = (CLEAN[..., n] for n in LINES)
    share = (2 * np.sum(abs(a - b) ** 2) / np.sum(abs(a) ** 2 + abs(b) ** 2)) ** 0.5
    assert found.rows.share == pytest.approx(share, rel=0.02)
    assert "2 of 48 columns of k-space are not explained" in str(found)


def test_weak_lines_are_seen_where_the_misfit_of_all_is_that_of_noise():
    found = looked_at(exchanged(NOISY, WEAK))
    assert found is not None
    assert found.rows is not None
    assert found.misfit < 1.1
    assert set(found.rows.which) == set(WEAK)
    assert found.rows.of_all > 0.7  # half of the other lines lie above the noise by chance


@pytest.mark.parametrize(("others", "said"), [(1.0, True), (1.12, False)])
def test_a_row_that_holds_little_of_what_is_left_over_is_not_named(others: float, said: bool):
    """One line of noise 1.3 times as strong, alone or where a third of the lines are a little louder."""
    louder = np.ones(SHAPE[1])
    louder[::3] = others
    louder[WEAK[0]] = 1.3
    assert (looked_at(CLEAN + louder * (NOISY - CLEAN)) is not None) == said


def test_what_is_wrong_everywhere_names_no_lines():
    """Of nearly noiseless k-space all lines are odd; of noise that is stated too low none is."""
    found = looked_at(CLEAN + (NOISY - CLEAN) / 100, std=STD / 100, times=1.2)
    assert found is not None
    assert found.share == pytest.approx(0.2, rel=0.02)
    assert found.rows is None
    louder = looked_at(NOISY, std=STD / 3)
    assert louder is not None
    assert louder.misfit == pytest.approx(3, rel=0.02)
    assert louder.rows is None


def test_less_than_a_hundredth_is_no_fault_however_weak_the_noise():
    kspace = CLEAN * 1.005 + 0.02 * (NOISY - CLEAN)
    assert looked_at(kspace, std=0.02 * STD) is None


def test_images_that_are_held_real_have_lines_too():
    A = RealImages(MultiCoilMRI(tensor(MAPS), torch.from_numpy(MASK)))
    y = torch.view_as_real(tensor(exchanged(NOISY) * MASK))
    found = worst_unexplained(Problem(y, A, Gaussian(STD)), tensor(TRUTH).real)
    assert found is not None
    assert found.rows is not None
    assert set(found.rows.which) == set(LINES)


def test_a_view_of_another_angle_is_named():
    """A disc off the axis, of which one view was turned over."""
    A = ParallelBeamCT(ParallelBeam(equispaced(30), 96, 1.0, (64, 64), 1.0))
    down, across = np.mgrid[:64, :64] - 31.5
    disc = torch.from_numpy((np.hypot(down - 10, across + 6) < 14) * 0.02).float()
    noise = torch.randn(30, 96, generator=torch.Generator().manual_seed(0))
    y = A(disc) + 0.01 * noise
    assert worst_unexplained(Problem(y, A, Gaussian(0.01)), disc) is None
    y[7] = y[7].flip(-1)
    found = worst_unexplained(Problem(y, A, Gaussian(0.01)), disc)
    assert found is not None
    assert found.rows is not None
    assert (found.rows.words, found.rows.which) == ("views", (7,))


def test_solve_names_the_lines():
    y, A = tensor(exchanged(NOISY) * MASK), MultiCoilMRI(tensor(MAPS), torch.from_numpy(MASK))
    (note,) = solve(y, A, noise=STD, sampler="cgsense").notes
    assert "does not explain the measurement" in note
    assert "the worst, counted from 0: 36, 45" in note
    assert not solve(tensor(NOISY * MASK), A, noise=STD, sampler="cgsense").notes
