"""A measured, prospectively undersampled head: DDS beside l1-wavelet by us, sigpy and BART.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/real_kspace.py DATA [--out real_kspace.png]

DATA/kspace/brain_8ch_poisson.npy holds eight coils and an eighth of the samples; no reference
exists. All methods get the same ESPIRiT maps and k-space divided by one number, so that the image
is near 1 where it is bright. Nothing is tuned: ours run with their defaults, sigpy and BART with
lambda 0.005, which their tutorials take, and 100 iterations. Two numbers are given:

misfit: |M F S x - y| / |y| on all samples, which a regularised method must not bring to zero, and
in standard deviations of the noise;
held out: the same on a tenth of the samples outside the calibration region that the method was not
given. What is invented, or lost, shows there.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import bart
import numpy as np
import sigpy.mri.app
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from timing import measure, one_thread, print_versions

from restore import solve
from restore.datasets.mri.files.kspace_array import read_kspace_array
from restore.datasets.scan import SetupOptions
from restore.operators.mri.coil_maps import calibration_region
from restore.operators.mri.multicoil import MultiCoilMRI

LAMBDA, ITERATIONS, HELD_OUT = 0.005, 100, 0.1

Method = Callable[[torch.Tensor, MultiCoilMRI], torch.Tensor]
"""(y, operator) -> complex image; y (coils, H, W), scaled so that the image is near 1."""


def methods(noise: float) -> dict[str, Method]:
    """noise: standard deviation per real channel of the scaled k-space."""

    def ours(sampler: str) -> Method:
        return lambda y, a: solve(y, a, noise=noise, prior="medical", sampler=sampler).image

    def by_sigpy(y: torch.Tensor, a: MultiCoilMRI) -> torch.Tensor:
        settings = {"lamda": LAMBDA, "max_iter": ITERATIONS, "show_pbar": False}
        app = sigpy.mri.app.L1WaveletRecon(y.numpy(), a.maps.numpy(), **settings)
        return torch.from_numpy(app.run())

    def by_bart(y: torch.Tensor, a: MultiCoilMRI) -> torch.Tensor:
        with bart.Bart() as folder:
            folder.put("kspace", y.numpy())
            folder.put("maps", a.maps.numpy())
            options = ("-R", f"W:3:0:{LAMBDA}", "-i", ITERATIONS, "-w1", "-S")
            folder.run("pics", *options, "kspace", "maps", "image")
            # BART's centred FFT leaves out the sign that centring gives sides of 2, 6, 10, ...
            sign = (-1) ** (y.shape[-2] // 2 + y.shape[-1] // 2)
            return sign * torch.from_numpy(folder.get("image"))

    found = {
        "zero-filled": ours("zerofilled"),
        "CG-SENSE": ours("cgsense"),
        "wavelet": ours("wavelet"),
        "wavelet, sigpy": by_sigpy,
    }
    if bart.program():
        found["wavelet, BART"] = by_bart
    return found | {"DDS": ours("dds")}


def held_out(mask: torch.Tensor) -> torch.Tensor:
    """A tenth of the sampled positions, none of them in the calibration region."""
    draw = torch.rand(mask.shape, generator=torch.Generator().manual_seed(0)) < HELD_OUT
    draw[calibration_region(mask)] = False
    return draw & mask


def misfit(image: torch.Tensor, y: torch.Tensor, maps: torch.Tensor, mask: torch.Tensor) -> float:
    y = y * mask
    return float((MultiCoilMRI(maps, mask)(image) - y).norm() / y.norm())


def picture(images: dict[str, torch.Tensor], captions: dict[str, str], path: Path) -> None:
    """Magnitudes on one scale; below, what each differs from the l1-wavelet image."""
    base = images["wavelet"].abs()
    high = float(torch.quantile(base, 0.998))
    rows, columns = base.shape
    figure = Figure((2.3 * len(images), 4.6 * rows / columns + 0.9), 90, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(images))
    for axis, (name, image) in zip(axes.T, images.items(), strict=True):
        axis[0].imshow(image.abs(), cmap="gray", vmin=0, vmax=high)
        axis[0].set_title(f"{name}\n{captions[name]}", fontsize=9)
        axis[1].imshow((image.abs() - base).abs(), cmap="magma", vmin=0, vmax=0.2 * high)
        axis[1].set_title("|difference from wavelet|, 5 x", fontsize=8)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with kspace/brain_8ch_poisson.npy")
    parser.add_argument("--out", type=Path, default=Path("real_kspace.png"))
    args = parser.parse_args()
    one_thread()
    print_versions("sigpy")
    print("BART", bart.version() if bart.program() else "not installed: its image is left out")
    scan = read_kspace_array(args.data / "kspace" / "brain_8ch_poisson.npy")
    problem = scan.problem(range(1), torch.device("cpu"), SetupOptions(maps="espirit"))
    mask, maps = torch.from_numpy(scan.mask), problem.operator.maps[0]
    scale = problem.scaling.scale
    y, noise = problem.y[0] / scale, (problem.noise.std if problem.noise else 0) / scale
    print(f"k-space {tuple(y.shape)}, sampled {float(mask.float().mean()):.1%}, noise {noise:.2e}")
    kept = mask & ~held_out(mask)
    images, captions = {}, {}
    values = int(mask.sum()) * y.shape[0] * 2
    in_noise = float(y.norm()) / (noise * values**0.5)
    print(f"{'':16}{'seconds':>9}{'misfit':>9}{'in noise':>10}{'held out':>10}{'0.998 level':>13}")
    for name, method in methods(noise).items():
        found: list[torch.Tensor] = []
        run = functools.partial(method, y, MultiCoilMRI(maps, mask))
        seconds = measure(lambda keep=found, run=run: keep.append(run())).cpu
        images[name] = found[0]
        fit = misfit(images[name], y, maps, mask)
        unseen = misfit(method(y * kept, MultiCoilMRI(maps, kept)), y, maps, held_out(mask))
        level = float(np.quantile(images[name].abs().numpy(), 0.998))
        captions[name] = f"misfit {fit:.3f}, held out {unseen:.3f}"
        print(f"{name:16}{seconds:9.2f}{fit:9.4f}{fit * in_noise:10.2f}{unseen:10.4f}{level:13.4f}")
    picture(images, captions, args.out)
    print(f"picture: {args.out}")


if __name__ == "__main__":
    main()
