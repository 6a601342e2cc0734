"""The trajectory map: its weights, its units, what it costs, and that it is large where the error is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.phantom import ct_phantom
from restore.front_door import solve
from restore.operators.diagonal import Identity
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.pieces import Piece
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.pipelines.work_folder import WorkFolder
from restore.priors.analytic import GaussianPrior
from restore.priors.store import load_prior
from restore.problem import Step
from restore.registry import load_sampler
from restore.samplers.dds import DDS
from restore.scaling import Scaling
from restore.trajectory import HALVINGS, Trajectory

SIDE = 16
EXACT = 1e-12  # float64, some ten sums of numbers of size one; 1e-16 seen
SCALED = 1e-9  # float64 through CG and ten steps, in units 1000 times larger; 1e-14 seen
CPU = torch.device("cpu")


def smooth_prior() -> GaussianPrior:
    f = torch.fft.fftfreq(SIDE, dtype=torch.float64)
    mean = torch.full((SIDE, SIDE), 0.4, dtype=torch.float64)
    return GaussianPrior(mean, spectrum=0.5 / (1 + (f[:, None] ** 2 + f**2) / 0.01))


def holes(generator: torch.Generator) -> tuple[Tensor, Inpainting]:
    operator = Inpainting(
        (torch.rand(SIDE, SIDE, generator=generator) < 0.5).double(), (SIDE, SIDE)
    )
    return operator(smooth_prior().sample(1, generator)[0, 0]), operator


def followed(estimates: list[Tensor], planned: int) -> Trajectory:
    found = Trajectory(Identity((3,)))
    for i, x in enumerate(estimates):
        found.add(Step(i, planned, 0.1, x, 0))
    return found


@pytest.mark.parametrize("planned", [7, 24])
def test_it_is_the_weighted_variance_of_the_estimates(generator, planned):
    xs = list(torch.randn(7, 3, generator=generator, dtype=torch.float64))
    found = followed(xs, planned)
    a = 1 - 0.5 ** (HALVINGS / max(planned, HALVINGS))
    weights = np.array([(1 - a) ** 6, *(a * (1 - a) ** (6 - i) for i in range(1, 7))])
    stack = np.stack([x.numpy() for x in xs])
    mean = np.average(stack, axis=0, weights=weights)
    assert weights.sum() == pytest.approx(1, abs=EXACT)
    np.testing.assert_allclose(found.mean, mean, atol=EXACT)
    variance = np.average((stack - mean) ** 2, axis=0, weights=weights)
    np.testing.assert_allclose(found.variance, variance, atol=EXACT)


def test_of_complex_images_it_is_the_magnitudes():
    turning = [torch.polar(torch.ones(3), torch.full((3,), float(i))) for i in range(5)]
    assert float(followed(turning, 5).variance.max()) < 1e-12  # float32: 1e-7 squared


def test_it_changes_nothing_and_has_the_units_of_the_image(generator):
    y, operator = holes(generator)
    how = {"prior": smooth_prior(), "sampler": DDS(n_steps=10)}
    plain = solve(y, operator, noise=0.02, **how)
    one = solve(y, operator, noise=0.02, trajectory_map=True, **how)
    assert plain.trajectory_std is None
    assert torch.equal(one.image, plain.image)
    assert one.trajectory_std.shape == one.image.shape
    many = solve(
        1000 * y, operator, noise=20, scaling=Scaling(1000), trajectory_map=True, **how
    ).trajectory_std
    torch.testing.assert_close(many, 1000 * one.trajectory_std, rtol=SCALED, atol=1000 * SCALED)


def test_of_several_samples_it_is_the_root_of_the_mean_variance(generator):
    y, operator = holes(generator)
    runs: list[list[Step]] = [[]]

    def keep(step: Step) -> None:
        runs[-1].append(step)
        if step.i == step.n - 1:
            runs.append([])

    result = solve(
        y, operator, noise=0.02, prior=smooth_prior(), sampler=DDS(n_steps=6), samples=3,
        trajectory_map=True, on_step=keep,
    )  # fmt: skip
    each = [Trajectory(operator) for _ in range(3)]
    for trail, steps in zip(each, runs, strict=False):
        for step in steps:
            trail.add(step)
    expected = (sum(t.variance for t in each) / 3) ** 0.5
    torch.testing.assert_close(result.trajectory_std, expected, rtol=EXACT, atol=EXACT)


def test_it_is_larger_where_nothing_was_measured(generator):
    y, operator = holes(generator)
    how = {"prior": smooth_prior(), "sampler": DDS(n_steps=20)}
    found = solve(y, operator, noise=0.02, trajectory_map=True, **how)
    seen = operator(torch.ones_like(y)) > 0
    assert float(found.trajectory_std[~seen].mean()) > 2 * float(found.trajectory_std[seen].mean())


def test_of_a_single_step_it_says_that_it_says_nothing():
    y = torch.rand(8, 8, generator=torch.Generator().manual_seed(1))
    found = solve(y, Identity((8, 8)), noise=0.1, prior=None, sampler="nlm", trajectory_map=True)
    assert not found.trajectory_std.any()
    assert any("trajectory map is 0 and says nothing" in note for note in found.notes)


def test_of_a_scan_it_is_in_hounsfield_units_without_their_zero():
    """A head that the bundled prior never saw: the map is no offset, and its order is that of the errors."""
    scan = simulate_ct(ct_phantom((3, 64, 64)), views=30, photons=1e5, slices=slice(1, 2))
    sampler = load_sampler("dds").configured("tuned", scan, {"n_steps": 16})
    options = ReconOptions(trajectory_map=True, precision="float32")
    found = reconstruct(scan, sampler, load_prior("medical"), options, device=CPU)
    std = found.maps["trajectory"].data
    assert std.min() >= 0
    assert std.max() < 500
    error = np.abs(found.volume.data - np.asarray(scan.reference[:]))
    order = [np.argsort(np.argsort(v.ravel())) for v in (std, error)]
    assert np.corrcoef(order)[0, 1] > 0.15  # a bar on a method, not on rounding


def test_a_piece_comes_back_from_the_disk_with_its_map(tmp_path, generator):
    stack = torch.rand(2, 3, 4, 5, generator=generator).numpy()
    work = WorkFolder(tmp_path / "o.nii.gz", "f" * 64, {})
    with work.locked():
        for first, moved in ((0, stack[0] / 7), (3, None)):
            which = range(first, first + 3)
            assert work.put(which, Piece(stack, [], [], ["a"], [], moved))
            back = work.get(which)
            np.testing.assert_array_equal(back.stack, stack)
            assert back.notes == ["a"]
            assert (back.trajectory is None) == (moved is None)
            if moved is not None:
                np.testing.assert_array_equal(back.trajectory, moved)
