"""Write a simulated scan as ISMRMRD (MRD) raw data: a header, a noise measurement, and an acquisition a readout.

May be called by the simulation verb; touches the one file it is given, which appears whole.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from restore.datasets.hdf5_stack import new_hdf5
from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.fastmri_files.fastmri_header import NAMESPACE
from restore.datasets.mri.mrd.mrd_types import ACQUISITION, GROUP, VERSION
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.pattern.sampling import slice_mask
from restore.datasets.mri.scan import MRIScan
from restore.datasets.scan_record import write_record
from restore.datasets.volume.lps import Frame, frame_of
from restore.errors import ConfigError

NOISE_STREAM = 3
"""Which random stream of a seed: the noise measurement."""

NOISE_READOUTS, NOISE_SAMPLES = 16, 1024

SAMPLE_TIME_US = 5.0

HYDROGEN_HZ = 63_870_000
"""At 1.5 T: the format wants a field, and a simulated scan has none."""

FIRST_IN_SLICE, LAST_IN_SLICE, NOISE, LAST = 1 << 6, 1 << 7, 1 << 18, 1 << 24
"""Flags of acquisitions."""

TRAJECTORIES = ("cartesian", "radial", "spiral")
"""Words of the format that are ours too; whatever else is "other"."""

MOST = 65535
"""Of samples, lines and slices, which records count in 16 bits."""


Simulated = MRIScan | NonCartesianScan | CartesianVolumeScan


def write_acquisitions(scan: Simulated, path: str | Path) -> None:
    """k-space along lines or a trajectory; coordinates in cycles per pixel, as most programs expect them.

    x runs along the readout, from row to row of the image, y from column to column. Positions are those of the pixel
    (rows // 2, columns // 2), in LPS. The group `restore` holds what it does in other scan files of this package.
    Raises ConfigError for k-space that was not measured in whole lines or is too large, OutputError.
    """
    sizes = (*scan.shape, *scan.image_shape)
    if max(sizes) > MOST:
        raise ConfigError(
            f"ISMRMRD counts samples, lines and slices up to {MOST}, this has {sizes}"
        )
    if not _in_lines(scan):
        raise ConfigError(
            "k-space is measured in points, and ISMRMRD holds whole readouts: choose a mask of lines (random, "
            "equispaced), or --as cfl"
        )
    with new_hdf5(Path(path), [(scan.kspace, np.complex64)]) as file:
        group = file.create_group(GROUP)
        text = group.create_dataset("xml", (1,), h5py.string_dtype("ascii"))
        text[0] = _header(scan)
        data = group.create_dataset("data", (0,), ACQUISITION, maxshape=(None,), chunks=(64,))
        for records in _records(scan):
            start, count = len(data), len(records)
            records["head"]["scan_counter"] = np.arange(start, start + count)
            data.resize(start + count, axis=0)
            data[start:] = records
        last = data[-1]
        last["head"]["flags"] |= LAST
        data[-1] = last
        write_record(file, scan)


def _in_lines(scan: Simulated) -> bool:
    """Whether every line was measured from end to end, or there is a trajectory."""
    if isinstance(scan, NonCartesianScan):
        return True
    mask = scan.sampled if isinstance(scan, CartesianVolumeScan) else np.atleast_2d(scan.mask)
    return bool((mask == mask[..., :1, :]).all())


def _records(scan: Simulated) -> Iterator[NDArray[np.void]]:
    """The noise measurement, then the readouts of each slice."""
    coils = scan.shape[1]
    if scan.noise_std:
        rng = np.random.default_rng([int(scan.settings.get("seed", 0)), NOISE_STREAM])
        parts = rng.normal(scale=scan.noise_std, size=(NOISE_READOUTS, coils, NOISE_SAMPLES, 2))
        noise = (parts[..., 0] + 1j * parts[..., 1]).astype(np.complex64)
        records = _acquisitions(noise, np.zeros((NOISE_READOUTS, 0), np.float32))
        records["head"]["flags"] = NOISE
        yield records
    depth = scan.n_slices
    frame = None if scan.affine is None else frame_of(scan.affine, (depth, *scan.image_shape))
    for number, place, records in _readouts(scan):
        head = records["head"]
        head["idx"]["slice"] = number
        if frame is not None:
            _place(head, frame, place)
        yield records


def _readouts(scan: Simulated) -> Iterator[tuple[int, int, NDArray[np.void]]]:
    """Of each slice or partition: the slice's number, the one whose place counts, and the records."""
    middle = scan.n_slices // 2
    if isinstance(scan, CartesianVolumeScan):
        measured = [d for d in range(scan.n_slices) if scan.sampled[d].any()]
        for depth in measured:
            records = _lines(scan.partitions[depth], scan.sampled[depth])
            records["head"]["idx"]["kspace_encode_step_2"] = depth
            _bound(records, depth == measured[0], depth == measured[-1])
            yield 0, middle, records
        return
    for index in range(len(scan.kspace)):
        if isinstance(scan, NonCartesianScan):
            records, place = _along(scan, index), middle if scan.whole else index
        else:
            mask = np.broadcast_to(slice_mask(scan.mask, index), scan.shape[2:])
            records, place = _lines(scan.kspace[index], mask), index
        _bound(records, True, True)
        yield index, place, records


def _bound(records: NDArray[np.void], first: bool, last: bool) -> None:
    """Say which record is the first of its slice or volume, and which the last: online programs wait for them."""
    records["head"]["flags"][0] |= FIRST_IN_SLICE if first else 0
    records["head"]["flags"][-1] |= LAST_IN_SLICE if last else 0


def _lines(kspace: NDArray[np.complex64], mask: NDArray[np.bool_]) -> NDArray[np.void]:
    """The measured lines of k-space (coils, H, W), numbered from its edge."""
    lines = np.flatnonzero(mask.any(axis=0))
    records = _acquisitions(np.moveaxis(kspace[..., lines], -1, 0), np.zeros((len(lines), 0)))
    records["head"]["idx"]["kspace_encode_step_1"] = lines
    records["head"]["center_sample"] = kspace.shape[1] // 2
    return records


def _along(scan: NonCartesianScan, index: int) -> NDArray[np.void]:
    points = scan.points / np.array(scan.matrix)
    if scan.whole:
        points = points[..., [1, 2, 0]]  # x, y, z are rows, columns and slices
    records = _acquisitions(scan.kspace[index].swapaxes(0, 1), points)
    head = records["head"]
    head["trajectory_dimensions"] = points.shape[-1]
    head["idx"]["kspace_encode_step_1"] = np.arange(len(records))
    head["center_sample"] = np.square(points).sum(axis=-1).argmin(axis=-1)
    return records


def _acquisitions(data: NDArray[np.complex64], points: NDArray[np.floating]) -> NDArray[np.void]:
    """data: (readouts, coils, samples); points: (readouts, samples, dimensions), or (readouts, 0) of none."""
    records = np.zeros(len(data), ACQUISITION)
    readouts, coils, samples = data.shape
    head = records["head"]
    head["version"], head["number_of_samples"] = VERSION, samples
    head["available_channels"] = head["active_channels"] = coils
    for word in range(head["channel_mask"].shape[1]):
        bits = min(max(coils - 64 * word, 0), 64)
        head["channel_mask"][:, word] = (1 << bits) - 1
    head["sample_time_us"] = SAMPLE_TIME_US
    for i in range(readouts):
        records["data"][i] = np.ascontiguousarray(data[i]).view(np.float32).ravel()
        records["traj"][i] = points[i].astype(np.float32).ravel()
    return records


def _place(head: NDArray[np.void], frame: Frame, index: int) -> None:
    head["position"] = frame.positions[index]
    head["read_dir"], head["phase_dir"], head["slice_dir"] = frame.read, frame.phase, frame.through


def _header(scan: Simulated) -> str:
    """The XML header: one encoding, whose space is that of the image."""
    root = ET.Element("ismrmrdHeader", xmlns=NAMESPACE)
    system = ET.SubElement(root, "acquisitionSystemInformation")
    ET.SubElement(system, "receiverChannels").text = str(scan.shape[1])
    conditions = ET.SubElement(root, "experimentalConditions")
    ET.SubElement(conditions, "H1resonanceFrequency_Hz").text = str(HYDROGEN_HZ)
    encoding = ET.SubElement(root, "encoding")
    along = isinstance(scan, NonCartesianScan)
    rows, columns = scan.shape[2:] if isinstance(scan, MRIScan) else scan.matrix[-2:]
    depth = scan.n_slices if scan.whole else 1
    affine = np.eye(4) if scan.affine is None else scan.affine
    dx, dy, dz = map(float, np.linalg.norm(affine[:3, :3], axis=0))
    for name in ("encodedSpace", "reconSpace"):
        space = ET.SubElement(encoding, name)
        sizes = {
            "matrixSize": (rows, columns, depth),
            "fieldOfView_mm": (rows * dy, columns * dx, depth * dz),
        }
        for tag, values in sizes.items():
            item = ET.SubElement(space, tag)
            for axis, value in zip("xyz", values, strict=True):
                ET.SubElement(item, axis).text = str(value)
    limits = ET.SubElement(encoding, "encodingLimits")
    steps = scan.shape[2] if along else columns
    counted = {
        "kspace_encoding_step_1": (steps, 0 if along else columns // 2),
        "kspace_encoding_step_2": (depth, 0 if along else depth // 2),
        "slice": (len(scan.kspace), 0),
    }
    for name, (count, centre) in counted.items():
        limit = ET.SubElement(limits, name)
        for tag, value in (("minimum", 0), ("maximum", count - 1), ("center", centre)):
            ET.SubElement(limit, tag).text = str(value)
    kind = str(scan.settings.get("trajectory", "")).partition(":")[0] if along else "cartesian"
    ET.SubElement(encoding, "trajectory").text = kind if kind in TRAJECTORIES else "other"
    return ET.tostring(root, encoding="unicode", xml_declaration=True)
