"""Sound files of MRI raw data in every form that is read, for `targets`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import torch
from twix_files import NOISE, readout, write_twix

from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.mri.files.bart_write import write_scan
from restore.datasets.mri.files.maps_file import with_maps
from restore.datasets.mri.files.trajectory_file import write_trajectory_file
from restore.datasets.open import open_scan
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.noncartesian import simulate_noncartesian
from restore.datasets.simulate.phantom import head_phantom


def mri_file(folder: Path) -> Path:
    volume = head_phantom((3, 16, 16))
    write_fastmri(
        simulate_mri(volume, coils=2, acceleration=2, center_fraction=0.3), folder / "a.h5"
    )
    return folder / "a.h5"


def trajectory_file(folder: Path) -> Path:
    volume = head_phantom((2, 16, 16))
    write_trajectory_file(simulate_noncartesian(volume, "radial:40", coils=2), folder / "a.h5")
    return folder / "a.h5"


def ismrmrd_file(folder: Path) -> Path:
    stored = Path(__file__).parents[1] / "data" / "ismrmrd_shepp_logan.h5"
    return Path(shutil.copy(stored, folder / "a.h5"))


def bart(end: str) -> Callable[[Path], Path]:
    """A pair whose header or numbers are damaged."""

    def make(folder: Path) -> Path:
        volume = head_phantom((2, 16, 16))
        write_scan(
            simulate_mri(volume, coils=2, acceleration=2, center_fraction=0.3), folder / "a.cfl"
        )
        return folder / f"a.{end}"

    return make


def bart_with_maps(path: Path) -> None:
    """Whichever of the files is damaged, with the others beside it."""
    scan = open_scan(path.with_name("a.cfl"), pattern=path.with_name("a_pattern.cfl"))
    scan = with_maps(scan, path.with_name("a_maps.cfl"))
    scan.setup().problem(range(1), torch.device("cpu"))


def bart_maps(folder: Path) -> Path:
    bart("cfl")(folder)
    return folder / "a_maps.hdr"


def named(way: str) -> Callable[[Path], Path]:
    """Named arrays of NumPy, MATLAB 7.3 or 5."""

    def make(folder: Path) -> Path:
        scan = simulate_mri(head_phantom((1, 16, 16)), coils=2, acceleration=2, center_fraction=0.3)
        kspace, maps = scan.kspace[0], scan.maps[0]
        if way == "npz":
            np.savez(
                folder / "a.npz", kspace=kspace, maps=maps, mask=scan.mask, noise_cov=np.eye(2)
            )
            return folder / "a.npz"
        turned = {
            "kspace": kspace.transpose(1, 2, 0),
            "maps": maps.transpose(1, 2, 0),
            "noise_std": 1.0,
        }
        if way == "5":
            scipy.io.savemat(folder / "a.mat", turned, do_compression=True)
            return folder / "a.mat"
        with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
            for name, values in turned.items():
                file[name] = np.ascontiguousarray(np.asarray(values).T)
        content = bytearray((folder / "a.mat").read_bytes())
        content[:19] = b"MATLAB 7.3 MAT-file"
        (folder / "a.mat").write_bytes(content)
        return folder / "a.mat"

    return make


def twix(vd: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        values = np.random.default_rng(0).normal(size=(20, 2, 48)).astype(np.complex64)
        lines = [readout(v, vd, line=k, centre_line=10) for k, v in enumerate(values)]
        noise = readout(values[0], vd, NOISE)
        return write_twix(folder / "a.dat", [[noise, *lines]], vd)

    return make
