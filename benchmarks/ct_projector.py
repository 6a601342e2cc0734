"""Time the CT projector pair beside ASTRA's, scikit-image's and deepinv's, on one thread.

    python benchmarks/ct_projector.py [--size 256] [--views 180] [--batch 1] [--repeats 7]

Peers that are not installed are named and left out (see requirements-peers.txt). Every line gives
the CPU seconds of A and of its adjoint, how many times longer the pair takes than our stored matrices
do, and how far the pair is from being matched, on positive data. "blocks": matrices for views that
share weights, which scans without mirror images are given. Read the ratios: all lines come
from one run on one machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

from restore.operators.ct import projection
from restore.operators.ct.filtering import fbp
from restore.operators.ct.geometry import ParallelBeam
from restore.operators.ct.parallel_beam import ParallelBeamCT


class Pair(NamedTuple):
    """A projector and its adjoint, with the image and sinogram in the form they want."""

    name: str
    forward: Callable[[Any], Any]
    adjoint: Callable[[Any], Any]
    image: Any
    sinogram: Any


def ours(scan: ParallelBeam, image: torch.Tensor, sinogram: torch.Tensor) -> Iterator[Pair]:
    for method in ("sparse", "matrix-free"):
        operator = ParallelBeamCT(scan, method=method)
        yield Pair(f"restore {method}", operator, operator.adjoint, image, sinogram)
    held = projection.sparse_matrices(scan, image.dtype, image.device)
    yield Pair(
        "restore blocks",
        lambda x: projection.forward(x, scan, held),
        lambda y: projection.adjoint(y, scan, held),
        image,
        sinogram,
    )


def astra_linear(scan: ParallelBeam, image: torch.Tensor, sinogram: torch.Tensor) -> Iterator[Pair]:
    import astra

    (ny, nx), pixel = scan.shape, scan.pixel_mm[0]
    edges = (-nx / 2 * pixel, nx / 2 * pixel, -ny / 2 * pixel, ny / 2 * pixel)
    volume = astra.create_vol_geom(ny, nx, *edges)
    rays = astra.create_proj_geom("parallel", scan.det_spacing_mm, scan.n_det, scan.angles)
    projector = astra.create_projector("linear", rays, volume)

    def each(product: Callable[..., Any], data: torch.Tensor, shape: tuple[int, int]) -> Any:
        out = torch.empty(len(data), *shape)
        for source, target in zip(data, out, strict=True):
            product(projector, source, out=target)
        return out

    yield Pair(
        "astra linear (CPU)",
        lambda x: each(astra.projector.direct_FP, x, scan.sinogram_shape),
        lambda y: each(astra.projector.direct_BP, y, scan.shape),
        image,
        sinogram,
    )
    astra.projector.delete(projector)


def scikit_image(scan: ParallelBeam, image: torch.Tensor, sinogram: torch.Tensor) -> Iterator[Pair]:
    from skimage.transform import iradon, radon

    degrees = np.degrees(scan.angles)
    options = {"output_size": scan.shape[0], "circle": False, "filter_name": None}
    first = radon(image[0].numpy(), degrees, circle=False)  # fixes its number of bins
    scale = 2 * scan.views / np.pi  # its backprojection is weighted for reconstruction
    bins = np.random.default_rng(1).random((len(image), *first.shape), dtype=np.float32)
    yield Pair(
        "skimage radon/iradon",
        lambda x: np.stack([radon(i, degrees, circle=False) for i in x]),
        lambda y: np.stack([iradon(s, degrees, **options) for s in y]) * scale,
        image.numpy(),
        bins,
    )


def deepinv_exact(
    scan: ParallelBeam, image: torch.Tensor, sinogram: torch.Tensor
) -> Iterator[Pair]:
    from deepinv.physics import Tomography

    physics = Tomography(
        angles=torch.rad2deg(torch.tensor(scan.angles)),
        img_width=scan.shape[0],
        circle=False,
        adjoint_via_backprop=True,
        normalize=False,
    )
    x = image[:, None]
    yield Pair("deepinv exact", physics.A, physics.A_adjoint, x, torch.rand(physics.A(x).shape))


def seconds(product: Callable[[Any], Any], data: Any, repeats: int) -> float:
    product(data)
    found = []
    for _ in range(repeats):
        start = time.process_time()
        product(data)
        found.append(time.process_time() - start)
    return min(found)


def mismatch(pair: Pair) -> float:
    """|<Ax, y> / <x, A^T y> - 1|."""
    as_double = [
        np.asarray(t, dtype=np.float64)
        for t in (pair.forward(pair.image), pair.sinogram, pair.image, pair.adjoint(pair.sinogram))
    ]
    return abs(np.vdot(*as_double[:2]) / np.vdot(*as_double[2:]) - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--views", type=int, default=180)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    scan = ParallelBeam.covering(shape=(args.size, args.size), views=args.views)
    image = torch.rand(args.batch, *scan.shape, generator=generator)
    sinogram = torch.rand(args.batch, *scan.sinogram_shape, generator=generator)

    operator, start = ParallelBeamCT(scan, method="sparse"), time.process_time()
    operator(image)
    built, size = time.process_time() - start, operator.stored_bytes(args.batch) / 1e6
    print(f"{args.size}x{args.size}, {args.views} views, {scan.n_det} bins, batch {args.batch}")
    print(f"matrices: {size:.0f} MB, made in {built:.2f} s")
    print(f"fbp: {seconds(lambda y: fbp(y, scan), sinogram, args.repeats):.4f} s")
    print(f"{'':22}{'A':>9}{'A^T':>9}{'pair/ours':>11}{'mismatch':>10}")
    reference = None
    peers = {"astra": astra_linear, "skimage": scikit_image, "deepinv": deepinv_exact}
    for package, make in {"restore": ours, **peers}.items():
        if importlib.util.find_spec(package) is None:
            print(f"{package:22}not installed")
            continue
        for pair in make(scan, image, sinogram):
            forward = seconds(pair.forward, pair.image, args.repeats)
            adjoint = seconds(pair.adjoint, pair.sinogram, args.repeats)
            reference = reference or forward + adjoint
            ratio, error = (forward + adjoint) / reference, mismatch(pair)
            print(f"{pair.name:22}{forward:9.4f}{adjoint:9.4f}{ratio:11.2f}{error:10.1e}")


if __name__ == "__main__":
    main()
