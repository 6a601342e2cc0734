"""Files of other programs with raw data or volumes that are not read here: what they are, how to bring them over.

May be called by `open`, which names them in its refusal; looks at first bytes and names alone.
"""

from __future__ import annotations

import re

from restore.datasets.content import ANALYZE, HDF5, Content

FOREIGN = (
    (
        "BART",
        "convert it: numpy.save of the array from BART's readcfl, axes as (slices, coils, H, W)",
    ),
    (
        "ISMRMRD",
        "only its HDF5 form is read: convert the stream, or sort its acquisitions into one array (slices, coils, "
        "H, W), such as with the package ismrmrd, and store it as 'kspace'",
    ),
    (
        "Siemens raw",
        "convert it with siemens_to_ismrmrd, and store the sorted array as 'kspace'",
    ),
    ("Philips raw", "convert it with philips_to_ismrmrd, and store the sorted array as 'kspace'"),
    ("GE raw", "convert it with ge_to_ismrmrd, and store the sorted array as 'kspace'"),
    ("Bruker raw", "convert it with bruker_to_ismrmrd, and store the sorted array as 'kspace'"),
    (
        "MATLAB",
        "save its arrays anew with '-v7.3', or load it (scipy.io.loadmat) and save k-space by numpy.save as complex "
        "(slices, coils, H, W)",
    ),
    (
        "Varian",
        "read it, such as by nmrglue, and save its k-space by numpy.save as complex (slices, coils, H, W)",
    ),
    ("PAR/REC", "they hold images and no k-space: convert them by dcm2niix for other work"),
    (".npz", "save the array alone, by numpy.save"),
    ("PyTorch", "save the tensor by numpy.save, complex (slices, coils, H, W)"),
    ("pickle", "a pickle can run any program and is never read: save the array by numpy.save"),
    ("numbers in text", "save them by numpy.save as complex (slices, coils, H, W)"),
)
"""What to do about such a file, by a word of what it is."""

VOLUMES = (
    (b"\0\0\0\1", "a FreeSurfer volume (MGH)"),
    (b"CDF\1", "a MINC volume"),
    (b"CDF\2", "a MINC volume"),
    (b"# === DATA DESCRIPTION FILE", "the header of Philips PAR/REC"),
    (b"# vtk DataFile", "a VTK file"),
    (b"MATRIX7", "an ECAT volume"),
    (b"INTERFILE", "an Interfile header"),
    (b"!INTERFILE", "an Interfile header"),
)
"""First bytes of other programs' volumes."""

VOLUMES_BY_SUFFIX = {
    ".head": "an AFNI header (.HEAD)",
    ".brik": "voxels of an AFNI volume (.BRIK)",
    ".rec": "voxels of Philips PAR/REC (.REC)",
    ".img": "voxels of an Analyze volume (.img), or of a NIfTI pair without its .hdr",
    "2dseq": "voxels of a Bruker scan (2dseq)",
    ".v": "an ECAT volume (.v)",
}

CONVERT_VOLUME = "convert it to NIfTI, with the program that wrote it or with nibabel"

BY_SUFFIX = {
    ".cfl": "samples of a BART file (.cfl)",
    ".ra": "an RA array of BART (.ra)",
    ".raw": "Philips raw data (.raw)",
    ".lab": "labels of Philips raw data (.lab)",
    ".sin": "parameters of Philips raw data (.sin)",
    ".list": "labels of Philips raw data (.list)",
    ".data": "Philips raw data (.data)",
    ".cpx": "Philips raw data (.cpx)",
    ".par": "the header of Philips images (PAR/REC)",
    ".rec": "Philips images (PAR/REC)",
    ".7": "GE raw data (P-file)",
    ".mrd": "ISMRMRD raw data (a stream, .mrd)",
    ".mat": "a MATLAB file (version 4)",
    ".pkl": "a pickle of Python (.pkl)",
    ".pickle": "a pickle of Python (.pickle)",
}
"""Formats without a mark of their own, by the end of the name."""

