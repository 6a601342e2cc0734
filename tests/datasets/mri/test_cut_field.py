"""A field of view that cuts the object: what folds back is noted, and told apart by a second set of maps.

The phantom is made with numpy alone: an object on a wide grid, its coil images folded onto a narrow one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from people_kspace import centred_fft, columns, noise, write

from restore.datasets.mri.files.cfl import write_cfl
from restore.datasets.mri.files.maps_file import with_maps
from restore.datasets.mri.receivers.cut_field import CUT
from restore.datasets.open import open_scan
from restore.datasets.scan import Scan, SetupOptions
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.errors import ConfigError, InputError
from restore.front_door import solve_problem
from restore.operators.mri.coil_maps import espirit, field_is_cut
from restore.operators.mri.fourier import ifft2c
from restore.operators.mri.multicoil import MultiCoilMRI
from restore.operators.mri.soft_sense import SoftSenseMRI
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler

CPU = torch.device("cpu")
HEIGHT, WIDTH, WIDE, COILS, STD = 64, 56, 88, 8, 0.002
MASK = columns(WIDTH, 2, 16, 40)
BEGIN = WIDE // 2 - WIDTH // 2


def folded(reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Coil images (coils, H, W) of an object that reaches so many halves of the field of view; where it is folded."""
    y = ((np.arange(HEIGHT) - HEIGHT // 2) / (HEIGHT / 2))[:, None]
    x = ((np.arange(WIDE) - WIDE // 2) / (WIDTH / 2))[None]
    body = (y / 0.8) ** 2 + (x / reach) ** 2 < 1
    hole = ((y - 0.2) / 0.2) ** 2 + ((x - 0.3) / 0.25) ** 2 < 1
    image = body * (1 + 0.25 * np.cos(11 * y) * np.sin(9 * x)) - 0.5 * hole * body
    angles = 2 * np.pi * np.arange(COILS)[:, None, None] / COILS
    down, across = y - 1.1 * np.sin(angles), x - 1.75 * np.cos(angles)
    maps = (down + 1j * across) / (down**2 + across**2 + 0.08) ** 1.25
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0)).max()
    wide = maps * image * np.exp(1j * (0.5 * y - 0.3 * x))

    def fold(values: np.ndarray) -> np.ndarray:
        inner = values[..., BEGIN : BEGIN + WIDTH].copy()
        inner[..., WIDTH - BEGIN :] += values[..., :BEGIN]
        inner[..., : WIDE - WIDTH - BEGIN] += values[..., BEGIN + WIDTH :]
        return inner

    return fold(wide), fold(body.astype(int)) > 1


IMAGES, TWICE = folded(1.35)
SHOWN = np.sqrt((np.abs(IMAGES) ** 2).sum(0))
KSPACE = centred_fft(IMAGES) + noise(IMAGES.shape, STD)


def scan_of(tmp_path: Path) -> Scan:
    path = write(tmp_path / "a.h5", (KSPACE * MASK)[None], mask=MASK)
    return open_scan(path, kspace_order="centred")  # so much lies at the edge that it looks rolled


def errors(tmp_path: Path, sampler: str, sets: int, **settings: Any) -> tuple[float, float]:
    """Root mean square over the brightest, where the object is folded and elsewhere."""
    scan = scan_of(tmp_path)
    problem = scan.problem(range(1), CPU, SetupOptions(maps_sets=sets))
    chosen = load_sampler(sampler).configured("tuned", scan, settings)
    prior = load_prior("medical") if chosen.prior_kinds else None
    found = solve_problem(problem, sampler=chosen, prior=prior, seed=0)
    wrong = scan.in_source_units(problem.operator.shown(found.image))[0] - SHOWN
    rms = [float(np.sqrt(np.mean(wrong[where] ** 2)) / SHOWN.max()) for where in (TWICE, ~TWICE)]
    return rms[0], rms[1]


@pytest.mark.parametrize(
    ("sampler", "settings"),
    [
        ("cgsense", {"weight": 1e-4}),
        ("tv", {"n_steps": 20}),
        pytest.param("wavelet", {"n_steps": 30}, marks=pytest.mark.slow),
        pytest.param("dds", {"n_steps": 8}, marks=pytest.mark.slow),
    ],
)
def test_artefacts_of_one_set_vanish_with_two(
    tmp_path: Path, sampler: str, settings: dict[str, Any]
) -> None:
    one, two = (errors(tmp_path, sampler, sets, **settings) for sets in (1, 2))
    assert two[0] < 0.4 * one[0]
    assert two[1] < 0.65 * one[1]
    assert max(two) < 0.012


def test_the_cut_is_noted_and_a_whole_object_is_not(tmp_path: Path) -> None:
    scan = scan_of(tmp_path)
    scan.setup()
    assert sum(note.startswith(CUT) and "--maps-sets 2" in note for note in scan.notes) == 1
    again = scan_of(tmp_path)
    again.setup(SetupOptions(maps_sets=2))
    assert sum("root sum of squares of both components" in note for note in again.notes) == 1
    assert not any("--maps-sets 2" in note for note in again.notes)
    for reach, cut in ((0.8, False), (1.15, True)):
        kspace = centred_fft(folded(reach)[0]) + noise(IMAGES.shape, STD)
        assert field_is_cut(torch.from_numpy(kspace), 24) == cut


WHOLE, EDGE = 0.8, 1.0
"""Of the field of view, what the object fills. Of 1.0 it touches both edges, and folds nowhere."""


def stack(path: Path, reaches: list[float], **items: Any) -> Scan:
    slices = [centred_fft(folded(reach)[0]) + noise(IMAGES.shape, STD) for reach in reaches]
    return open_scan(write(path / "a.h5", np.stack(slices) * MASK, mask=MASK, **items))


def test_a_slice_that_is_not_the_middle_one_is_noted_too(tmp_path: Path) -> None:
    """Once, when its maps are made."""
    scan = stack(tmp_path, [WHOLE, WHOLE, EDGE])
    setup = scan.setup()
    assert not any(note.startswith(CUT) for note in scan.notes)
    setup.problem(range(2), CPU)
    assert not any(note.startswith(CUT) for note in scan.notes)
    for _ in range(2):
        setup.problem(range(3), CPU)
        assert sum(note.startswith(CUT) and "in slice 2" in note for note in scan.notes) == 1


def test_slices_that_need_two_sets_have_them_where_that_is_left_to_the_data(tmp_path: Path) -> None:
    scan = stack(tmp_path, [WHOLE, WHOLE, EDGE])
    setup = scan.setup(SetupOptions(maps_sets=0))
    sound, touching, together = (setup.problem(r, CPU) for r in (range(2), range(2, 3), range(3)))
    assert isinstance(sound.operator, MultiCoilMRI)
    assert isinstance(touching.operator, SoftSenseMRI)
    assert isinstance(together.operator, SoftSenseMRI)
    (note,) = [n for n in scan.notes if n.startswith(CUT)]
    assert "in slice 2" in note
    assert "such slices have two sets of maps" in note
    for number, operator in ((1, sound.operator), (2, together.operator)):
        wanted = scan.setup(SetupOptions(maps_sets=number)).problem(range(2), CPU).operator
        torch.testing.assert_close(operator.maps[:2], wanted.maps)


def test_maps_of_a_file_and_images_held_real_keep_one_set(tmp_path: Path) -> None:
    maps = np.stack([np.ones((COILS, HEIGHT, WIDTH), np.complex64) / COILS**0.5] * 2)
    given = stack(tmp_path, [EDGE, EDGE], sensitivity_maps=maps)
    for options in ({}, {"maps": "file"}, {"maps": "joint"}):
        setup = given.setup(SetupOptions(maps_sets=0, **options))
        assert isinstance(setup.problem(range(1), CPU).operator, MultiCoilMRI)


def test_a_reconstruction_leaves_it_to_the_data_where_it_can(tmp_path: Path) -> None:
    """Five slices go one by one: the last alone is of two components, whose sum looks like the object."""
    scan = stack(tmp_path, [WHOLE] * 4 + [EDGE])
    chosen = load_sampler("cgsense").configured("tuned", scan, {"weight": 1e-4})
    found, one, two = (
        reconstruct(scan, chosen, None, ReconOptions(maps_sets=sets), device=CPU).volume.data
        for sets in (0, 1, 2)
    )
    np.testing.assert_array_equal(found[:4], one[:4])
    np.testing.assert_array_equal(found[4], two[4])
    truth = np.sqrt((np.abs(folded(EDGE)[0]) ** 2).sum(0))
    error = [float(np.square(x[4] - truth).mean() ** 0.5 / truth.max()) for x in (one, found)]
    assert error[1] < 0.7 * error[0]


def test_slices_that_go_together_have_what_each_has_alone(tmp_path: Path) -> None:
    """Three slices make one piece, of which the middle one alone has two sets of maps."""
    scan = stack(tmp_path, [WHOLE, EDGE, WHOLE])
    assert scan.setup(SetupOptions(maps_sets=0)).alike(range(3)) == [
        range(1),
        range(1, 2),
        range(2, 3),
    ]
    assert scan.setup(SetupOptions(maps_sets=2)).alike(range(3)) == [range(3)]
    chosen = load_sampler("cgsense").configured("tuned", scan, {"weight": 1e-4})
    found, one, two = (
        reconstruct(scan, chosen, None, ReconOptions(maps_sets=sets), device=CPU).volume.data
        for sets in (0, 1, 2)
    )
    near = 1e-4 * float(
        one.max()
    )  # CG of one slice and of three end after as many steps, in single precision
    for index, wanted in ((0, one), (1, two), (2, one)):
        np.testing.assert_allclose(found[index], wanted[index], atol=near)


def test_one_set_is_settled_on_where_two_are_not_served() -> None:
    scan = simulate_mri(head_phantom((5, 24, 24)), coils=4)
    left = ReconOptions()
    assert left.maps_sets == 0
    assert left.settled(scan, load_sampler("dds")()).maps_sets == 0
    assert ReconOptions(maps_sets=2).settled(scan, load_sampler("dds")()).maps_sets == 2
    joined = load_sampler("dds").configured("volume", scan, {})
    for sampler in (load_sampler("varnet")(), load_sampler("sigpy-jsense")(), joined):
        assert left.settled(scan, sampler).maps_sets == 1
    assert ReconOptions(start="3").settled(scan, load_sampler("dds")()).maps_sets == 1
    chest = simulate_ct(ct_phantom((5, 16, 16)), views=12)
    assert left.settled(chest, load_sampler("dds")()).maps_sets == 1


def test_two_sets_are_perpendicular_smooth_and_hold_the_image() -> None:
    kspace = torch.from_numpy(KSPACE)
    maps, values = espirit(kspace, 24, sets=2)
    assert maps.shape == (2, COILS, HEIGHT, WIDTH)
    top, second = (torch.linalg.vector_norm(m, dim=0) for m in maps)
    torch.testing.assert_close(top, torch.ones_like(top))
    assert (maps[0].conj() * maps[1]).sum(
        0
    ).abs().max() < 1e-10  # float64, 8 products of numbers of 1
    inside = torch.from_numpy(TWICE)
    assert second[inside].median() > 0.9
    assert second[torch.from_numpy(SHOWN > 0.2) & (values[1] < 0.8)].max() == 0
    # Neighbours differ little: no turning from pixel to pixel.
    pairs = inside[:, 1:] & inside[:, :-1]
    along = (maps[..., 1:].conj() * maps[..., :-1]).sum(1).real
    assert along[0][pairs].min() > 0.8
    # Fully sampled, the components show what the coils' images do.
    operator = SoftSenseMRI(maps, torch.ones(WIDTH))
    shown = operator.shown(operator.pinv(kspace))
    rss = torch.linalg.vector_norm(ifft2c(kspace), dim=0)
    assert (shown - rss).norm() < 0.01 * rss.norm()


@pytest.mark.parametrize("virtual", ["", "6"])
def test_two_sets_of_a_file_are_those_that_are_estimated(tmp_path: Path, virtual: str) -> None:
    """The same components, of whitened and compressed channels too."""
    scan = scan_of(tmp_path)
    wanted = SetupOptions(maps_sets=2, remove_phase=False)
    maps = scan.problem(range(1), CPU, wanted).operator.maps[0]
    values = maps.numpy().transpose(2, 3, 1, 0)[:, :, None]
    write_cfl(tmp_path / "two.cfl", {0: HEIGHT, 1: WIDTH, 3: COILS, 4: 2}, [values])
    both = with_maps(scan_of(tmp_path), tmp_path / "two", sets=2)
    options = SetupOptions(maps="file", maps_sets=2, remove_phase=False, coils_virtual=virtual)
    both.check(options)
    found = both.problem(range(1), CPU, options)
    assert not any("unexplained" in note for note in both.notes)
    if not virtual:
        torch.testing.assert_close(found.operator.maps[0], maps)
    shown = found.operator.shown(found.operator.pinv(found.y))[0].numpy()
    assert np.sqrt(np.mean((shown - SHOWN) ** 2)) < 0.05 * SHOWN.max()
    one = with_maps(scan_of(tmp_path), tmp_path / "two")
    assert any("holds 2 sets of coil maps: the first is used" in note for note in one.notes)


def test_files_that_hold_no_two_sets(tmp_path: Path) -> None:
    ones = np.ones((HEIGHT, WIDTH, 1, COILS), np.complex64)
    write_cfl(tmp_path / "one.cfl", {0: HEIGHT, 1: WIDTH, 3: COILS}, [ones])
    with pytest.raises(InputError, match="holds 1 set"):
        with_maps(scan_of(tmp_path), tmp_path / "one", sets=2)
    with pytest.raises(ConfigError, match="read from BART's files"):
        with_maps(scan_of(tmp_path), tmp_path / "a.h5", sets=2)


def test_what_two_sets_do_not_go_with_is_refused(tmp_path: Path) -> None:
    maps = np.ones((1, COILS, HEIGHT, WIDTH), np.complex64) / COILS**0.5
    path = write(tmp_path / "a.h5", (KSPACE * MASK)[None], mask=MASK, sensitivity_maps=maps)
    scan = open_scan(path, kspace_order="centred")
    for words in ("auto", "joint"):
        with pytest.raises(ConfigError, match="from --maps FILE of two sets"):
            scan.check(SetupOptions(maps=words, maps_sets=2))
    scan.check(SetupOptions(maps="espirit", maps_sets=2))
    with pytest.raises(ConfigError, match="expected 1 or 2"):
        espirit(torch.from_numpy(KSPACE), 24, sets=3)
    with pytest.raises(ConfigError, match="expected 1 or 2"):
        espirit(torch.from_numpy(KSPACE)[:1], 24, sets=2)
