"""Scans to volumes in memory: independence of chunks, units, oversampling, levels of noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from restore.datasets.scan import Scan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.datasets.stack import LazyStack
from restore.errors import ConfigError, InputError
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import ReconResult, reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler

CPU = torch.device("cpu")
SHAPE = (6, 40, 32)
# Few CG steps: with many, rounding in the network, which depends on the batch, grows a thousandfold
# on the first noise levels, because CG loses the orthogonality of its directions.
SETTINGS = {
    "dds": {"n_steps": 3, "cg_iters": 4},
    "tv": {"n_steps": 10},
    "wavelet": {"n_steps": 10},
    "cgsense": {"n_steps": 10},
}
EVERY = [("mri", s) for s in ("zerofilled", "cgsense", "wavelet", "tv", "dds")]
EVERY += [("ct", s) for s in ("fbp", "wavelet", "tv", "dds")]


@pytest.fixture(scope="module")
def scans() -> dict[str, Scan]:
    mri = simulate_mri(
        head_phantom(SHAPE), coils=4, acceleration=2, center_fraction=0.2, slices=slice(0, 5, 2)
    )
    return {"mri": mri, "ct": simulate_ct(ct_phantom(SHAPE), views=30, slices=slice(0, 5, 2))}


def solved(scan: Scan, name: str, **options) -> ReconResult:
    sampler = load_sampler(name).configured("tuned", scan, SETTINGS.get(name, {}))
    prior = load_prior("medical") if sampler.prior_kinds else None
    return reconstruct(scan, sampler, prior, ReconOptions(**options), device=CPU)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_slices_alone_are_the_slices_of_the_stack(scans, monkeypatch, kind, name):
    together = solved(scans[kind], name)
    monkeypatch.setattr("restore.pipelines.memory_plan.PIXELS_PER_CALL", 1)
    alone = solved(scans[kind], name)
    assert len(together.record["chunks"]) == 1
    assert [chunk["slices"] for chunk in alone.record["chunks"]] == [
        ["slice 0"], ["slice 2"], ["slice 4"]
    ]  # fmt: skip
    off = np.abs(alone.volume.data - together.volume.data).max()
    assert off <= 2e-5 * np.ptp(together.volume.data)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_result_has_the_place_of_the_empty_one(scans, kind, name):
    result, empty = solved(scans[kind], name).volume, scans[kind].empty_volume()
    assert result.data.dtype == np.float32
    assert result.data.shape == empty.data.shape
    np.testing.assert_array_equal(result.affine, empty.affine)
    assert (result.modality, result.units) == (empty.modality, empty.units)


def test_units_of_the_source_do_not_matter(scans):
    """Intensities a million times larger give an image a million times larger."""
    scan = scans["mri"]
    factor = 2.0**20
    louder = dataclasses.replace(
        scan,
        kspace=LazyStack(scan.kspace.shape, lambda i: scan.kspace[i] * np.float32(factor)),
        noise_std=scan.noise_std * factor,
    )
    for name in ("zerofilled", "tv", "dds"):
        quiet, loud = solved(scan, name).volume.data, solved(louder, name).volume.data
        assert np.abs(loud / factor - quiet).max() < 1e-4 * quiet.max()


def test_ct_slices_come_back_in_hu_whatever_water_is(scans):
    volume = ct_phantom(SHAPE)
    for mu_water in (0.0195, 0.025):
        scan = simulate_ct(volume, views=60, slices=slice(2, 3), mu_water=mu_water)
        data = solved(scan, "tv").volume.data
        assert np.median(data[0, :4, :4]) == pytest.approx(-1000, abs=50)
        assert data[0, 16:24, 12:20].mean() == pytest.approx(35, abs=40)


def test_oversampling_is_cut_away(scans):
    """A scan of a wider field reconstructs to the middle of it."""
    head = head_phantom(SHAPE)
    scan = simulate_mri(head, coils=2, acceleration=1, noise=0, slices=slice(2, 3))
    inner = dataclasses.replace(scan, recon_shape=(30, 20))
    result = solved(inner, "zerofilled").volume
    np.testing.assert_allclose(result.data[0], head.data[2, 5:35, 6:26], atol=2)


def test_complete_noiseless_data_give_the_image_back():
    head = head_phantom(SHAPE)
    scan = simulate_mri(head, coils=3, acceleration=1, noise=0, slices=slice(1, 4, 2))
    for name in ("zerofilled", "cgsense", "dds"):
        result = solved(scan, name, remove_phase=name != "cgsense").volume
        relative = np.linalg.norm(result.data - head.data[1:4:2]) / np.linalg.norm(head.data[1:4:2])
        assert relative < 0.03, name


def test_mean_and_deviation_over_samples(scans):
    one, two = solved(scans["mri"], "dds"), solved(scans["mri"], "dds", samples=2)
    assert one.std is None
    assert two.std is not None
    # The first of two samples is the one drawn alone: half their distance is deviation / sqrt(2).
    half = np.abs(one.volume.data - two.volume.data)
    np.testing.assert_allclose(two.std.data / 2**0.5, half, atol=1e-3 * half.max())


def test_a_level_of_noise_that_is_given_counts(scans):
    for kind in ("mri", "ct"):
        found = solved(scans[kind], "tv").volume.data
        given = solved(scans[kind], "dds", noise_std=1e-6).volume.data
        unknown = solved(scans[kind], "dds").volume.data
        assert not np.allclose(given, unknown, rtol=1e-3)
        assert found.shape == given.shape


def test_without_a_level_of_noise(scans):
    """Neither stored nor measurable: still a result."""
    mri = dataclasses.replace(scans["mri"], noise_std=None)
    assert np.isfinite(solved(mri, "dds").volume.data).all()
    ct = dataclasses.replace(scans["ct"], noise_std=None, photons=None)
    unknown = solved(ct, "dds")
    assert np.isfinite(unknown.volume.data).all()
    assert (unknown.record["noise_known"], unknown.record["noise_std"]) == (
        True,
        pytest.approx(1e5**-0.5, rel=0.3),
    )
    silent = solved(ct, "fbp", noise_std=0.0)
    assert (silent.record["noise_known"], silent.record["noise_std"]) == (False, 0.0)
    for scan in (mri, ct):
        assert np.isfinite(solved(scan, "dds", noise_std=0.0).volume.data).all()


def test_maps_that_are_not_there(scans):
    bare = dataclasses.replace(scans["mri"], maps=None)
    assert solved(bare, "zerofilled").record["maps"] == "espirit"
    with pytest.raises(ConfigError, match="--maps espirit"):
        solved(bare, "zerofilled", maps="file")


def test_kspace_of_zeros(scans):
    scan = scans["mri"]
    empty = LazyStack(scan.kspace.shape, lambda i: np.zeros(scan.kspace.shape[1:], np.complex64))
    with pytest.raises(InputError, match="zero everywhere"):
        solved(dataclasses.replace(scan, kspace=empty), "zerofilled")


def test_coupled_slices_go_together(scans, monkeypatch):
    monkeypatch.setattr("restore.pipelines.memory_plan.PIXELS_PER_CALL", 1)
    settings = {"n_steps": 2, "tv_weight": 0.01}
    sampler = load_sampler("dds").configured("tuned", scans["mri"], settings)
    result = reconstruct(scans["mri"], sampler, load_prior("medical"), ReconOptions(), device=CPU)
    assert len(result.record["chunks"]) == 1
    assert np.isfinite(result.volume.data).all()


def test_steps_are_told(scans, monkeypatch):
    monkeypatch.setattr("restore.pipelines.memory_plan.PIXELS_PER_CALL", 1)
    told = []
    sampler = load_sampler("dds").configured("tuned", scans["ct"], {"n_steps": 2})
    reconstruct(
        scans["ct"], sampler, load_prior("medical"), ReconOptions(), device=CPU,
        on_step=lambda before, size, step: told.append((before, size, step.i, step.n)),
    )  # fmt: skip
    assert told == [(k, 1, i, 2) for k in range(3) for i in range(2)]


@pytest.mark.parametrize(
    ("seconds", "steps"), [(8.0, [2, 3, 3]), (6.5, [2, 2, 2]), (0.5, [1, 1, 1]), (30.0, [3, 3, 3])]
)
def test_chunks_share_a_time_limit(scans, monkeypatch, seconds, steps):
    """Each has its share of what is left, none is left out; a step takes a second of the clock here."""
    monkeypatch.setattr("restore.pipelines.memory_plan.PIXELS_PER_CALL", 1)
    sampler, now = load_sampler("tv")(n_steps=3), [0.0]

    def passing(before, size, step):
        now[0] += 1

    options = ReconOptions(time_limit=seconds, trace=True)
    found = reconstruct(
        scans["ct"], sampler, None, options, device=CPU, on_step=passing, clock=lambda: now[0]
    )
    ended = [[k, 3] if k < 3 else None for k in steps]
    assert [chunk.get("ended_after") for chunk in found.record["chunks"]] == ended
    assert [chunk["step"] + 1 for chunk in found.record["chunks"]] == steps
    assert len(found.record["curve"]) == max(steps)
    assert np.isfinite(found.volume.data).all()
    told = [note for note in found.record["notes"] if "time limit" in note]
    assert len(told) == any(ended)
    assert found.record["time_limit"]["repeatable"] is not any(ended)
    plain = reconstruct(scans["ct"], sampler, None, ReconOptions(), device=CPU)
    same = np.array_equal(found.volume.data, plain.volume.data)
    assert same is not any(ended)
