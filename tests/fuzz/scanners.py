"""Sound files of CT scanners in the vendors' layouts, for `targets`: a few flat frames each."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import tifffile
from ct_pd_files import projection


def dxchange(folder: Path) -> Path:
    counts = np.full((4, 2, 16), 900, np.uint16)
    with h5py.File(folder / "a.h5", "w") as file:
        parts = {"data": counts, "data_white": counts + 100, "data_dark": counts[:1] // 9}
        for name, values in parts.items():
            file[f"exchange/{name}"] = values
        file["exchange/data"].attrs["axes"] = "theta:y:x"
        file["exchange/theta"] = np.arange(0, 180, 45.0)
        file["exchange/theta"].attrs["units"] = "degrees"
        file["measurement/instrument/detector/x_pixel_size"] = 1e-5
    return folder / "a.h5"


def frames_of(folder: Path, name: str, count: int = 4) -> None:
    for k in range(count):
        values = np.full((3, 16), 900 + k, np.uint16)
        tifffile.imwrite(folder / f"{name}{k:04d}.tif", values, photometric="minisblack")


def stack(folder: Path) -> Path:
    frames_of(folder, "view_")
    np.savetxt(folder / "angles.txt", [0, 90, 180, 270])
    lines = (
        "kind: cone", "projections: view_*.tif", "flat_level: 1000", "angles_file: angles.txt",
        "angles_unit: degrees", "source_object_mm: 40", "source_detector_mm: 60", "det_spacing_mm: [2, 2]",
        "shape: [2, 6, 6]", "voxel_mm: [2, 2, 2]",
    )  # fmt: skip
    (folder / "a.yaml").write_text("\n".join(lines))
    return folder / "a.yaml"


def in_stack(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return stack(folder).with_name(name)

    return make


def skyscan(folder: Path) -> Path:
    frames_of(folder, "a_")
    said = {
        "Filename Prefix": "a_", "Number Of Files": 4, "Number Of Rows": 3, "Number Of Columns": 16,
        "Optical Axis (line)": 1, "Object to Source (mm)": 40, "Camera to Source (mm)": 60,
        "Image Pixel Size (um)": 1333, "Rotation Step (deg)": 90, "Reference Intensity": 1000,
    }  # fmt: skip
    text = "[System]\nScanner=SkyScan1275\n[Acquisition]\n"
    (folder / "a.log").write_text(text + "".join(f"{k}={v}\n" for k, v in said.items()))
    return folder / "a.log"


def nikon(folder: Path) -> Path:
    frames_of(folder, "a_")
    said = {
        "Name": "a", "Projections": 4, "DetectorPixelsX": 16, "DetectorPixelsY": 3, "DetectorPixelSizeX": 2,
        "DetectorPixelSizeY": 2, "SrcToObject": 40, "SrcToDetector": 60, "AngularStep": 90, "WhiteLevel": 1000,
        "InitialAngle": 0,
    }  # fmt: skip
    (folder / "a.xtekct").write_text("[XTekCT]\n" + "".join(f"{k}={v}\n" for k, v in said.items()))
    return folder / "a.xtekct"


def rtk(folder: Path) -> Path:
    data = Path(__file__).parents[1] / "data"
    shutil.copy(data / "rtk_circle.mha", folder)
    return Path(shutil.copy(data / "rtk_circle.xml", folder))


def ct_pd(folder: Path) -> Path:
    for k in range(3):
        projection(k).save_as(folder / f"{k}.dcm", enforce_file_format=True)
    return folder / "1.dcm"
