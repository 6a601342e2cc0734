"""Geometries of CT scans: one convention, the limit of parallel rays, storage, and refusals that teach."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest

from restore.errors import ConfigError
from restore.operators.ct.beams import Beam, ConeBeam, FanBeam, FreeBeam, ParallelBeam3D
from restore.operators.ct.geometry import ParallelBeam, equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.ct.orbits import reduced_parallel
from restore.operators.ct.views import check_sees

EXACT = 1e-12  # float64: a few products and sums of numbers of size one to a thousand

FAN = FanBeam(equispaced(6, 360), 8, 1.5, 100.0, 160.0)
CONE = ConeBeam(equispaced(6, 360), (5, 8), (2.0, 1.5), 100.0, 160.0)
PANEL = ParallelBeam3D(equispaced(6, 180), (5, 8), (2.0, 1.5), (0.3, -0.6))
FREE = FreeBeam(CONE.reduced().vectors, (5, 8))
ALL = {
    "fan": FAN,
    "arc": dataclasses.replace(FAN, detector_shape="equiangular", det_offset_mm=2.0),
    "cone": CONE,
    "turned": dataclasses.replace(
        CONE, det_offset_mm=(1.0, -2.0), source_offset_mm=(0.5, 1.0), tilt_deg=3, slant_deg=-4, skew_deg=5
    ),
    "helical": dataclasses.replace(CONE, pitch_mm=12.0),
    "parallel3d": PANEL,
    "vectors": FREE,
}  # fmt: skip


def bins_mm(beam: Beam) -> np.ndarray:
    """Every bin's place, (views, rows, columns, 3)."""
    views = beam.reduced()
    a, b = views.column_tables()
    base, along = views.basis()
    i = np.arange(views.rows) - (views.rows - 1) / 2
    ahead = views.centre[:, None] if views.parallel else views.source[:, None] + base[:, None]
    turned = 0 if views.parallel else a[:, None] * along[:, None]
    columns = ahead + turned + b[:, None] * views.u[:, None]
    return columns[:, None] + i[:, None, None] * views.v[:, None, None]


def test_the_convention_in_numbers():
    """View 0: source at -y, columns along +x; view pi/2: source at +x, columns along +y; rows along +z."""
    for t, source, right in ((0.0, (0, -100, 0), (1, 0, 0)), (math.pi / 2, (100, 0, 0), (0, 1, 0))):
        beam = dataclasses.replace(CONE, angles=(t,), det_offset_mm=(0.4, -0.7))
        views = beam.reduced()
        np.testing.assert_allclose(views.source[0], source, atol=100 * EXACT)
        place = bins_mm(beam)[0]
        middle = -0.6 * np.array(source)
        u = (3 - 3.5) * 1.5 - 0.7
        v = (4 - 2) * 2.0 + 0.4
        wanted = middle + u * np.array(right) + v * np.array([0, 0, 1])
        np.testing.assert_allclose(place[4, 3], wanted, atol=100 * EXACT)


@pytest.mark.parametrize("name", ALL)
def test_points_are_located_where_their_rays_meet_the_detector(name):
    """A point on the way to a bin is seen at that bin, at its share of the way; offsets, turns and arcs included."""
    beam, views = ALL[name], ALL[name].reduced()
    places = bins_mm(beam).reshape(len(views), -1, 3)
    for t in range(len(views)):
        points = (
            places[t] - 30 * views.source[t]
            if views.parallel
            else 0.7 * places[t] + 0.3 * views.source[t]
        )
        column, row, depth = (found[t] for found in views.locate(points))
        i, j = np.divmod(np.arange(views.rows * views.columns), views.columns)
        np.testing.assert_allclose(column, j, atol=1e3 * EXACT)
        np.testing.assert_allclose(row, i, atol=1e3 * EXACT)
        np.testing.assert_allclose(depth, 1.0 if views.parallel else 0.7, rtol=1e3 * EXACT)


@pytest.mark.parametrize("name", ALL)
def test_a_geometry_is_a_value(name):
    beam = ALL[name]
    names = {c.__name__: c for c in (FanBeam, ConeBeam, ParallelBeam3D, FreeBeam)}
    for other in (eval(repr(beam), names), copy.deepcopy(beam)):  # noqa: S307
        assert other == beam
        assert hash(other) == hash(beam)
    assert beam.to_dict()["kind"] == {"arc": "fan", "turned": "cone"}.get(name, name)
    assert beam.reduced().shape[:: 2 if beam.in_plane else 1] == beam.shape


