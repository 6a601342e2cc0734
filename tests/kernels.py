"""The numerics tests under the vector kernels of other processors: `make test-kernels`.

torch, MKL and numpy choose at the start which instructions they use, and so in which order they sum and how exp, log
and pow round. Each setting below forbids some of them; a test that passes under all does not rest on one processor.
Every setting runs with one thread and with two, the first one's files that take longest in its first run only. Writes
a line a run, and the failures; exits with 1 if there are any.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

ROOT = Path(__file__).resolve().parents[1]
TIMEOUT_S = 1800  # of one run: thirty times what it takes alone


def above_avx2() -> str:
    """What numpy uses here beyond AVX2, by its own names, which differ between its releases."""
    used = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    return " ".join(n for n in used if n.startswith("AVX512") or n == "X86_V4")


SETTINGS: dict[str, dict[str, str]] = {
    "torch without vectors": {"ATEN_CPU_CAPABILITY": "default"},
    "torch with AVX2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "MKL as on any processor": {"MKL_CBWR": "COMPATIBLE"},
    "numpy without AVX-512": {"NPY_DISABLE_CPU_FEATURES": above_avx2()},
}
ELSEWHERE = (
    "cli",
    "devices",
    "pipelines",
    "report",
    "training",
)  # rooms without numerics tests: not collected
LONGEST = (  # each costs seconds and repeats arithmetic that shorter tests of its room do too
    "samplers/test_every_sampler.py", "samplers/test_contract.py", "samplers/test_diffusionmbir.py",
    "samplers/test_reddiff.py", "samplers/test_dds_gaussian.py", "samplers/test_diffpir.py",
    "samplers/test_guidance_gaussian.py", "samplers/test_ddrm.py", "samplers/test_flowchef.py",
    "samplers/test_sigpy_samplers.py", "samplers/test_settings.py", "samplers/test_unsupervised_wiener.py",
    "samplers/test_exact.py", "samplers/test_mrs.py", "priors/test_tiles.py", "solvers/test_admm.py",
    "solvers/test_proximal_gradient.py", "operators/mri/test_trajectories.py", "bench/test_fastmri_protocol.py",
)  # fmt: skip
EXTENDED = ("torch without vectors", 1)  # the run that differs most from any other takes these too
COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def run(job: tuple[str, int]) -> tuple[str, int, str]:
    """Setting and threads: one line about the run, its exit status and the failures' names."""
    setting, threads = job
    environment = os.environ | SETTINGS[setting] | dict.fromkeys(COUNTS, str(threads))
    environment["OMP_WAIT_POLICY"] = "passive"  # waiting threads leave the processor alone
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "numerics"]
    left_out = ELSEWHERE if job == EXTENDED else ELSEWHERE + LONGEST
    options += [f"--ignore=tests/{name}" for name in left_out]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    closing = re.findall(r"^.*(?:passed|failed|error|no tests ran).*$", done.stdout, re.M)
    words = closing[-1].strip("= ") if closing else "no result"
    line = f"{setting:26s} {threads} thread{'s' * (threads > 1)}  {time.monotonic() - start:4.0f} s  {words}"
    failed = [f"    {found}" for found in re.findall(r"^(?:FAILED|ERROR) .*$", done.stdout, re.M)]
    if done.returncode and not failed:
        failed = [done.stdout[-2000:], done.stderr[-2000:]]
    return line, done.returncode, "\n".join(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    jobs = [(setting, threads) for setting in SETTINGS for threads in (1, 2)]
    worst = 0
    with ThreadPoolExecutor(parser.parse_args().workers) as pool:
        for line, status, failed in pool.map(run, jobs):
            print(line, failed, sep="\n" if failed else "", flush=True)
            worst = max(worst, bool(status))
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    verdict = "Some kernels differ" if worst else "All kernels agree"
    print(f"{verdict}; {used.ru_utime + used.ru_stime:.0f} s of processor time.")
    return worst


if __name__ == "__main__":
    raise SystemExit(main())
