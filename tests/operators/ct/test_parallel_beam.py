"""The CT projector and filtered backprojection against definitions, formulas and other codes."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import pickle

import numpy as np
import pytest
import torch
from skimage.transform import radon

from restore.errors import ConfigError, ShapeError
from restore.operators.ct import mirrored_matrix, projection, whole_matrix
from restore.operators.ct.filtering import fbp, view_weights
from restore.operators.ct.geometry import MU_WATER_PER_MM, ParallelBeam, equispaced
from restore.operators.ct.parallel_beam import ParallelBeamCT

ROUNDED = 1e-12  # float64: sums of some hundred products, 1e-16 of each; 1e-14 seen
LINES = (
    1.5e-3  # a pixel's blob is a sum of hat functions; the bar is the discretisation, not rounding
)
BLURRED = 1.5e-2  # the average over a bin blurs the image by that much
EDGES = 1.6e-3  # the disc's edge in pixels; the bar is the discretisation, not rounding
OTHER = 1e-2  # the other projector interpolates otherwise; the bar is the discretisation
ASTRA = 5e-5  # its weights are float32, and the image has 4096 pixels; 3.8e-6 seen
MEAN = 2e-3  # the disc's edge in pixels and the filter's band limit; 3e-4 seen
RINGING = 1e-2  # the filter's ripples inside the disc; the bar is the discretisation
OUTSIDE = 1e-3  # the filter's ripples cancel in the mean far from the disc; 1e-6 seen
INVERSE = 2e-2  # what the bins' average and the views' number leave of a smooth image

DOUBLE = torch.float64
SCANS = {
    "square": ParallelBeam.covering(shape=(16, 16), views=12),
    "full-turn": ParallelBeam.covering(shape=(15, 15), views=16, arc_deg=360),
    "rectangular": ParallelBeam.covering(shape=(9, 14), views=11, pixel_mm=0.7),
    "flat-pixels": ParallelBeam.covering(shape=(12, 12), views=10, pixel_mm=(0.5, 1.25)),
    "shifted": ParallelBeam(equispaced(9, 360.0), 14, 1.1, (10, 13), 1.0, det_offset_mm=1.7),
    "fine-detector": ParallelBeam.covering(shape=(8, 8), views=6, det_spacing_mm=0.3),
    "coarse-detector": ParallelBeam.covering(shape=(13, 12), views=6, det_spacing_mm=2.6),
    "narrow-detector": ParallelBeam(equispaced(8), 5, 1.0, (12, 12)),
    "limited-arc": ParallelBeam.covering(shape=(11, 11), views=30, arc_deg=120.0),
    "repeated-views": ParallelBeam((0.4, 0.4, 0.4 + math.pi, -9.0, 30.0), 18, 1.0, (12, 12)),
    "one-pixel": ParallelBeam((0.0, 1.0), 3, 1.0, (1, 1)),
    "one-row": ParallelBeam.covering(shape=(1, 7), views=5),
}
every_scan = pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS.keys())


def joseph_by_hand(scan: ParallelBeam) -> np.ndarray:
    """The matrix straight from the definition, ray by ray: (views * n_det, ny * nx)."""
    (ny, nx), (dy, dx) = scan.shape, scan.pixel_mm
    matrix = np.zeros((scan.views, scan.n_det, ny, nx))
    for v, theta in enumerate(scan.angles):
        cos, sin = math.cos(theta), math.sin(theta)
        along_rows = abs(cos) / dy >= abs(sin) / dx
        for k in range(scan.n_det):
            u = (k - (scan.n_det - 1) / 2) * scan.det_spacing_mm + scan.det_offset_mm
            for step in range(ny if along_rows else nx):
                if along_rows:
                    y = ((ny - 1) / 2 - step) * dy
                    place, length = (u - y * sin) / cos / dx + (nx - 1) / 2, dy / abs(cos)
                else:
                    x = (step - (nx - 1) / 2) * dx
                    place, length = (ny - 1) / 2 - (u - x * cos) / sin / dy, dx / abs(sin)
                low = math.floor(place)
                for pixel, weight in ((low, 1 - place + low), (low + 1, place - low)):
                    if along_rows and 0 <= pixel < nx:
                        matrix[v, k, step, pixel] += weight * length
                    elif not along_rows and 0 <= pixel < ny:
                        matrix[v, k, pixel, step] += weight * length
    return matrix.reshape(scan.views * scan.n_det, ny * nx)


def coordinates(scan: ParallelBeam) -> tuple[torch.Tensor, torch.Tensor]:
    """x (1, nx) and y (ny, 1) of the pixel centres in mm."""
    (ny, nx), (dy, dx) = scan.shape, scan.pixel_mm
    x = (torch.arange(nx, dtype=DOUBLE) - (nx - 1) / 2) * dx
    y = ((ny - 1) / 2 - torch.arange(ny, dtype=DOUBLE)) * dy
    return x[None], y[:, None]


def distance(scan: ParallelBeam, x0: float, y0: float) -> torch.Tensor:
    """From every bin to where the point (x0, y0) is seen, (views, n_det), in mm."""
    u = (torch.arange(scan.n_det, dtype=DOUBLE) - (scan.n_det - 1) / 2) * scan.det_spacing_mm
    theta = torch.tensor(scan.angles, dtype=DOUBLE)[:, None]
    return u + scan.det_offset_mm - x0 * theta.cos() - y0 * theta.sin()


def relative(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


@every_scan
@pytest.mark.parametrize("method", ["sparse", "blocks", "matrix-free"])
def test_matrix_is_joseph_s_and_adjoint_its_transpose(scan, method, monkeypatch):
    wanted = torch.from_numpy(joseph_by_hand(scan))
    if method == "blocks":  # of scans too large for one matrix
        monkeypatch.setattr(whole_matrix, "MOST_ENTRIES", 0)
        method = "sparse"
    operator = ParallelBeamCT(scan, method=method, dtype=DOUBLE)
    pixels = torch.eye(wanted.shape[1], dtype=DOUBLE).view(-1, *scan.shape)
    bins = torch.eye(wanted.shape[0], dtype=DOUBLE).view(-1, *scan.sinogram_shape)
    scale = float(wanted.max())
    assert float((operator(pixels).flatten(1).T - wanted).abs().max()) < ROUNDED * scale
    assert float((operator.adjoint(bins).flatten(1) - wanted).abs().max()) < ROUNDED * scale


@every_scan
@pytest.mark.parametrize("method", ["sparse", "matrix-free"])
@pytest.mark.parametrize(("dtype", "bar"), [(torch.float32, 1e-6), (DOUBLE, 1e-11)])
@pytest.mark.parametrize("positive", [False, True])
def test_adjoint_passes_the_dot_test(scan, method, dtype, bar, positive, generator):
    draw = torch.rand if positive else torch.randn
    operator = ParallelBeamCT(scan, method=method, dtype=dtype)
    x = draw(3, *scan.shape, generator=generator, dtype=dtype)
    y = draw(3, *scan.sinogram_shape, generator=generator, dtype=dtype)
    ax, aty = operator(x).to(DOUBLE), operator.adjoint(y).to(DOUBLE)
    scale = float(ax.norm() * y.norm())
    assert abs(float((ax * y).sum() - (aty * x).sum())) <= bar * scale


def test_large_scan_both_methods_agree_and_are_matched(generator):
    scan = ParallelBeam.covering(shape=(128, 128), views=90)
    for dtype, bar, same in ((torch.float32, 1e-6, 1e-5), (DOUBLE, 1e-11, 1e-12)):
        sparse, free = (
            ParallelBeamCT(scan, method=m, dtype=dtype) for m in ("sparse", "matrix-free")
        )
        x = torch.rand(128, 128, generator=generator, dtype=dtype)
        y = torch.rand(90, scan.n_det, generator=generator, dtype=dtype)
        ax, aty = sparse(x), sparse.adjoint(y)
        dot = float((ax.to(DOUBLE) * y).sum())
        assert abs(dot / float((aty.to(DOUBLE) * x).sum()) - 1) < bar
        assert relative(free(x), ax) < same
        assert relative(free.adjoint(y), aty) < same


def test_gaussian_blobs_against_their_line_integrals():
    scan = ParallelBeam.covering(shape=(256, 256), views=180)
    x, y = coordinates(scan)
    image = torch.zeros(scan.shape, dtype=DOUBLE)
    integrals = torch.zeros(scan.sinogram_shape, dtype=DOUBLE)
    for x0, y0, sigma in ((30.3, -41.7, 4.5), (-50.0, 20.2, 4.5), (3.1, 70.4, 6.0)):
        image += torch.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
        edges = [torch.erf((distance(scan, x0, y0) + e) / (sigma * 2**0.5)) for e in (0.5, -0.5)]
        integrals += math.pi * sigma**2 * (edges[0] - edges[1])  # mean over a bin 1 mm wide
    projected = ParallelBeamCT(scan, method="matrix-free", dtype=DOUBLE)(image)
    assert relative(projected, integrals) < LINES
    assert relative(fbp(integrals, scan), image) < BLURRED  # the bin average blurs by this much


def test_disc_against_its_chords():
    scan, radius = ParallelBeam.covering(shape=(256, 256), views=60), 80.0
    x, y = coordinates(scan)
    fine = (torch.arange(10, dtype=DOUBLE) - 4.5) / 10
    inside = torch.stack([(x + a) ** 2 + (y + b) ** 2 < radius**2 for a in fine for b in fine])

    def area(t):  # of the disc, left of t
        t = t.clamp(-radius, radius)
        return t * (radius**2 - t**2).sqrt() + radius**2 * (t / radius).asin()

    u = distance(scan, 0, 0)
    projected = ParallelBeamCT(scan, dtype=DOUBLE)(inside.to(DOUBLE).mean(0))
    assert relative(projected, area(u + 0.5) - area(u - 0.5)) < EDGES


def test_units_are_line_integrals_in_mm():
    scan = ParallelBeam((0.0, math.pi / 2), 128, 0.5, (128, 128), 0.5)
    water = torch.full(scan.shape, MU_WATER_PER_MM)
    through = ParallelBeamCT(scan)(water)
    torch.testing.assert_close(through, torch.full((2, 128), 64 * MU_WATER_PER_MM))


def test_orientation_is_the_documented_one():
    scan = ParallelBeam(equispaced(2), 181, 1.0, (128, 128))
    image = torch.zeros(scan.shape)
    image[10, 100] = 1.0
    seen = ParallelBeamCT(scan)(image)
    u = torch.arange(181) - 90.0
    assert float((seen[0] * u).sum() / seen[0].sum()) == pytest.approx(36.5)  # x of column 100
    assert float((seen[1] * u).sum() / seen[1].sum()) == pytest.approx(53.5)  # y of row 10
    first_column = torch.zeros(scan.shape)
    first_column[:, 0] = 1.0
    down = ParallelBeamCT(ParallelBeam((0.0,), 128, 1.0, (128, 128)))(first_column)
    torch.testing.assert_close(down, 128.0 * torch.eye(128)[:1])  # on the lowest bin


def smooth_phantom(scan: ParallelBeam) -> torch.Tensor:
    x, y = coordinates(scan)
    parts = ((8.0, 5.0, 4.0), (-6.0, 9.0, 3.5), (-3.0, -11.0, 5.0))
    return sum(torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * s * s)) for a, b, s in parts)


def test_scikit_image_sees_the_same_within_its_interpolation():
    scan = ParallelBeam(equispaced(24), 65, 1.0, (65, 65))
    x, y = coordinates(scan)
    image = smooth_phantom(scan) * (x**2 + y**2 < 31**2)
    theirs = radon(image.numpy(), np.degrees(scan.angles), circle=True).T
    assert relative(ParallelBeamCT(scan, dtype=DOUBLE)(image), torch.from_numpy(theirs)) < OTHER


def test_astra_has_the_same_weights():
    astra = pytest.importorskip("astra")
    for scan in (
        ParallelBeam.covering(shape=(64, 64), views=45, arc_deg=360),
        ParallelBeam.covering(shape=(40, 56), views=31, pixel_mm=0.5, start_deg=10),
    ):
        (ny, nx), pixel = scan.shape, scan.pixel_mm[0]
        half = (-nx / 2 * pixel, nx / 2 * pixel, -ny / 2 * pixel, ny / 2 * pixel)
        volume = astra.create_vol_geom(ny, nx, *half)
        rays = astra.create_proj_geom("parallel", scan.det_spacing_mm, scan.n_det, scan.angles)
        projector = astra.create_projector("linear", rays, volume)
        matrix_id = astra.projector.matrix(projector)
        theirs = torch.from_numpy(astra.matrix.get(matrix_id).toarray())
        astra.matrix.delete(matrix_id)
        astra.projector.delete(projector)
        operator = ParallelBeamCT(scan, dtype=DOUBLE)
        image = torch.rand(scan.shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
        wanted = (theirs.to(DOUBLE) @ image.flatten()).view(operator.out_shape)
        assert relative(operator(image), wanted) < ASTRA


def test_published_operator_has_the_same_orientation(arrays):
    """A published rotate-and-sum matrix: equal where it does not interpolate, else close."""
    stored = arrays("dds/ct_ops_cg_f64")
    image = torch.zeros(23, 23, dtype=DOUBLE)
    image[3:19, 3:19] = stored["gt"][0, 0]
    theirs = stored["y"][0, 0].mT
    ours = ParallelBeamCT(ParallelBeam(equispaced(6), 23, 1.0, (23, 23)), dtype=DOUBLE)(image)
    torch.testing.assert_close(ours[[0, 3]], theirs[[0, 3]], rtol=ROUNDED, atol=ROUNDED)
    assert relative(ours, theirs) < OTHER


def test_batches_precisions_and_complex_images(generator):
    scan = SCANS["shifted"]
    single = ParallelBeamCT(scan)
    x = torch.randn(2, 19, *scan.shape, generator=generator, dtype=DOUBLE)
    wanted = torch.stack([torch.stack([single(s) for s in v]) for v in x])
    assert wanted.dtype == DOUBLE  # an image of higher precision keeps it
    torch.testing.assert_close(single(x), wanted, rtol=ROUNDED, atol=ROUNDED)
    assert single(x.float()).dtype == torch.float32
    assert single(x.bfloat16()).dtype == torch.float32
    assert single.to(torch.complex128)(x.float()).dtype == DOUBLE
    z = torch.complex(x[0], x[1])
    torch.testing.assert_close(single(z.conj()), torch.complex(wanted[0], -wanted[1]))
    assert single(x[:, :0]).shape == (2, 0, *single.out_shape)
    assert single.adjoint(wanted[0].to(torch.complex128)).dtype == torch.complex128
    assert single.pinv(z.new_zeros(4, *single.out_shape)).shape == (4, *scan.shape)


def stored(scan: ParallelBeam) -> int:
    """How many sets of matrices of a scan are held by anybody."""
    return sum(
        key[0] == scan for known in (projection._STORED, mirrored_matrix._STORED) for key in known
    )


@pytest.mark.parametrize("most", [0, whole_matrix.MOST_ENTRIES])
def test_auto_keeps_matrices_within_the_budget(most, monkeypatch):
    monkeypatch.setattr(whole_matrix, "MOST_ENTRIES", most)
    scan = SCANS["rectangular"]
    image = torch.ones(scan.shape)
    frugal, sparse = ParallelBeamCT(scan, memory_budget=1e3), ParallelBeamCT(scan)
    wanted = frugal(image)
    assert stored(scan) == 0
    torch.testing.assert_close(sparse(image), wanted)
    assert stored(scan) == 1
    assert frugal._matrices(image) is None
    assert frugal._whole(image) is None
    assert (sparse._whole(image) is None) == (most == 0)


@pytest.mark.parametrize("most", [0, whole_matrix.MOST_ENTRIES])
def test_matrices_are_shared_and_freed_with_the_last_operator(most, monkeypatch):
    monkeypatch.setattr(whole_matrix, "MOST_ENTRIES", most)
    scan = dataclasses.replace(SCANS["rectangular"], det_offset_mm=0.25)
    image = torch.ones(scan.shape)
    one, two = ParallelBeamCT(scan), ParallelBeamCT(scan, method="sparse").H
    one(image)
    two.operator(image)
    assert stored(scan) == 1
    kept = "_whole" if most else "_matrices"
    assert getattr(one, kept)(image) is getattr(two.operator, kept)(image)
    one.to(DOUBLE)(image.double())  # the copy's own, gone with it
    assert len(pickle.dumps(one)) < 10_000  # copies carry no matrices
    del one
    gc.collect()
    assert stored(scan) == 1
    del two
    gc.collect()
    assert stored(scan) == 0


@every_scan
def test_size_of_the_matrices_is_known_beforehand(scan):
    for dtype in (torch.float32, DOUBLE):
        pairs = projection.sparse_matrices(scan, dtype, torch.device("cpu"))
        stored = [t for pair in pairs for m in pair for t in (m.values(), m.col_indices())]
        assert sum(t.nbytes for t in stored) <= projection.matrix_bytes(scan, dtype)
        largest = max(m.values().numel() for pair in pairs for m in pair)
        assert largest <= projection.largest_matrix(scan)


@every_scan
def test_stored_matrices_are_the_mean_over_the_rays_of_a_bin(scan):
    x = torch.rand(5, *scan.shape, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    one, apart = (ParallelBeamCT(scan, rays_per_bin=3, method=m) for m in ("sparse", "matrix-free"))
    y = apart(x)
    assert relative(one(x), y) < ROUNDED
    assert relative(one.adjoint(y), apart.adjoint(y)) < ROUNDED
    assert one(x[:0]).shape == (0, *scan.sinogram_shape)
    assert one.adjoint(y[:0]).shape == (0, *scan.shape)
    matrix = one._whole(x)
    assert matrix is not None
    held = matrix.bins_first, matrix.pixels_first
    bytes_ = sum(t.nbytes for m in held for t in (m.values(), m.col_indices()))
    assert bytes_ <= one._bytes(DOUBLE)


SIDES = {"shape": (16, 12), "pixel_mm": 1.0}


@pytest.mark.parametrize(
    ("scan", "views", "bins", "orientations"),
    [
        (ParallelBeam(equispaced(8), 20, 1.0, **SIDES), 3, 10, 8),  # 0, 22.5 and 45 degrees
        (ParallelBeam(equispaced(8, 180, 11.25), 21, 1.0, **SIDES), 2, 11, 8),
        (ParallelBeam(equispaced(40), 20, 1.0, **SIDES, det_offset_mm=0.25), 11, 20, 4),
        (
            ParallelBeam(equispaced(24, 360), 20, 1.0, **SIDES),
            4,
            20,
            8,
        ),  # twice but for the direction
        (ParallelBeam(equispaced(24, 360), 21, 1.0, **SIDES, det_offset_mm=0.25), 4, 21, 8),
    ],
)
def test_rays_that_are_mirror_images_have_one_set_of_weights(scan, views, bins, orientations):
    """Against weights that are made view by view."""
    rays = mirrored_matrix.mirrored_rays(scan)
    assert rays is not None
    assert rays.geometry.sinogram_shape == (views, bins)
    assert len(rays.orientations) == orientations
    x = torch.rand(2, *scan.shape, generator=torch.Generator().manual_seed(3), dtype=DOUBLE)
    one, apart = (ParallelBeamCT(scan, rays_per_bin=2, method=m) for m in ("auto", "matrix-free"))
    assert isinstance(one._whole(x), mirrored_matrix.Mirrored)
    y = apart(x)
    assert relative(one(x), y) < ROUNDED
    assert relative(one.adjoint(y), apart.adjoint(y)) < ROUNDED
    assert relative(one(x[0]), y[0]) < ROUNDED
    assert relative(one.adjoint(y[1]), apart.adjoint(y[1])) < ROUNDED


@pytest.mark.parametrize(
    "scan",
    [
        ParallelBeam.covering(shape=(16, 13), views=8),  # no square with equal edges
        ParallelBeam.covering(shape=(16, 16), views=8, pixel_mm=(1.0, 0.5)),
        ParallelBeam((0.1, 0.4, 0.5, 1.3), 23, 1.0, (16, 16)),
        ParallelBeam(equispaced(8) * 2, 23, 1.0, (16, 16)),  # every view twice
    ],
)
def test_other_scans_have_one_whole_matrix(scan):
    operator = ParallelBeamCT(scan)
    operator(torch.ones(scan.shape))
    assert isinstance(operator._whole(torch.ones(scan.shape)), whole_matrix.Whole)


def test_many_images_have_one_whole_matrix_where_it_is_small(monkeypatch):
    """Their products and those of few agree, and what both matrices take is told beforehand."""
    scan = ParallelBeam.covering(shape=(16, 16), views=8)
    few = mirrored_matrix.MANY - 1
    x = torch.rand(few + 1, 16, 16, generator=torch.Generator().manual_seed(4), dtype=DOUBLE)
    operator = ParallelBeamCT(scan, rays_per_bin=2, dtype=DOUBLE)
    y = operator(x)
    assert isinstance(operator._whole(x), whole_matrix.Whole)
    assert isinstance(operator._whole(x[:few]), mirrored_matrix.Mirrored)
    assert isinstance(operator._whole(torch.complex(x, x)[:few]), whole_matrix.Whole)
    assert relative(operator(x[:few]), y[:few]) < ROUNDED
    assert relative(operator.adjoint(y[:few]), operator.adjoint(y)[:few]) < ROUNDED
    held = sum(
        m.element_size() * m._nnz() + 4 * m._nnz()
        for matrix in operator._held_whole.values()
        for m in (matrix.bins_first, matrix.pixels_first)
    )
    assert held <= operator.stored_bytes(few + 1)
    assert operator.stored_bytes(few) < operator.stored_bytes(few + 1)
    monkeypatch.setattr(whole_matrix, "MOST_ENTRIES", 0)
    assert isinstance(ParallelBeamCT(scan)._whole(x), mirrored_matrix.Mirrored)


def test_symmetric_views_share_their_weights():
    scan = ParallelBeam.covering(shape=(256, 256), views=180)
    alone = 4 * 4 * 256**2 * 180 * 1.8  # two matrices of 8-byte entries, 1.8 rays a pixel and view
    assert projection.matrix_bytes(scan, torch.float32) < alone / 3.5


def test_copies_work_and_moves_say_where_they_are():
    operator = ParallelBeamCT(SCANS["square"])
    image = torch.rand(16, 16, generator=torch.Generator().manual_seed(2))
    for other in (copy.deepcopy(operator), pickle.loads(pickle.dumps(operator))):  # noqa: S301
        torch.testing.assert_close(other(image), operator(image))
    assert operator.to(DOUBLE).dtype == DOUBLE
    assert operator.to("cpu").device == torch.device("cpu")
    with pytest.raises(ConfigError, match="nothing to compute with"):
        operator.to("meta")


def test_gradient_is_the_adjoint(generator):
    operator = ParallelBeamCT.example(generator).to(DOUBLE)
    x = torch.randn(2, *operator.in_shape, dtype=DOUBLE, generator=generator, requires_grad=True)
    y = torch.randn(2, *operator.out_shape, dtype=DOUBLE, generator=generator)
    (gradient,) = torch.autograd.grad((operator(x) * y).sum(), x)
    torch.testing.assert_close(gradient, operator.adjoint(y))


def test_settings_and_shapes_that_cannot_work_are_refused():
    scan = SCANS["square"]
    with pytest.raises(ConfigError, match="fast"):
        ParallelBeamCT(scan, method="fast")
    with pytest.raises(ConfigError, match="float16"):
        ParallelBeamCT(scan, dtype=torch.float16)
    huge = ParallelBeam((0.5,), 10, 1e-4, (1000, 1000))
    with pytest.raises(ConfigError, match="32-bit"):
        ParallelBeamCT(huge, method="sparse")
    with pytest.raises(ShapeError, match="16x16"):
        ParallelBeamCT(scan)(torch.zeros(15, 16))
    with pytest.raises(ConfigError, match="hamming"):
        fbp(torch.zeros(scan.sinogram_shape), scan, filter="hamming")
    with pytest.raises(ShapeError, match="12, 23"):
        fbp(torch.zeros(23), scan)


@pytest.mark.parametrize("filter", ["ramp", "shepp-logan", "cosine", "hann"])
@pytest.mark.parametrize(
    ("shape", "pixel_mm", "views", "arc"),
    [
        ((96, 96), 1.0, 120, 180.0),
        ((80, 112), 0.6, 120, 180.0),
        ((96, 96), 1.0, 240, 360.0),
        ((96, 96), 1.0, 121, 360.0),
        ((72, 90), (1.0, 0.8), 120, -180.0),
    ],
)
def test_fbp_gives_a_disc_its_value(filter, shape, pixel_mm, views, arc):
    scan = ParallelBeam.covering(shape=shape, views=views, pixel_mm=pixel_mm, arc_deg=arc)
    radius, x0, y0 = 16.0, 4.0, -3.0
    chord = 2 * (radius**2 - distance(scan, x0, y0) ** 2).clamp(min=0).sqrt()
    image = fbp((MU_WATER_PER_MM * chord).float(), scan, filter)
    x, y = coordinates(scan)
    apart = ((x - x0) ** 2 + (y - y0) ** 2).sqrt()
    inside = image[apart < radius - 4] / MU_WATER_PER_MM
    assert abs(float(inside.mean()) - 1) < MEAN
    assert float((inside - 1).abs().max()) < RINGING
    assert abs(float(image[apart > 1.15 * radius].mean())) < OUTSIDE * MU_WATER_PER_MM


def test_fbp_of_no_image_is_no_image():
    scan = SCANS["rectangular"]
    for dtype in (torch.float32, torch.complex64):
        nothing = torch.zeros((2, 0, *scan.sinogram_shape), dtype=dtype)
        assert fbp(nothing, scan).shape == (2, 0, *scan.shape)


def test_fbp_inverts_the_projector_on_a_smooth_image():
    scan = ParallelBeam.covering(shape=(96, 96), views=150)
    operator = ParallelBeamCT(scan, dtype=DOUBLE)
    image = smooth_phantom(scan)
    assert relative(operator.pinv(operator(image)), image) < INVERSE


def test_view_weights_cover_half_a_turn():
    def of(angles):
        return view_weights(ParallelBeam(angles, 4, 1.0, (4, 4)))

    np.testing.assert_allclose(of(equispaced(7)), math.pi / 7)
    np.testing.assert_allclose(of(equispaced(8, 360)), math.pi / 8)
    np.testing.assert_allclose(of(equispaced(9, 360)), math.pi / 9)
    np.testing.assert_allclose(of((0.3,)), math.pi)
    np.testing.assert_allclose(of(equispaced(60, 120)), math.pi / 90)  # the wedge is not filled
    golden_angle = math.pi * (3 - 5**0.5)
    assert of(np.arange(40) * golden_angle).sum() == pytest.approx(math.pi)
    repeated = of((0.0, 0.0, math.pi, math.pi / 2))
    np.testing.assert_allclose(repeated, [math.pi / 6] * 3 + [math.pi / 2])
