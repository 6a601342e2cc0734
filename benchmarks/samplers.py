"""Every sampler on five tasks, four images each, beside deepinv's DPS, DiffPIR and DDRM driven by the same network.

    python benchmarks/samplers.py ../shared/data                      # appends to benchmarks/samplers.jsonl
    python benchmarks/samplers.py --show benchmarks/samplers.jsonl    # prints the tables

Run it with the peers' environment (README.md) to have deepinv's rows. Each row runs in a process of its own, so that
the peak memory is its own. Finished rows are not run again: delete a line of the results file to redo it.

Photographs are crops of 128 x 128 of the validation set that tuning did not see; the T1 head is averaged over 2 x 2
pixels in the plane (128 x 94, four slices), the thorax has 122 x 102. Ours run with their tuned presets. deepinv's run
for 100 evaluations with the best of a few settings, chosen on the very images of the table: in their favour.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from table import load
from torch import Tensor

TASKS = ("inpaint", "deblur", "superres", "mri4", "ct30")
SEED, PEER_STEPS = 7, 100
PEERS: dict[str, tuple[dict[str, Any], ...]] = {
    "deepinv DiffPIR": ({"lambda_": 1.0}, {"lambda_": 7.0}),
    "deepinv DPS": ({"weight": 1.0},),
    "deepinv DDRM": ({},),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """One image of a task: truth in unit intensities (complex for MRI), operator, measurement and noise."""

    truth: Tensor
    operator: Any
    y: Tensor
    std: float
    scale: float = 1.0

    def score(self, image: Tensor) -> tuple[float, float]:
        """PSNR and SSIM of the magnitude, data range 1 (photographs) or the maximum of the reference."""
        from restore.metrics import psnr, ssim

        found, truth = image, self.truth
        if truth.is_complex() or found.is_complex():
            found, truth = found.abs(), truth.abs()
        peak = 1.0 if truth.ndim == 3 else float(truth.max())
        found = found.clamp(0, 1) if truth.ndim == 3 else found
        return psnr(found, truth, data_range=peak), ssim(found, truth, data_range=peak)


def photographs(data: Path, task: str) -> list[Case]:
    """Four crops, degraded."""
    from tasks import centre

    from restore.datasets.open import read_image
    from restore.pipelines.degrade import Degradation, add_noise, noise_level

    cases = []
    for path in sorted((data / "images" / "val").glob("*.jpg"))[:4]:
        truth = torch.from_numpy(centre(read_image(path).data, 128))
        keep = torch.rand((128, 128), generator=torch.Generator().manual_seed(SEED)) < 0.3
        how, noise = {
            "inpaint": (Degradation("inpaint", mask=keep.float()), 0.0),
            "deblur": (Degradation("deblur", kernel="gaussian:1.6", boundary="circular"), 0.01),
            "superres": (Degradation("superres", factor=4), 0.0),
        }[task]  # fmt: skip
        operator = how.operator(tuple(truth.shape))
        y = add_noise(operator(truth), noise, SEED)
        y = y * how.mask if how.mask is not None else y
        cases.append(Case(truth, operator, y, noise_level(noise)))
    return cases


def slices(data: Path, task: str) -> list[Case]:
    """Four slices of a held-out volume, measured."""
    from restore.datasets.open import read
    from restore.datasets.simulate.ct import simulate_ct
    from restore.datasets.simulate.mri import simulate_mri

    if task == "mri4":
        volume = read(data / "mr" / "train" / "chris_T1.nii.gz", modality="MR")
        v = volume.data[:, : volume.data.shape[1] // 2 * 2, : volume.data.shape[2] // 2 * 2]
        halved = (v[:, ::2, ::2] + v[:, 1::2, ::2] + v[:, ::2, 1::2] + v[:, 1::2, 1::2]) / 4
        volume = dataclasses.replace(volume, data=np.ascontiguousarray(halved), header=None)
        scan: Any = simulate_mri(
            volume, slices=slice(65, 147, 27), seed=SEED, coils=8, noise=0.005, mask="random",
            acceleration=4, center_fraction=0.08,
        )  # fmt: skip
    else:
        volume = read(data / "ct" / "train" / "thorax_1p5mm.nii.gz", modality="CT")
        scan = simulate_ct(volume, slices=slice(10, 103, 31), seed=SEED, views=30, photons=1e5)
    setup, cases = scan.setup(), []
    for i in range(scan.n_slices):
        problem = setup.problem(range(i, i + 1), torch.device("cpu"))
        truth = torch.as_tensor(np.asarray(scan.reference[i]))
        cases.append(_Scan(truth, problem, scan))
    return cases  # type: ignore[return-value]


class _Scan:
    """A slice of a scan as a case: scored in the scan's own units."""

    def __init__(self, truth: Tensor, problem: Any, scan: Any) -> None:
        self.truth, self.scaling, self.scan = truth, problem.scaling, scan
        self.operator, self.y, self.noise = problem.operator, problem.y, problem.noise

    def score(self, image: Tensor) -> tuple[float, float]:
        """PSNR and SSIM, data range the maximum (MR) or the range (CT) of the slice."""
        from restore.metrics import psnr, ssim

        found = self.scan.in_source_units(image.reshape(1, 1, *image.shape[-2:]))[0, 0]
        truth = self.truth.numpy()
        peak = float(truth.max() - (0 if image.is_complex() else truth.min()))
        return psnr(found, truth, data_range=peak), ssim(found, truth, data_range=peak)


