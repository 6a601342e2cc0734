"""Shared fixtures: stored traces, small real samples, and a seeded generator; every test may use them.

`tests/golden` holds traces of published numerics and `tests/data` small samples of real scans, so that a clone proves
itself. Where a folder `shared` lies beside the checkout, its further traces and data are used too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

# What "auto" chooses differs between processors, and no test may: without these instructions it is float32. Read by
# oneDNN when it is first used, and by `restore.precision`; kept where somebody asks for another limit.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")

TESTS = Path(__file__).resolve().parent
SHARED = TESTS.parents[1] / "shared"
GOLDEN = (TESTS / "golden", SHARED / "golden")  # the first that has a trace gives it

NUMERICS = (
    "bridges", "datasets/ct", "datasets/mri", "datasets/simulate", "linalg", "operators", "priors", "samplers",
    "solvers", "bench/test_fastmri_protocol.py", "bench/test_figures.py", "bench/test_inversebench.py",
    "test_metrics.py", "test_noise.py", "test_noise_estimation.py", "test_randomness.py", "test_scaling.py",
)  # fmt: skip

Arrays = dict[str, Tensor]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "traces(argument, folder, *patterns, without=''): one case for every stored trace of that folder whose name "
        "fits a pattern; its name without suffix is the argument",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what `make test-kernels` repeats under other vector kernels."""
    for item in items:
        room = item.path.relative_to(TESTS).as_posix()
        marks = {m.name for m in item.iter_markers()}
        if room.startswith(NUMERICS) and not marks & {"slow", "gpu"}:
            item.add_marker("numerics")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for mark in metafunc.definition.iter_markers("traces"):
        argument, folder, *patterns = mark.args
        names = list(_names(folder, patterns, mark.kwargs.get("without", "")))
        if not names:
            raise pytest.UsageError(f"no trace in tests/golden/{folder} fits {patterns}")
        metafunc.parametrize(argument, names)


def _names(folder: str, patterns: list[str], without: str) -> Iterator[str]:
    found = {p for root in GOLDEN for w in patterns for p in (root / folder).glob(f"{w}.npz")}
    out = (
        {p for root in GOLDEN for p in (root / folder).glob(f"{without}.npz")} if without else set()
    )
    yield from sorted({p.stem for p in found - out})


@pytest.fixture(scope="session")
def arrays() -> Callable[[str], Arrays]:
    """Load a stored trace by its path without suffix, `arrays("dds/cg_real_dense_f64")`: one tensor a key.

    A text comes as str. Large matrices that follow from a formula are computed here instead of being stored.
    """

    def load(name: str) -> Arrays:
        stored = _read(name)
        if name.startswith("psld/psld_"):
            stored.setdefault("W_dec", _decoder())
        if name.startswith("gaussian_posterior/op_") and "post_cov" not in stored:
            stored["post_cov"] = _posterior_covariance(stored, _read("gaussian_posterior/prior"))
        return stored

    return load


def _read(name: str) -> Arrays:
    path = next((r / f"{name}.npz" for r in GOLDEN if (r / f"{name}.npz").is_file()), None)
    if path is None:
        raise FileNotFoundError(f"no trace tests/golden/{name}.npz")
    with np.load(path, allow_pickle=False) as file:
        every = {k: file[k] for k in file.files}
    return {k: str(v) if v.dtype.kind == "U" else torch.as_tensor(v) for k, v in every.items()}


def _decoder() -> Tensor:
    """The 256 orthonormal columns that stand for a decoder."""
    drawn = np.random.default_rng(7).standard_normal((768, 256))
    return torch.from_numpy(np.linalg.qr(drawn)[0])


def _posterior_covariance(trace: Arrays, prior: Arrays) -> Tensor:
    """C - C A^T (A C A^T + s^2 I)^-1 A C of a Gaussian prior with covariance C, seen as A x with noise s."""
    a, c, s = trace["A"], prior["C"], float(trace["sigma_y"])
    seen = a @ c
    inner = seen @ a.mT + s**2 * torch.eye(len(a), dtype=a.dtype)
    return c - seen.mT @ torch.linalg.solve(inner, seen)


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of small samples of real scans; tests/data/README.md says what they are."""
    return TESTS / "data"


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real photographs, volumes and k-space that lies beside the checkout, or skip."""
    if not (SHARED / "data").is_dir():
        pytest.skip("an extra on data that lies beside a checkout only")
    return SHARED / "data"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
