"""Open HDF5 files of unknown origin: nothing outside the file is read, nothing oversized is
allocated.

May be called by every reader of HDF5; touches the one file it is given. A group or data set is
reached through hard links only (a soft or external link may lead elsewhere), its storage must lie
inside the file, its numbers must be numbers, and its size must fit the bytes that are really there
and the memory of this machine, all before any value is read. Whatever the HDF5 library raises
becomes one InputError; a file on which it would hang or crash is found out beforehand (`hdf5_walk`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from restore.datasets.budget import check_budget
from restore.datasets.content import DOWNLOAD_AGAIN, Content, look_at
from restore.datasets.hdf5_walk import walk_through
from restore.errors import InputError, OutOfMemory, RestoreError

MAX_COMPRESSION = 1032
"""The highest ratio that deflate can reach; a data set that claims more holds nothing."""

MAX_TEXT_BYTES = 1 << 20
MAX_ATTRIBUTE_BYTES = 1 << 20
NUMBERS = "biufc"


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[h5py.File]:
    """The file, open for reading; every failure inside the block leaves as one RestoreError.

    Raises NotFoundError for a missing file, InputError for anything that is not readable HDF5.
    """
    path = Path(path)
    require_hdf5(path)
    walk_through(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except RestoreError:
        raise
    except MemoryError as error:
        raise OutOfMemory(f"{path}: not enough memory to read this data set") from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(path, f"damaged HDF5 file: {reason}", DOWNLOAD_AGAIN) from error


def require_hdf5(path: Path) -> None:
    """Raise NotFoundError or InputError unless `path` is a file with an HDF5 signature."""
    content = look_at(path)
    if not is_hdf5(content):
        raise InputError(path, f"is not an HDF5 file but {content.kind}", DOWNLOAD_AGAIN)


def is_hdf5(content: Content) -> bool:
    """Whether a file starts like HDF5 (at 0, 512, 1024, ... bytes, as the format allows)."""
    return not (content.is_folder or content.packed) and bool(h5py.is_hdf5(content.path))


@lru_cache(maxsize=1)
def root_names(content: Content) -> frozenset[str]:
    """What stands in the root of an HDF5 file, none in any other; asked by each format in turn, looked up once.

    Raises InputError for a damaged file.
    """
    if not is_hdf5(content):
        return frozenset()
    with open_hdf5(content.path) as file:
        # A damaged name may come as bytes.
        return frozenset(
            n if isinstance(n, str) else n.decode(errors="replace") for n in file.keys()
        )


_IEEE = tuple(
    getattr(h5py.h5t, f"IEEE_F{n}{order}") for n in (16, 32, 64) for order in ("LE", "BE")
)


def find_dataset(
    file: h5py.File, name: str, *, sparse: bool = False, pairs: bool = False
) -> h5py.Dataset | None:
    """The data set at `name` ("a/b"), checked before use, or None where it is absent.

    sparse: parts may never have been written and count as zeros; for readers that know which.
    pairs: compounds of two real numbers are let through.
    Raises InputError for links, foreign storage, values that are not numbers, or impossible sizes.
    """
    found = _follow(file, name)
    if found is None:
        return None
    path = Path(file.filename)
    if not isinstance(found, h5py.Dataset):
        raise InputError(path, f"'{name}' is a group, expected a data set")
    if found.is_virtual:
        raise InputError(path, f"'{name}' is a virtual data set of other files", _copy_hint())
    if found.external:
        raise InputError(path, f"the values of '{name}' are stored in another file", _copy_hint())
    fields = [field[0].kind for field in (found.dtype.fields or {}).values()]
    number = found.dtype.kind in NUMBERS or (
        pairs and len(fields) == 2 and fields[0] == fields[1] and fields[0] in "fiu"
    )
    if found.shape is None or not number:
        raise InputError(path, f"'{name}' does not hold numbers (type {found.dtype})")
    if not _is_laid_out(found.id.get_type()):
        why = f"damaged HDF5 file: the values of '{name}' are numbers of no machine ({found.dtype})"
        raise InputError(path, why, DOWNLOAD_AGAIN)
    if sparse and found.chunks is not None:
        check_budget(found.nbytes, path)
    else:
        _check_size(path, name, found)
    if found.chunks is not None:  # one is read as a whole, whatever part of it is asked for
        check_budget(int(np.prod(found.chunks, dtype=object)) * found.dtype.itemsize, path)
    return found


def _is_laid_out(kind: h5py.h5t.TypeID) -> bool:
    """Whether floating-point numbers are IEEE's, and those of a pair stand side by side.

    The library believes a damaged type and then converts beyond the memory of the values.
    """
    if isinstance(kind, h5py.h5t.TypeCompoundID):
        size = kind.get_size() // 2
        members = range(kind.get_nmembers())
        parts = [(kind.get_member_offset(i), kind.get_member_type(i)) for i in members]
        return [at for at, _ in parts] == [0, size] and all(
            part.get_size() == size and _is_laid_out(part) for _, part in parts
        )
    if isinstance(kind, h5py.h5t.TypeFloatID):
        return any(kind.equal(known) for known in _IEEE)
    return True


def find_text(file: h5py.File, name: str) -> str | None:
    """A short scalar text data set such as an XML header, or None where it is absent."""
    found = _follow(file, name)
    if found is None:
        return None
    path = Path(file.filename)
    foreign = not isinstance(found, h5py.Dataset) or found.is_virtual or found.external
    if foreign or h5py.check_string_dtype(found.dtype) is None or found.size != 1:
        raise InputError(path, f"'{name}' is not one text stored in the file")
    if found.nbytes > MAX_TEXT_BYTES:
        raise InputError(path, f"'{name}' claims {found.nbytes} bytes of text")
    value = np.asarray(found[()]).reshape(-1)[0]
    raw = value if isinstance(value, bytes) else str(value).encode()
    if len(raw) > MAX_TEXT_BYTES:
        raise InputError(path, f"'{name}' holds {len(raw)} bytes of text")
    return raw.decode("utf-8", errors="replace")  # a header in another encoding: names with accents


def find_group(file: h5py.File, name: str) -> h5py.Group | None:
    """The group at `name`, or None where it is absent. Raises InputError for links."""
    found = _follow(file, name)
    if found is not None and not isinstance(found, h5py.Group):
        raise InputError(Path(file.filename), f"'{name}' is a data set, expected a group")
    return found


def attribute(item: h5py.HLObject, name: str) -> Any:
    """A numeric or text attribute (number, str or array), or None where it is absent.

    Raises InputError for other types and for more than `MAX_ATTRIBUTE_BYTES`.
    """
    if name not in item.attrs:
        return None
    handle = item.attrs.get_id(name)
    dtype = handle.dtype
    size = int(np.prod(handle.shape, dtype=np.int64)) * dtype.itemsize
    text = h5py.check_string_dtype(dtype) is not None
    if size > MAX_ATTRIBUTE_BYTES or not (text or dtype.kind in NUMBERS):
        raise InputError(
            Path(item.file.filename), f"attribute '{name}' is no number or short text ({dtype})"
        )
    value = item.attrs[name]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


def names(group: h5py.Group) -> str:
    """The names inside a group for a message; no link is followed."""
    return ", ".join(sorted(group.keys())[:30]) or "nothing"


def _follow(file: h5py.File, name: str) -> h5py.HLObject | None:
    item: h5py.HLObject = file
    for part in name.split("/"):
        if not isinstance(item, h5py.Group) or part not in item.keys():
            return None
        link = item.get(part, getlink=True)
        if not isinstance(link, h5py.HardLink):
            kind = "an external link" if isinstance(link, h5py.ExternalLink) else "a soft link"
            raise InputError(Path(file.filename), f"'{name}' is {kind}", _copy_hint())
        item = item[part]
    return item


def _check_size(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Compare the claimed size with the stored bytes and with this machine's memory."""
    stored = int(dataset.id.get_storage_size())
    filtered = dataset.id.get_create_plist().get_nfilters() > 0
    possible = stored * (MAX_COMPRESSION if filtered else 1)
    if dataset.nbytes > possible:
        raise InputError(
            path,
            f"'{name}' claims {_megabytes(dataset.nbytes)} {dataset.shape} but the file stores "
            f"{_megabytes(stored)} of it",
            "the file is incomplete or made to exhaust memory; " + DOWNLOAD_AGAIN,
        )
    check_budget(dataset.nbytes, path)


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MB"


def _copy_hint() -> str:
    return "only self-contained files are read: copy the values into this file"