def cases(data: Path, task: str) -> list[Any]:
    """The four images of a task."""
    return slices(data, task) if task in ("mri4", "ct30") else photographs(data, task)


def ours(data: Path, task: str, sampler: str) -> dict[str, Any]:
    """A row of one of our samplers with its tuned preset."""
    from restore.errors import ConfigError
    from restore.front_door import solve

    found, evaluations, seconds = [], 0, 0.0
    for case in cases(data, task):
        if isinstance(case, _Scan):
            given: dict[str, Any] = {"noise": case.noise, "scaling": case.scaling}
        else:
            given = {"noise": case.std}
        start = time.perf_counter()
        try:
            result = solve(case.y, case.operator, sampler=sampler, **given)
        except ConfigError as error:
            return {"refused": str(error)}
        seconds += time.perf_counter() - start
        evaluations = result.log[-1]["evaluations"]
        found.append(case.score(result.image))
    return _row(found, evaluations, seconds)


def theirs(data: Path, task: str, name: str) -> dict[str, Any]:
    """A row of deepinv: the best of its settings on these images."""
    best: dict[str, Any] = {}
    for settings in PEERS[name]:
        found, seconds = [], 0.0
        for case in cases(data, task):
            start = time.perf_counter()
            image = _deepinv(name, case, settings)
            if image is None:
                return {"refused": "no singular value decomposition of this operator in deepinv"}
            seconds += time.perf_counter() - start
            found.append(case.score(image))
        row = _row(found, PEER_STEPS, seconds) | {"settings": settings}
        best = max(best, row, key=lambda r: r.get("psnr", -99))
    return best


def _deepinv(name: str, case: Any, settings: dict[str, Any]) -> Tensor | None:
    """One image by deepinv: images as (1, C, H, W), re and im as two channels, in unit intensities."""
    import deepinv

    from restore.noise import Gaussian
    from restore.operators.image.blur import Blur
    from restore.operators.image.inpainting import Inpainting
    from restore.priors.store import load_denoiser

    scale = case.scaling.scale if isinstance(case, _Scan) else 1.0
    y = case.y / scale
    if isinstance(case, _Scan):
        std = (
            float(torch.as_tensor(case.noise.std).mean())
            if isinstance(case.noise, Gaussian)
            else float(case.noise.precision(case.y).rsqrt().median())
        )
        std /= scale
    else:
        std = case.std
    photograph = not isinstance(case, _Scan)
    network = load_denoiser("natural" if photograph else "medical")

    class Network(deepinv.models.Denoiser):
        def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
            s = float(torch.as_tensor(sigma).flatten()[0])
            planes = x.reshape(-1, network.channels, *x.shape[-2:])
            return network(planes.float(), s).reshape(x.shape).to(x.dtype)

    physics = _physics(deepinv, case, std)
    if name == "deepinv DDRM":
        noise = deepinv.physics.GaussianNoise(std)
        shape = tuple(case.operator.in_shape)
        if isinstance(case.operator, Inpainting):
            physics = deepinv.physics.Inpainting(
                shape, mask=case.operator.mask.expand(shape), noise_model=noise
            )
        elif isinstance(case.operator, Blur):
            physics = deepinv.physics.BlurFFT(
                shape, filter=case.operator.kernel[None, None], noise_model=noise
            )
        else:
            return None
        model = deepinv.sampling.DDRM(Network(), sigmas=np.linspace(1, 0, PEER_STEPS), **settings)
    elif name == "deepinv DiffPIR":
        model = deepinv.sampling.DiffPIR(
            Network(), deepinv.optim.data_fidelity.L2(), sigma=std, max_iter=PEER_STEPS, **settings
        )
    else:
        model = deepinv.sampling.DPS(
            Network(), num_steps=PEER_STEPS + 1, guidance="annealed",
            rng=torch.Generator().manual_seed(0), dtype=torch.float32, **settings,
        )  # fmt: skip
    torch.manual_seed(0)
    data = torch.view_as_real(y).movedim(-1, 1).contiguous() if y.is_complex() else y
    data = data[None] if photograph else data if y.is_complex() else data[:, None]
    with torch.no_grad():
        image = model(data, physics)
    if y.is_complex():
        return torch.view_as_complex(image.movedim(1, -1).contiguous().float())[0] * scale
    return (image[0] if photograph else image[0, 0]).float() * scale


