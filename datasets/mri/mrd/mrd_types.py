"""Records of ISMRMRD (MRD) files as they lie in HDF5: counters, acquisitions, images.

May be called by the writers of such files; touches nothing. The layout is that of ISMRMRD 1.x (Inati et al., MRM
77:411, 2017); readers take records by the names of their fields.
"""

from __future__ import annotations

import h5py
import numpy as np

GROUP = "dataset"
"""Where the format's own programs look by default."""

VERSION = 1

SHORT, FLOAT, COMPLEX_FLOAT = 2, 5, 7
"""Words for the type of an image's values."""

MAGNITUDE, COMPLEX = 1, 5
"""Words for what an image is."""

PAIR = np.dtype([("real", "<f4"), ("imag", "<f4")])
"""A complex number."""

_PLACE = [
    (name, "<f4", (3,))
    for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")
]
_WORDS = (
    "kspace_encode_step_1",
    "kspace_encode_step_2",
    "average",
    "slice",
    "contrast",
    "phase",
    "repetition",
    "set",
)

COUNTERS = np.dtype([*((name, "<u2") for name in (*_WORDS, "segment")), ("user", "<u2", (8,))])

ACQUISITION_HEAD = np.dtype([
    ("version", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"), ("scan_counter", "<u4"),
    ("acquisition_time_stamp", "<u4"), ("physiology_time_stamp", "<u4", (3,)), ("number_of_samples", "<u2"),
    ("available_channels", "<u2"), ("active_channels", "<u2"), ("channel_mask", "<u8", (16,)),
    ("discard_pre", "<u2"), ("discard_post", "<u2"), ("center_sample", "<u2"), ("encoding_space_ref", "<u2"),
    ("trajectory_dimensions", "<u2"), ("sample_time_us", "<f4"), *_PLACE, ("idx", COUNTERS),
    ("user_int", "<i4", (8,)), ("user_float", "<f4", (8,)),
])  # fmt: skip

ACQUISITION = np.dtype([
    ("head", ACQUISITION_HEAD), ("traj", h5py.vlen_dtype(np.float32)), ("data", h5py.vlen_dtype(np.float32)),
])  # fmt: skip

IMAGE_HEAD = np.dtype([
    ("version", "<u2"), ("data_type", "<u2"), ("flags", "<u8"), ("measurement_uid", "<u4"),
    ("matrix_size", "<u2", (3,)), ("field_of_view", "<f4", (3,)), ("channels", "<u2"), *_PLACE,
    *((name, "<u2") for name in _WORDS[2:]), ("acquisition_time_stamp", "<u4"),
    ("physiology_time_stamp", "<u4", (3,)), ("image_type", "<u2"), ("image_index", "<u2"),
    ("image_series_index", "<u2"), ("user_int", "<i4", (8,)), ("user_float", "<f4", (8,)),
    ("attribute_string_len", "<u4"),
])  # fmt: skip
