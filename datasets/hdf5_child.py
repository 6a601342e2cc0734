"""Walk through HDF5 files in a process of its own, so that one on which the HDF5 library hangs harms nobody.

Run as a script by `hdf5_walk`, imported by nobody; needs h5py alone. Each line of the input is a JSON object
{"path", "cpu_seconds"}, answered by one line {"names", "fault"}. Whatever a reader might touch later is touched: links,
shapes, types, chunk tables, attributes and short texts. An object that raises an error is left to the reader, which
says what is wrong with it; what never returns or needs too much memory ends this process by its limits.
"""

from __future__ import annotations

import json
import sys

MOST_OBJECTS = 20_000
"""Groups, data sets and attributes of one file: scans have about a hundred."""

MOST_VALUES = 1 << 16
"""Values of an attribute or a text that are read: variable lengths lie in heaps of their own, which may be damaged."""

MEMORY_BYTES = 2 << 30
"""Of address space, h5py's and numpy's libraries included (0.6 GB)."""

FAULTS = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
)
"""What h5py raises for damaged objects."""


class TooManyObjects(Exception):
    """A file has more objects than a scan can have."""


def walk(path: str) -> list[str]:
    """Touch every object that hard links lead to; returns the names in the root. Raises what h5py raises."""
    with h5py.File(path, "r", locking=False) as file:
        names = [n if isinstance(n, str) else n.decode(errors="replace") for n in file.keys()]
        waiting, seen, count = [file["/"]], set(), 0
        while waiting:
            item = waiting.pop(0)
            place = h5py.h5o.get_info(item.id).addr
            if place in seen:  # a group may hold itself
                continue
            seen.add(place)
            count += 1 + touch_attributes(item)
            if isinstance(item, h5py.Group):
                waiting += children(item)
            elif isinstance(item, h5py.Dataset):
                touch(item)
            if count + len(waiting) > MOST_OBJECTS:
                raise TooManyObjects
    return names


def children(group) -> list:
    """What lies in a group by hard links; others are refused by the reader."""
    if len(group) > MOST_OBJECTS:
        raise TooManyObjects
    found = []
    for name in group.keys():
        try:
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                found.append(group[name])
        except FAULTS:
            continue  # the reader meets the same error and names it
    return found


def touch_attributes(item) -> int:
    """Read every small attribute; returns their number."""
    try:
        names = list(item.attrs.keys())
    except FAULTS:
        return 0
    for name in names[:MOST_OBJECTS]:
        try:
            handle = item.attrs.get_id(name)
            if np.prod(handle.shape, dtype=float) <= MOST_VALUES:
                item.attrs[name]
        except FAULTS:
            continue
    return len(names)


def touch(dataset) -> None:
    """Layout, filters and the table of chunks of a data set; all values where they are few, else the first one.

    A damaged type can crash the library when values are converted, whatever their number.
    """
    try:
        dataset.id.get_storage_size()
        dataset.id.get_create_plist().get_nfilters()
        if dataset.chunks is not None:
            dataset.id.get_num_chunks()
        own = not (dataset.is_virtual or dataset.external)
        if own and dataset.size and dataset.size <= MOST_VALUES:
            dataset[()]
        elif own and dataset.size and dataset.dtype.kind != "O":
            dataset[(0,) * dataset.ndim]
    except FAULTS:
        return


def limit(kind: int, value: int) -> None:
    """Lower a soft limit of this process, within the hard one."""
    hard = resource.getrlimit(kind)[1]
    most = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (most, hard))


def answer(question: dict) -> dict:
    """Walk through one file within its limits."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + 1 + question["cpu_seconds"])
    try:
        return {"names": walk(question["path"]), "fault": ""}
    except MemoryError:
        return {"names": [], "fault": f"asks for more than {MEMORY_BYTES >> 30} GB of memory"}
    except TooManyObjects:
        return {"names": [], "fault": f"holds more than {MOST_OBJECTS} objects"}
    except FAULTS:
        return {"names": [], "fault": ""}


def serve() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])  # the packages of the process that asks
    import resource

    import h5py
    import numpy as np

    limit(resource.RLIMIT_AS, MEMORY_BYTES)
    limit(resource.RLIMIT_CORE, 0)
    serve()
