"""Read Siemens raw data (twix, .dat): Cartesian readouts sorted by their counters, as those of ISMRMRD are.

May be called by `open_scan`; touches the one file it is given. Nothing of the protocol but sizes, fields of view and
times is looked at: no name of a patient or a study is kept or said.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from restore.datasets.content import Content
from restore.datasets.formats import Format
from restore.datasets.mri.encoded import EncodedScan
from restore.datasets.mri.fastmri_files.fastmri_header import Header
from restore.datasets.mri.mrd.acquisitions import chosen_acquisitions
from restore.datasets.mri.mrd.ismrmrd import scan_of_acquisitions
from restore.datasets.mri.mrd.mrd_types import ACQUISITION
from restore.datasets.mri.mrd.twix_layout import Readouts, is_twix, measurements, read_readouts
from restore.datasets.mri.scan import MRIScan
from restore.errors import ConfigError, InputError

FLAGS = {25: 18, 24: 21, 21: 23, 1: 27, 2: 25, 14: 29, 15: 30, 51: 26}
"""Bits of Siemens and of ISMRMRD that mean the same: noise, reversed, phase correction, feedback (two kinds), phase
stabilisation (two kinds), dummies."""

REFERENCE, REFERENCE_AND_IMAGE = 1 << 22, 1 << 23
"""Lines for the calibration of parallel imaging, and those that are lines of the image too."""

SEVERAL_SLICES = 1 << 38 | 1 << 39
"""References and phase correction of readouts that hold several slices."""

INTEGRATED = 2
"""Word of the protocol for calibration lines that were measured as the image."""

TRAJECTORIES = {1: "cartesian", 2: "radial", 4: "spiral", 8: "blades"}

OVERSAMPLED = 1.5
"""Samples of a readout over the base resolution from which it was oversampled twice."""

UNPROVEN = (
    "positions and directions of Siemens raw data were never held against a scanner's own images here: look at left, "
    "right and the direction of the slices"
)


def read_twix(path: str | Path, select: str = "") -> MRIScan | EncodedScan:
    """Open such a file; all readouts of one measurement are read.

    select: "measurement=1" of several (the last by default, which is noted), and counters as in `read_ismrmrd`. Noise
    readouts become the scan's `noise_scan`; oversampling along the readout is removed. Raises NotFoundError, InputError
    (other trajectories than Cartesian, EPI, slices in several directions, a file that is cut), ConfigError.
    """
    path, notes = Path(path), [UNPROVEN]
    number, select = _measurement(select)
    extents = measurements(path)
    if number is None:
        number = len(extents) - 1
        if number:
            notes.append(
                f"the last of {len(extents)} measurements is read, the others usually adjust the scanner; "
                "--select measurement=N is another, counted with 0"
            )
    if number >= len(extents):
        raise InputError(
            path, f"holds no measurement {number}", f"there are {len(extents)}, from 0"
        )
    readouts = read_readouts(path, extents[number])
    if not len(readouts.records):
        raise InputError(
            path,
            f"measurement {number} holds no readouts",
            "choose another: --select measurement=N",
        )
    if not readouts.complete:
        notes.append(
            "the measurement does not end as it should: it was broken off, or the file is cut"
        )
    protocol = _protocol(readouts.protocol)
    header = _header(protocol, readouts, path)
    found = chosen_acquisitions(_records(readouts, protocol, path, notes), select, path, notes)
    return scan_of_acquisitions(found, header, path, notes, "twix")


def _measurement(select: str) -> tuple[int | None, str]:
    """The number of a measurement in `select`, and what is left of it. Raises ConfigError."""
    parts = [part.strip() for part in select.split(",") if part.strip()]
    chosen = [part for part in parts if part.partition("=")[0].strip() == "measurement"]
    if not chosen:
        return None, select
    text = chosen[-1].partition("=")[2].strip()
    if not text.isdecimal() or len(text) > 3:
        raise ConfigError(f"--select: {chosen[-1]!r}, expected measurement=NUMBER, from 0")
    return int(text), ",".join(part for part in parts if part not in chosen)


def _protocol(text: str) -> dict[str, float]:
    """Numbers of the last block of assignments in the protocol, by name; whatever is none is left out."""
    block = text.rpartition("### ASCCONV BEGIN")[2].partition("### ASCCONV END")[0]
    found = {}
    for name, value in re.findall(r"^\s*([\w.\[\]]+)\s*=\s*(\S+)\s*$", block, re.MULTILINE):
        try:
            number = float(int(value, 16)) if value.startswith("0x") else float(value)
        except ValueError:
            continue
        if np.isfinite(number):
            found[name] = number
    return found


def _header(protocol: dict[str, float], readouts: Readouts, path: Path) -> Header:
    """Matrix and fields of view. Raises InputError for protocols without them, and what is not Cartesian."""
    slab = "sSliceArray.asSlice[0]"
    base = protocol.get("sKSpace.lBaseResolution", 0)
    sides = [
        protocol.get(f"{slab}.{name}", 0) for name in ("dReadoutFOV", "dPhaseFOV", "dThickness")
    ]
    if not 1 <= base < 1e4 or not all(0 < side < 1e5 for side in sides):
        raise InputError(
            path, f"its protocol tells of {base:g} pixels over {' x '.join(f'{s:g}' for s in sides)} mm",
            "expected sKSpace.lBaseResolution and the fields of view of sSliceArray.asSlice[0]",
        )  # fmt: skip
    kind = int(protocol.get("sKSpace.ucTrajectory", 1))
    if kind != 1:
        raise InputError(
            path, f"was measured along a trajectory ({TRAJECTORIES.get(kind, kind)}), which the file does not tell",
            "only Cartesian lines are read: store k-space and its trajectory as in docs/scan-files.md",
        )  # fmt: skip
    image = readouts.records[(readouts.records["flags"] & np.uint64(1 << 25)) == 0]
    image = image if len(image) else readouts.records
    samples = int(image["samples"].max())
    width = max(round(base) * (2 if samples > OVERSAMPLED * base else 1), samples)
    last, centre = int(image["line"].max()), int(np.median(image["centre_line"]))
    told = int(protocol.get("sKSpace.lPhaseEncodingLines", 0))
    lines = max(told, 2 * centre, 2 * (last + 1 - centre))
    if 0 < 2 * told < lines:
        raise InputError(
            path, f"its lines reach from 0 to {last} about {centre}, and its protocol tells of {told}",
            "counters or protocol are not those of this measurement",
        )  # fmt: skip
    depth, place = 1, 0
    if int(protocol.get("sKSpace.ucDimension", 2)) == 4:
        depth = int(max(protocol.get("sKSpace.lPartitions", 1), int(image["partition"].max()) + 1))
        place = depth // 2 - int(np.median(image["centre_partition"]))
    wider = 1 + max(protocol.get("sKSpace.dPhaseOversamplingForDialog", 0), 0)
    return Header(
        encoded=(width, lines, depth), recon=(round(base), max(1, round(lines / wider)), depth),
        fov_mm=(sides[0], sides[1], sides[2]), columns=(lines // 2 - centre, last + 1 + lines // 2 - centre),
        encoded_fov_mm=(sides[0] * width / base, sides[1] * wider, sides[2]), trajectory="cartesian", partition=place,
    )  # fmt: skip


def _records(
    readouts: Readouts, protocol: dict[str, float], path: Path, notes: list[str]
) -> NDArray[Any]:
    """As records of ISMRMRD, calibration lines of another contrast left out. Raises InputError."""
    given, data = readouts.records, readouts.data
    flags = given["flags"]
    if (flags & np.uint64(SEVERAL_SLICES)).any():
        raise InputError(
            path,
            "several slices were excited at once (SMS)",
            "separate them first, by their own program",
        )
    apart = ((flags & np.uint64(REFERENCE)) != 0) & ((flags & np.uint64(REFERENCE_AND_IMAGE)) == 0)
    if apart.any() and int(protocol.get("sPat.ucRefScanMode", INTEGRATED)) != INTEGRATED:
        notes.append(f"{int(apart.sum())} readouts of a separate calibration scan are not used")
        given, flags = given[~apart], flags[~apart]
        data = [values for values, left_out in zip(data, apart, strict=True) if not left_out]
    records = np.zeros(len(given), ACQUISITION)
    head, counted = records["head"], records["head"]["idx"]
    for theirs, ours in FLAGS.items():
        head["flags"] |= np.where(
            flags & np.uint64(1 << theirs), np.uint64(1 << ours), np.uint64(0)
        )
    head["scan_counter"] = given["counter"]
    head["number_of_samples"], head["active_channels"] = given["samples"], given["channels"]
    head["center_sample"] = given["centre_column"]
    head["discard_pre"], head["discard_post"] = given["cut"][:, 0], given["cut"][:, 1]
    counted["kspace_encode_step_1"], counted["kspace_encode_step_2"] = (
        given["line"],
        given["partition"],
    )
    for name in ("average", "slice", "contrast", "phase", "repetition", "set", "segment"):
        counted[name] = given[name]
    noise = (head["flags"] & np.uint64(1 << 18)) != 0
    # Noise is measured with a bandwidth of its own, which records do not tell: whitening needs no level.
    head["sample_time_us"] = np.where(noise, 0, protocol.get("sRXSPEC.alDwellTime[0]", 1000) / 1000)
    head["position"] = given["position"]
    head["phase_dir"], head["read_dir"], head["slice_dir"] = _directions(given["quaternion"])
    for k, values in enumerate(data):
        records["data"][k], records["traj"][k] = (
            values.view(np.float32).ravel(),
            np.zeros(0, np.float32),
        )
    return records


def _directions(quaternion: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Columns of the rotations (n, 3) of unit quaternions (n, 4), the scalar first: phase, read, slice in LPS."""
    w, x, y, z = quaternion.astype(float).T
    phase = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], axis=1)
    read = np.stack([2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)], axis=1)
    through = np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=1)
    return phase, read, through


def _claims(content: Content) -> bool:
    """By the end of the name and the first numbers: such files have no mark."""
    dat = content.path.suffix.lower() == ".dat" and not content.is_folder
    return dat and not content.packed and is_twix(content.head)


FORMAT = Format(
    name="Siemens twix",
    holds="scan",
    files=".dat (VB, VD, VE)",
    ways="raw data in: Cartesian readouts, one measurement",
    claims=_claims,
    open=read_twix,
    options=("select",),
    called="Siemens raw data",
    rank=60,
)
