"""Read projections of clinical CT in DICOM-CT-PD (Mayo Clinic, AAPM, TCIA): a folder of one file a view.

May be called by `open.open_scan`; touches these files. Helices and circles, cylindrical detectors, flying focal spots:
a view becomes a flat panel seen from its own focal spot (`curved_to_flat`), and the scan free vectors. No published
series was at hand; which way columns and rows run is asked of the data themselves (`counting_sense`).
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from restore.datasets.budget import check_budget
from restore.datasets.content import DICOM, Content
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.beam_volume import volume_scan
from restore.datasets.ct.detector.noise_estimation import completed_by_air
from restore.datasets.ct.files.counting_sense import sense_of
from restore.datasets.ct.files.ct_pd_header import View, is_projection, view_of
from restore.datasets.ct.files.curved_to_flat import (
    FlatPanel,
    flattened,
    panel_for,
    returned,
    vectors_of,
)
from restore.datasets.formats import Format
from restore.datasets.stack import LazyStack
from restore.datasets.volume.dicom_files import boundary, header_of
from restore.errors import ConfigError, InputError
from restore.operators.ct.beams import FreeBeam

_LOOKED_AT = 3
"""Views that tell the loss of resampling."""
_MOST_NOTED = 8


def read_ct_pd(path: str | Path, grid: str = "") -> BeamScan:
    """Open a folder of projections, or one with the file that is named.

    grid: "SHAPE@MM". Raises NotFoundError, InputError, ConfigError.
    """
    path = Path(path)
    notes: list[str] = []
    files, views = _views(path, notes)
    sense = sense_of(views, lambda k: _values(files[k], views[k]), notes)
    panel = panel_for(views, sense)
    if len(panel.across) < 2:
        raise InputError(path, "its views share no part of the detector", "is this one scan?")
    stored = LazyStack((len(views), *views[0].shape), lambda k: _values(files[k], views[k]))

    def load(index: int) -> NDArray[np.float32]:
        return flattened(stored[index], views[index], sense, panel).astype(np.float32)

    check_budget(4 * len(views) * math.prod(panel.shape), path)
    notes.append(_loss(stored, views, sense, panel))
    water = views[0].mu_water
    try:
        beam = FreeBeam(tuple(vectors_of(view, panel) for view in views), panel.shape)
    except ConfigError as error:
        raise InputError(path, f"unusable geometry: {error}") from error
    photons, noise = completed_by_air(None, None, lambda: stored[len(views) // 2], notes)
    return volume_scan(
        path, LazyStack((len(views), *panel.shape), load), beam, "ct-pd", notes, grid=grid, mu_water=water,
        photons=photons, noise_std=noise, files=() if path.is_dir() else tuple(files),
    )  # fmt: skip


def _views(path: Path, notes: list[str]) -> tuple[list[Path], list[View]]:
    """Files and views by their numbers. Raises InputError for a mixture, and for views that are there twice."""
    folder = path if path.is_dir() else path.parent
    found: list[tuple[View, Path]] = []
    for file in sorted(folder.iterdir()):
        if file.is_file() and not file.name.startswith("."):
            header = header_of(file, stop_before_pixels=True)
            if not is_projection(header):
                raise InputError(
                    file, "a DICOM file beside projections that is none", "move it away"
                )
            found.append((view_of(file, header), file))
    found.sort(key=lambda entry: entry[0].number)
    views = [view for view, _ in found]
    numbers = [view.number for view in views]
    twice = next((a for a, b in itertools.pairwise(numbers) if a == b), None)
    if twice is not None:
        raise InputError(
            folder, f"two projections have the number {twice} (InstanceNumber)", "keep one"
        )
    for (view, file), other in zip(found[1:], views, strict=False):
        if (view.shape, view.pitch) != (other.shape, other.pitch):
            raise InputError(
                file, f"its detector has {view.shape} bins of {view.pitch} mm, others {other.shape} of {other.pitch}",
                "keep the views of one scan",
            )  # fmt: skip
    lacking = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
    if lacking:
        named = ", ".join(map(str, lacking[:_MOST_NOTED])) + ", ..." * (len(lacking) > _MOST_NOTED)
        notes.append(f"{len(lacking)} views are missing between others: numbers {named}")
    return [file for _, file in found], views


def _values(file: Path, view: View) -> NDArray[np.float64]:
    """Line integrals (rows, columns) of a file. Raises InputError."""
    header = header_of(file)
    with boundary(file):
        raw: bytes = header.get("PixelData") or b""
        bits, signed = (
            int(header.get("BitsAllocated") or 0),
            int(header.get("PixelRepresentation") or 0),
        )
        packed = header.file_meta.TransferSyntaxUID.is_compressed
    wanted = 2 * math.prod(view.shape)
    if packed or len(raw) < wanted or bits != 16:
        held = "compressed values" if packed else f"{len(raw)} bytes of values of {bits} bits"
        raise InputError(
            file, f"it holds {held}, expected {wanted} bytes of 16 bits", "fetch it again"
        )
    values = np.frombuffer(raw[:wanted], "<i2" if signed else "<u2").astype(np.float64)
    shape = view.shape[::-1] if view.turned else view.shape
    found = values.reshape(shape) * view.slope + view.intercept
    if not np.isfinite(found).all():
        raise InputError(file, "holds NaN or infinite values", "leave this view out")
    return found.T if view.turned else found


def _loss(stored: LazyStack, views: list[View], sense: tuple[int, int], panel: FlatPanel) -> str:
    """What resampling loses, in words: the root mean square of there and back, over some views."""
    differences = []
    for k in np.linspace(0, len(views) - 1, min(_LOOKED_AT, len(views))).astype(int):
        flat = flattened(stored[int(k)], views[k], sense, panel)
        back = returned(flat, views[k], sense, panel) - stored[int(k)]
        differences.append(back[np.isfinite(back)])
    rms = float(np.sqrt(np.mean(np.concatenate(differences) ** 2)))
    return (
        f"the cylindrical detector was resampled onto a flat one of {panel.shape[0]} x {panel.shape[1]}: there and "
        f"back changes line integrals by {rms:.2g} (root mean square)"
    )


def _claims(content: Content) -> bool:
    file = content.path
    if content.is_folder:
        inside = sorted(p for p in file.iterdir() if p.is_file() and not p.name.startswith("."))
        if not inside:
            return False
        file = inside[0]
        with file.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                return False
    elif content.kind != DICOM:
        return False
    try:
        return is_projection(header_of(file, stop_before_pixels=True))
    except InputError:
        return False


FORMAT = Format(
    name="DICOM-CT-PD",
    holds="scan",
    files="a folder of .dcm",
    ways="projections of clinical CT in, helical, with flying focal spot",
    claims=_claims,
    open=read_ct_pd,
    options=("grid",),
    called="projections in DICOM-CT-PD",
)