def test_an_infinite_source_is_the_parallel_beam():
    """Bins shrunk with the magnification: the rays of today's geometry, and of the panel's."""
    far, flat = 1e9, ParallelBeam(equispaced(6, 180), 8, 1.5, (4, 4), det_offset_mm=-0.6)
    grid = VoxelGrid((4, 4), 2.0)
    corners = np.array([[3.0, 2.0, 0.0], [-4.0, 1.0, 0.0]])
    fan = FanBeam(flat.angles, 8, 1.5, far, far, det_offset_mm=-0.6)
    check_sees(fan.reduced(), grid, "fan")
    wanted, _, _ = reduced_parallel(flat).locate(corners)
    found, _, _ = fan.reduced().locate(corners)
    np.testing.assert_allclose(found, wanted, atol=1e-7)  # 3 mm over 1e9 mm
    panel, _, _ = PANEL.reduced().locate(corners)
    np.testing.assert_allclose(panel, wanted, atol=100 * EXACT)
    t = np.array(flat.angles)[:, None]
    u = corners[:, 0] * np.cos(t) + corners[:, 1] * np.sin(t)
    np.testing.assert_allclose(wanted, (u + 0.6) / 1.5 + 3.5, atol=100 * EXACT)


def test_a_helix_climbs_a_pitch_in_a_turn():
    views = dataclasses.replace(CONE, angles=equispaced(24, 720), pitch_mm=12.0).reduced()
    np.testing.assert_allclose(views.source[12, 2] - views.source[0, 2], 12.0, rtol=EXACT)
    np.testing.assert_allclose(views.source[0, 2] + views.source[-1, 2], 0.0, atol=100 * EXACT)
    np.testing.assert_allclose(views.centre[:, 2], views.source[:, 2], atol=EXACT)


def test_the_grid_in_mm():
    grid = VoxelGrid((3, 4, 6), (2.0, 0.5, 1.0), (10.0, 1.0, -1.0))
    places = grid.to_index(
        np.array([[-1 - 2.5, 1 + 0.75, 10 - 2.0], [-1 + 2.5, 1 - 0.75, 10 + 2.0]])
    )
    np.testing.assert_allclose(places, [[0, 0, 0], [2, 3, 5]], atol=100 * EXACT)
    image = VoxelGrid((4, 6), 0.5)
    assert (image.shape3, image.pitch3_mm) == ((1, 4, 6), (0.5, 0.5, 0.5))
    assert VoxelGrid(image.shape, image.voxel_mm, image.centre_mm) == image


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dataclasses.replace(FAN, angles=np.arange(0, 360, 6)), "look like degrees"),
        (lambda: dataclasses.replace(CONE, angles=np.arange(0, 1080, 30), pitch_mm=5), "look like degrees"),
        (lambda: dataclasses.replace(FAN, angles=()), "at least one view"),
        (lambda: dataclasses.replace(FAN, source_detector_mm=60.0), "detector lies before the axis"),
        (lambda: dataclasses.replace(FAN, detector_shape="bent"), "flat, equiangular"),
        (lambda: dataclasses.replace(ALL["arc"], det_spacing_mm=90.0), "mm along the arc"),
        (lambda: dataclasses.replace(CONE, detector=(5, 8, 2)), "rows, columns"),
        (lambda: dataclasses.replace(CONE, det_spacing_mm=(1.0, 0.0)), "above zero"),
        (lambda: dataclasses.replace(CONE, tilt_deg=80), "at most 60"),
        (lambda: FreeBeam([[1.0] * 11], (5, 8)), r"\(views, 12\)"),
        (lambda: FreeBeam([[1.0] * 12], (5, 8)), "view 0 .* in one plane"),
        (lambda: FreeBeam([*FREE.vectors, (math.nan,) * 12], (5, 8)), "view 6 .* not finite"),
        (lambda: VoxelGrid((4,)), "rows, columns"),
        (lambda: VoxelGrid((4, 4), (1.0, 1.0, 1.0)), "expected 2 numbers"),
    ],
)  # fmt: skip
def test_values_that_describe_no_scan_are_refused(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


def test_views_that_see_nothing_are_named():
    grid = VoxelGrid((4, 4, 4), 2.0)
    for beam in ALL.values():
        check_sees(beam.reduced(), VoxelGrid((4, 4), 2.0) if beam.in_plane else grid, "scan")
    with pytest.raises(
        ConfigError, match=r"source lies inside the volume.*5656.*check source_object_mm"
    ):
        check_sees(CONE.reduced(), VoxelGrid((4, 4, 4), 2000.0), "scan")
    beside = dataclasses.replace(CONE, det_offset_mm=(0.0, 90.0))
    with pytest.raises(ConfigError, match=r"no ray meets the volume.*column -5\d\.\d+ of 8"):
        check_sees(beside.reduced(), grid, "scan")
    wandering = FreeBeam([*FREE.vectors[:4], *beside.reduced().vectors[4:]], (5, 8))
    with pytest.raises(ConfigError, match=r"2 of 6 views see nothing of the volume \(views 4, 5\)"):
        check_sees(wandering.reduced(), grid, "scan")