IN_FOLDERS = (
    ("acqp", "Bruker raw data (a folder with acqp)"),
    ("procpar", "Varian or Agilent raw data (a folder with procpar)"),
)
"""Files that tell whose folder it is."""

MOST_MEASUREMENTS = 64
"""In a Siemens raw data file from version VD on: its second number."""


def raw_kind(content: Content) -> str | None:
    """What a file of raw data of another program is called, None for anything else. Raises InputError."""
    head, suffix, name = content.head, content.path.suffix.lower(), content.path.name.lower()
    if content.is_folder:
        return next((kind for file, kind in IN_FOLDERS if (content.path / file).exists()), None)
    if head.startswith(b"# Dimensions"):
        return "a header of a BART file (.hdr)"
    if head.startswith(b"MATLAB"):
        return "a MATLAB file"
    if head.startswith(b"PK\x03\x04") and (suffix == ".npz" or b".npy" in head[:160]):
        return "an archive of NumPy arrays (.npz)"
    if head.startswith(b"PK\x03\x04") and suffix in (".pt", ".pth"):
        return f"a PyTorch file ({suffix})"
    if content.kind == HDF5:
        return _in_hdf5(content)
    if suffix == ".dat" and _is_siemens(head):
        return "Siemens raw data (twix .dat)"
    if content.kind not in ("a file of unknown kind", "a text file"):
        return None
    if name in ("fid", "rawdata.job0", "ser", "2dseq", "acqp", "method"):
        return f"Bruker raw data ({name})"
    if re.match(r"p\d{5}\.7", name):
        return BY_SUFFIX[".7"]
    if name.startswith("scanarchive"):
        return "GE raw data (ScanArchive)"
    if suffix in (".csv", ".txt"):
        return f"numbers in text ({suffix})"
    return BY_SUFFIX.get(suffix)


def volume_kind(content: Content) -> str | None:
    """What a volume of another program is called, None for anything else. Raises InputError."""
    head, name = content.head, content.path.name.lower().removesuffix(".gz")
    if content.kind == HDF5:
        from restore.datasets.hdf5_guard import root_names

        return "a MINC volume (HDF5)" if "minc-2.0" in root_names(content) else None
    if content.kind == ANALYZE:
        return "an Analyze header, which does not tell left from right, or NIfTI with a damaged one"
    found = next((what for mark, what in VOLUMES if head.startswith(mark)), None)
    ends = (what for end, what in VOLUMES_BY_SUFFIX.items() if name.endswith(end))
    return found or next(ends, None)


def _in_hdf5(content: Content) -> str | None:
    import h5py

    from restore.datasets.hdf5_guard import find_group, open_hdf5, root_names

    found = root_names(content)
    if "kspace" not in found and found & {"dataset", "images_0"}:
        return "ISMRMRD raw data (HDF5)"
    if "DownloadData" in found or "DownloadMetaData" in found:
        return "GE raw data (ScanArchive)"
    if "#refs#" in found:
        return "a MATLAB file (7.3, HDF5)"
    with open_hdf5(content.path) as file:
        for name in found:
            hard = isinstance(file.get(name, getlink=True), h5py.HardLink)
            if hard and file.get(name, getclass=True) is h5py.Group:
                group = find_group(file, name)
                if group is not None and {"xml", "data"} <= set(group.keys()):
                    return "ISMRMRD raw data (HDF5)"
    return None


def _is_siemens(head: bytes) -> bool:
    """VD and later: zero, then the number of measurements; VB: the length of the header, a few kilobytes or more."""
    if len(head) < 8:
        return False
    first, second = (int.from_bytes(head[i : i + 4], "little") for i in (0, 4))
    return (first == 0 and 1 <= second <= MOST_MEASUREMENTS) or (
        32 <= first < 2**24 and second < 64
    )
