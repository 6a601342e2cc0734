"""`restore doctor`: what is installed, what works here, and what would with more."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
from importlib import metadata
from typing import Annotated, Any

import typer

import restore
from restore.cli import console
from restore.errors import RestoreError, WeightsError

EXTRAS = {
    "astra": "another projector for CT (--projector astra), operators from and to it",
    "noncartesian": "MRI along other trajectories than Cartesian (finufft)",
    "sigpy": "its reconstructions as samplers, operators from and to it",
    "pylops": "operators from and to it",
    "deepinv": "operators from and to it",
    "dicom-node": "receiving and sending DICOM (restore serve dicom)",
    "dicomweb": "fetching and storing series by DICOMweb (restore pull, push)",
    "napari": "the plugin of napari: volumes with their deviation, restore volume as a widget",
    "ray": "many inputs spread over processes and machines (--engine ray)",
}
"""What the packages of an extra are good for: `pip install 'restore[EXTRA]'`."""

DEVELOPERS = frozenset({"test", "services", "docs"})
"""Extras of those who work on the package."""

PLUGINS = (
    ("pylibjpeg", "DICOM with JPEG compression (with pylibjpeg-libjpeg and -openjpeg)"),
    ("python-gdcm", "DICOM with JPEG compression, another decoder; without either: refused"),
)
"""Distributions that pydicom finds by itself where they are installed."""


def command(
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Show versions, devices, optional packages, priors and space; fail if the core is broken."""
    report = examine()
    if json:
        console.result_json(report)
    else:
        _print(report)
    if not report["works"]:
        raise typer.Exit(WeightsError.exit_code if report["core"]["works"] else 1)


def examine() -> dict[str, Any]:
    """The whole report: `works` says whether core and bundled priors do."""
    needed, extras = dependencies()
    versions = {name: _version(name) for name in needed}
    missing = [name for name, version in versions.items() if version is None]
    problem = f"not installed: {', '.join(missing)}" if missing else _computation_problem()
    report: dict[str, Any] = {
        "restore": restore.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "core": {"works": not problem, "problem": problem, "versions": versions},
        "optional": [
            {"name": name, "extra": extra, "version": _version(name), "what": EXTRAS.get(extra, "")}
            for name, extra in extras
        ]
        + [
            {"name": name, "extra": "", "version": _version(name), "what": what}
            for name, what in PLUGINS
        ],
        "space": _space(),
        "devices": {} if problem else _devices(),
        "priors": [] if problem else _priors(),
    }
    report["works"] = not problem and all(not prior["problem"] for prior in report["priors"])
    return report


def dependencies() -> tuple[list[str], list[tuple[str, str]]]:
    """The distributions that restore needs, and those of its extras with their extra, as its own metadata says.

    The extras for developers are left out. Both are empty where restore runs from a folder without being installed.
    """
    try:
        lines = metadata.requires("restore") or []
    except metadata.PackageNotFoundError:
        return [], []
    needed, optional = [], []
    for line in lines:
        requirement, _, marker = line.partition(";")
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        extra = re.search(r"""extra\s*==\s*["']([^"']+)["']""", marker)
        if found and extra is None:
            needed.append(found.group())
        elif found and extra and extra.group(1) not in DEVELOPERS:
            optional.append((found.group(), extra.group(1)))
    return needed, optional


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _computation_problem() -> str:
    """Do with torch what reconstructions do most; say what failed, or nothing."""
    try:
        import torch

        x = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
        back = torch.fft.ifft2(torch.fft.fft2(x, norm="ortho"), norm="ortho").real
        kernel = torch.ones(1, 1, 1, 1)
        same = torch.nn.functional.conv2d(back, kernel)
    except (ImportError, OSError, RuntimeError) as error:
        return f"torch cannot compute: {error}"
    return "" if torch.allclose(same, x, atol=1e-5) else "torch computes wrong numbers"


def _devices() -> dict[str, Any]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = [
        {
            "name": torch.cuda.get_device_name(i),
            "memory_gb": round(torch.cuda.get_device_properties(i).total_memory / 1e9, 1),
        }
        for i in range(count)
    ]
    return {"auto": "cuda" if cuda else "cpu", "cuda": cuda, "threads": torch.get_num_threads()}


def _priors() -> list[dict[str, Any]]:
    """Every bundled prior with what is wrong about it: checksum, card, tensors."""
    from restore.priors.store import bundled, load_prior

    found = []
    for name in bundled():
        try:
            load_prior(name)
            problem = ""
        except RestoreError as error:
            problem = str(error)
        found.append({"name": name, "problem": problem})
    return found


def _space() -> dict[str, Any]:
    from restore.datasets.budget import memory_limit

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if os.name == "posix" else 0
    folder = tempfile.gettempdir()
    return {
        "processors": os.cpu_count(),
        "memory_gb": round(memory / 1e9, 1) or None,
        "memory_for_one_file_gb": round(memory_limit() / 1e9, 1),
        "temporary_folder": folder,
        "temporary_space_gb": round(shutil.disk_usage(folder).free / 1e9, 1),
    }


def _print(report: dict[str, Any]) -> None:
    core, space, devices = report["core"], report["space"], report["devices"]
    console.result(f"restore {report['restore']}, Python {report['python']}, {report['platform']}")
    console.result(f"run by {sys.executable}")
    console.result("core: " + (core["problem"] or "works"))
    console.table([("", name, version or "missing") for name, version in core["versions"].items()])
    if devices:
        console.result(
            f"device: --device auto means {devices['auto']}; threads: {devices['threads']}"
        )
        for i, gpu in enumerate(devices["cuda"]):
            console.result(f"  cuda:{i}  {gpu['name']}, {gpu['memory_gb']} GB")
    console.result(
        f"memory: {space['memory_gb']} GB, one file may take {space['memory_for_one_file_gb']} GB; "
        f"{space['temporary_space_gb']} GB free in {space['temporary_folder']}"
    )
    console.result(
        "priors:" if report["priors"] else "priors: none bundled, dds needs --prior FILE"
    )
    for prior in report["priors"]:
        console.result(f"  {prior['name']}: {prior['problem'] or 'sound'}")
    console.result("optional packages:")
    console.table(
        [
            ("", o["name"], o["version"] or "absent", o["extra"] and f"[{o['extra']}]", o["what"])
            for o in report["optional"]
        ]
    )