def _physics(deepinv: Any, case: Any, std: float) -> Any:
    """Our operator under deepinv's contract; complex images and data as two channels in front."""
    operator, complex_ = case.operator, case.operator.is_complex

    def packed(z: Tensor) -> Tensor:
        return torch.view_as_real(z).movedim(-1, 1).contiguous() if complex_ else z

    def unpacked(x: Tensor) -> Tensor:
        return (
            torch.view_as_complex(x.movedim(1, -1).contiguous().float()) if complex_ else x.float()
        )

    photograph = not isinstance(case, _Scan)

    class Physics(deepinv.physics.LinearPhysics):
        def A(self, x: Tensor, **_: Any) -> Tensor:
            image = unpacked(x) if photograph or complex_ else unpacked(x)[:, 0]
            out = packed(operator(image)).to(x.dtype)
            return out if photograph or complex_ else out[:, None]

        def A_adjoint(self, y: Tensor, **_: Any) -> Tensor:
            data = unpacked(y) if photograph or complex_ else unpacked(y)[:, 0]
            out = packed(operator.adjoint(data)).to(y.dtype)
            return out if photograph or complex_ else out[:, None]

    return Physics(noise_model=deepinv.physics.GaussianNoise(std))


def _row(found: list[tuple[float, float]], evaluations: int, seconds: float) -> dict[str, Any]:
    mean = np.mean(found, axis=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "psnr": round(float(mean[0]), 3), "ssim": round(float(mean[1]), 4), "evaluations": evaluations,
        "seconds": round(seconds / len(found), 2), "peak_memory_mb": round(peak),
    }  # fmt: skip


def run(data: Path, out: Path, tasks: list[str], names: list[str]) -> None:
    """Fill the results file, a process a row."""
    done = {(r["task"], r["sampler"]) for r in load(out)}
    for name in names:
        for task in tasks:
            if (task, name) in done:
                continue
            command = [sys.executable, __file__, str(data), "--row", task, name]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            lines = answer.stdout.strip().splitlines()
            if answer.returncode or not lines:
                print(f"{task} {name}: {answer.stderr.strip().splitlines()[-1:]}", flush=True)
                continue
            record = {"task": task, "sampler": name} | json.loads(lines[-1])
            with out.open("a", encoding="utf-8") as f:
                f.write(json.dumps(record) + "\n")
            print(record, flush=True)


def show(path: Path) -> None:
    """Print one table of quality and one of cost as Markdown."""
    rows = {(r["task"], r["sampler"]): r for r in load(path)}
    names = list(dict.fromkeys(n for _, n in rows))
    print("| sampler | " + " | ".join(TASKS) + " |\n|" + " --- |" * (len(TASKS) + 1))
    for name in names:
        cells = []
        for task in TASKS:
            r = rows.get((task, name), {})
            cells.append(f"{r['psnr']:.2f} / {r['ssim']:.3f}" if "psnr" in r else "")
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| sampler | " + " | ".join(TASKS) + " | memory |\n|" + " --- |" * (len(TASKS) + 2))
    for name in names:
        kept = [rows.get((task, name), {}) for task in TASKS]
        cells = [f"{r['evaluations']}, {r['seconds']:.1f} s" if "psnr" in r else "" for r in kept]
        peak = max((r["peak_memory_mb"] for r in kept if "psnr" in r), default=0)
        print(f"| {name} | " + " | ".join(cells) + f" | {peak} MB |")


def main() -> None:
    """Run, show, or compute one row."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("-o", "--out", type=Path, default=Path("benchmarks/samplers.jsonl"))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--samplers", default="", help="names separated by commas; default all")
    parser.add_argument("--row", nargs=2, metavar=("TASK", "SAMPLER"))
    parser.add_argument("--show", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.show:
        show(args.show)
    elif args.row:
        task, name = args.row
        print(json.dumps((theirs if name in PEERS else ours)(args.data, task, name)))
    else:
        from restore.registry import load_sampler, sampler_names

        every = [n for n in sampler_names() if load_sampler(n).prior_kinds and n != "tweedie"]
        wanted = args.samplers.split(",") if args.samplers else [*every, *PEERS]
        run(args.data, args.out, args.tasks.split(","), wanted)


if __name__ == "__main__":
    main()
