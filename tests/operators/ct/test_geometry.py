"""The description of a parallel-beam scan: values, storage, refusals, units."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from restore.errors import ConfigError
from restore.operators.ct.geometry import (
    MU_WATER_PER_MM,
    ParallelBeam,
    equispaced,
    hu_to_mu,
    mu_to_hu,
)

DOUBLE = 1e-12  # float64: one quotient and one product

SCANS = [
    ParallelBeam.covering(shape=(256, 256), views=180),
    ParallelBeam.covering(shape=(7, 9), views=4, pixel_mm=(0.5, 0.75), arc_deg=360, start_deg=3.5),
    ParallelBeam((0.1, -2.0, 7.5), 12, 0.7, (3, 5), 0.9, det_offset_mm=-0.25),
    ParallelBeam([0.3], 1, 1, (1, 1)),
]


@pytest.mark.parametrize("scan", SCANS)
def test_repr_dict_and_copies_give_the_same_scan_back(scan):
    namespace = {"ParallelBeam": ParallelBeam, "equispaced": equispaced}
    through_json = ParallelBeam.from_dict(json.loads(json.dumps(scan.to_dict())))
    as_arrays = {k: np.asarray(v) if k != "kind" else v for k, v in scan.to_dict().items()}
    same = [
        eval(repr(scan), namespace),  # noqa: S307
        through_json,
        ParallelBeam.from_dict(as_arrays),
        copy.deepcopy(scan),
    ]
    for other in same:
        assert other == scan
        assert hash(other) == hash(scan)
    assert len(repr(scan)) < 200


def test_values_are_plain_whatever_was_given():
    scan = ParallelBeam(np.linspace(0, 3, 5), np.int64(8), np.float32(1), np.array([4, 6]), 2)
    assert scan.angles == (0.0, 0.75, 1.5, 2.25, 3.0)
    assert (scan.n_det, scan.shape, scan.pixel_mm) == (8, (4, 6), (2.0, 2.0))
    assert {type(v) for v in (*scan.angles, *scan.pixel_mm, scan.det_spacing_mm)} == {float}
    assert (scan.views, scan.sinogram_shape) == (5, (5, 8))


def test_covering_sees_the_diagonal_at_unit_sampling():
    scan = ParallelBeam.covering(shape=(30, 40), views=10, pixel_mm=0.5)
    assert (scan.n_det, scan.det_spacing_mm) == (50, 0.5)
    assert scan.angles == pytest.approx([math.pi * k / 10 for k in range(10)])
    coarse = ParallelBeam.covering(shape=(30, 40), views=10, pixel_mm=0.5, det_spacing_mm=2.0)
    assert coarse.n_det == 13


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"angles": []}, "at least one view"),
        ({"angles": [0.0, math.nan]}, "finite"),
        ({"angles": ["east"]}, "expected numbers"),
        ({"n_det": 0}, "n_det"),
        ({"n_det": 2.5}, "whole number"),
        ({"det_spacing_mm": 0.0}, "above zero"),
        ({"shape": (4, 4, 4)}, "two numbers"),
        ({"shape": (4, -1)}, "shape"),
        ({"pixel_mm": (1.0, -1.0)}, "pixel_mm"),
        ({"det_offset_mm": math.inf}, "det_offset_mm"),
    ],
)
def test_values_that_describe_no_scan_are_refused(changes, words):
    good = {"angles": [0.0], "n_det": 4, "det_spacing_mm": 1.0, "shape": (4, 4)}
    with pytest.raises(ConfigError, match=words):
        ParallelBeam(**{**good, **changes})


def test_stored_geometry_with_other_keys_is_refused():
    stored = SCANS[0].to_dict()
    with pytest.raises(ConfigError, match="fan"):
        ParallelBeam.from_dict({**stored, "kind": "fan"})
    with pytest.raises(ConfigError, match="'tilt'"):
        ParallelBeam.from_dict({**stored, "tilt": 1})
    with pytest.raises(ConfigError, match="missing keys \\['n_det'\\]"):
        ParallelBeam.from_dict({k: v for k, v in stored.items() if k != "n_det"})
    with pytest.raises(ConfigError, match="at least one view"):
        ParallelBeam.covering(shape=(4, 4), views=0)


def test_hounsfield_units():
    hu = torch.tensor([-1000.0, 0.0, 1000.0], dtype=torch.float64)
    wanted = torch.tensor([0.0, 0.0195, 0.039], dtype=torch.float64)
    torch.testing.assert_close(hu_to_mu(hu), wanted)
    np.testing.assert_allclose(mu_to_hu(wanted.numpy()), hu.numpy(), atol=DOUBLE)
    assert hu_to_mu(0.0) == MU_WATER_PER_MM
    assert mu_to_hu(hu_to_mu(-3024.0, 0.02), 0.02) == pytest.approx(-3024)


def test_geometry_needs_no_torch():
    code = "import sys, restore.operators.ct.geometry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
