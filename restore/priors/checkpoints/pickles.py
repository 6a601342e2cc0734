"""What stands in a pickled file of weights, as JSON: run as a process of its own, with limits, and never imported.

Usage: `python -I pickles.py FILE`. Nothing of the file is executed and no class is looked up: the opcodes are walked by
a table (`pickletools`), calls of torch's tensor builders become places in the file, calls of anything else become
objects with a name that nobody builds. That is stricter than `torch.load(weights_only=True)`, and reads files that it
refuses for a class among their settings. Reads torch's zip form, its older form, and bare pickles with tensors in
them. Only the standard library, so that limits can be set before anything else is loaded.

The answer is {"form": ..., "tree": ...} or {"refused": ...}; tree nodes are ["v", value], ["l", nodes], ["d", pairs],
["o", name, node] and ["t", {dtype, at, bytes, offset, size, stride}] with `at` the byte of the file where the storage
begins.
"""

from __future__ import annotations

import io
import json
import pickletools
import resource
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

MEMORY_BYTES = 4 << 30
CPU_SECONDS = 300
MOST_NODES = 3_000_000
DEEPEST = 120
LARGEST_PICKLE = 1 << 30
MAGIC = 0x1950A86A20F9469CFC6C  # of torch's older form

_SIZES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1, "uint8": 1,
    "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip


class Refused(Exception):
    """The file is not one that can be read; the text says why."""


class Name(NamedTuple):
    """A class or function that the file mentions."""

    module: str
    name: str


class Bytes(NamedTuple):
    """A byte string and where in the file it lies."""

    data: bytes
    at: int


class Storage:
    """Numbers of a tensor: by key until it is known where in the file they are."""

    def __init__(self, dtype: str, key: str, count: int) -> None:
        self.dtype, self.key, self.count = dtype, key, count
        self.at, self.bytes = -1, 0


class Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: Storage
    dtype: str
    offset: int
    size: list[int]
    stride: list[int]


class Thing:
    """An object that is not built: its name, what it was called with, its state, its items."""

    def __init__(self, name: str, given: Any = None) -> None:
        self.name, self.given, self.state = name, given, None
        self.items: dict[Any, Any] = {}
        self.members: list[Any] = []


_MARK = object()


class Machine:
    """Walks the opcodes of one pickle; `storages` collects what its tensors refer to."""

    def __init__(self, start: int = 0) -> None:
        self.start, self.storages = start, {}  # type: ignore[var-annotated]
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def walk(self, stream: BinaryIO) -> Any:
        """The value of the pickle; the stream stands behind it afterwards."""
        try:
            for opcode, argument, position in pickletools.genops(stream):
                if opcode.name == "STOP":
                    return self.stack.pop()
                self.step(opcode.name, argument, position or 0)
        except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error) as error:
            raise Refused(f"a damaged pickle ({type(error).__name__}: {error})") from error
        raise Refused("a pickle without an end")

    def step(self, name: str, argument: Any, position: int) -> None:
        """One opcode."""
        push = self.stack.append
        if name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _PLAIN:
            push(argument)
        elif name in _BYTES:
            push(Bytes(bytes(argument), self.start + position + _BYTES[name]))
        elif name in _EMPTY:
            push(_EMPTY[name]())
        elif name == "MARK":
            push(_MARK)
        elif name in ("PROTO", "FRAME"):
            pass
        else:
            handler = getattr(self, f"_do_{name.lower()}", None)
            if handler is None:
                raise Refused(f"the opcode {name}, which files of weights do not have")
            handler(argument)

    def marked(self) -> list[Any]:
        """What lies above the last mark, which is taken off too."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def _do_pop(self, _: Any) -> None:
        self.stack.pop()

    def _do_pop_mark(self, _: Any) -> None:
        self.marked()

    def _do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_put(self, key: int) -> None:
        self.memo[key] = self.stack[-1]

    _do_binput = _do_long_binput = _do_put

    def _do_get(self, key: int) -> None:
        self.stack.append(self.memo[key])

    _do_binget = _do_long_binget = _do_get

    def _do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.marked()))

    def _do_list(self, _: Any) -> None:
        self.stack.append(self.marked())

    _do_frozenset = _do_list

    def _do_dict(self, _: Any) -> None:
        found = self.marked()
        self.stack.append(dict(zip(map(_key, found[::2]), found[1::2], strict=True)))

    def _do_tuple1(self, _: Any) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _do_tuple2(self, _: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _do_tuple3(self, _: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _do_append(self, _: Any) -> None:
        value = self.stack.pop()
        self._extend([value])

    def _do_appends(self, _: Any) -> None:
        self._extend(self.marked())

    _do_additems = _do_appends

    def _extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        (target.members if isinstance(target, Thing) else target).extend(values)

    def _do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _do_setitems(self, _: Any) -> None:
        self._set(self.marked())

    def _set(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        items = target.items if isinstance(target, Thing) else target
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            items[_key(key)] = value

    def _do_global(self, argument: str) -> None:
        self.stack.append(Name(*argument.split(" ", 1)))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(str(module), str(name)))

    def _do_inst(self, argument: str) -> None:
        given = tuple(self.marked())
        self.stack.append(Thing(argument.replace(" ", "."), given))

    def _do_obj(self, _: Any) -> None:
        kind, *given = self.marked()
        self.stack.append(Thing(_called(kind), tuple(given)))

    def _do_newobj(self, _: Any) -> None:
        given, kind = self.stack.pop(), self.stack.pop()
        self.stack.append(_built(kind, given))

    def _do_newobj_ex(self, _: Any) -> None:
        named, given, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self.stack.append(Thing(_called(kind), (given, named)))

    def _do_reduce(self, _: Any) -> None:
        given, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_built(function, given))

    def _do_build(self, _: Any) -> None:
        state = self.stack.pop()
        if isinstance(self.stack[-1], Thing):
            self.stack[-1].state = state

    def _do_binpersid(self, _: Any) -> None:
        self.stack.append(self._storage(self.stack.pop()))

    def _storage(self, told: Any) -> Any:
        if not isinstance(told, tuple) or len(told) < 5 or told[0] != "storage":
            return Thing("persistent object")
        kind, key, count = told[1], str(told[2]), told[4]
        dtype = _STORAGES.get(kind.name) if isinstance(kind, Name) else None
        if dtype is None or not isinstance(count, int):
            raise Refused(f"numbers of an unknown kind ({_called(kind)})")
        return self.storages.setdefault(key, Storage(dtype, key, count))


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": list}
_PLAIN = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING UNICODE SHORT_BINUNICODE BINUNICODE "
    "BINUNICODE8 BINSTRING SHORT_BINSTRING".split()
)
_BYTES = {"SHORT_BINBYTES": 2, "BINBYTES": 5, "BINBYTES8": 9, "BYTEARRAY8": 9}
"""Bytes between the opcode's place and the string."""


def _key(key: Any) -> Any:
    return key if isinstance(key, str | int | float | bool | None) else f"<{_called(key)}>"


def _called(thing: Any) -> str:
    if isinstance(thing, Name):
        return f"{thing.module}.{thing.name}"
    return thing.name if isinstance(thing, Thing) else type(thing).__name__


def _built(function: Any, given: Any) -> Any:
    """What a call makes: a tensor, a dictionary, a place in the file, or an object that is left alone."""
    name = _called(function)
    given = given if isinstance(given, tuple) else ()
    if name in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        return _view(given, None)
    if name == "torch._utils._rebuild_tensor_v3" and len(given) > 6:
        return _view(given, _called(given[6]).removeprefix("torch."))
    if name.startswith("torch._utils._rebuild_parameter") and given:
        return given[0]
    if name == "collections.OrderedDict":
        pairs = given[0] if given else []
        return {_key(p[0]): p[1] for p in pairs}
    if name == "torch.storage._load_from_bytes" and given and isinstance(given[0], Bytes):
        return older_form(io.BytesIO(given[0].data), given[0].at)
    if name == "torch.Size" and given:
        return list(given[0])
    return Thing(name, given)


def _view(given: tuple[Any, ...], dtype: str | None) -> Any:
    storage, offset, size, stride = given[:4]
    if not isinstance(storage, Storage):
        return Thing("tensor without numbers")
    numbers = [offset, *size, *stride]
    if not all(isinstance(n, int) and 0 <= n < 1 << 60 for n in numbers) or len(size) != len(
        stride
    ):
        raise Refused("a tensor of impossible size")
    if dtype is not None and dtype not in _SIZES:
        raise Refused(f"numbers of an unknown kind ({dtype})")
    return Tensor(storage, dtype or storage.dtype, offset, list(size), list(stride))


def older_form(stream: BinaryIO, start: int = 0) -> Any:
    """The value in torch's form of before 2020: pickles in a row, then the numbers."""
    if Machine(start).walk(stream) != MAGIC:
        raise Refused("no file of torch")
    Machine(start).walk(stream)  # the version of the form
    about = Machine(start).walk(stream)
    if isinstance(about, dict) and about.get("little_endian") is False:
        raise Refused("numbers with the highest byte first")
    machine = Machine(start)
    value = machine.walk(stream)
    for key in Machine(start).walk(stream):
        head = stream.read(8)
        storage = machine.storages.get(str(key))
        if len(head) < 8 or storage is None:
            raise Refused("a file that ends too early")
        (count,) = struct.unpack("<q", head)
        at = stream.tell()
        storage.at, storage.bytes = start + at, count * _SIZES[storage.dtype]
        if count < 0 or stream.seek(0, io.SEEK_END) < at + storage.bytes:
            raise Refused("a file that ends too early")
        stream.seek(at + storage.bytes)
    return value


def zip_form(path: Path) -> Any:
    """The value in torch's zip form, whose numbers lie uncompressed in entries of their own."""
    with zipfile.ZipFile(path) as archive, path.open("rb") as stream:
        entries = {i.filename: i for i in archive.infolist()}
        main = [n for n in entries if n == "data.pkl" or n.endswith("/data.pkl")]
        if len(main) != 1:
            raise Refused("a zip archive that is no file of torch (no data.pkl)")
        folder = main[0].removesuffix("data.pkl")
        if folder + "constants.pkl" in entries:
            raise Refused("a TorchScript program, whose weights cannot be told from its code")
        if (order := entries.get(folder + "byteorder")) and archive.read(order) != b"little":
            raise Refused("numbers with the highest byte first")
        if entries[main[0]].file_size > LARGEST_PICKLE:
            raise Refused("a pickle of more than 1 GB")
        machine = Machine()
        value = machine.walk(io.BytesIO(archive.read(main[0])))
        for key, storage in machine.storages.items():
            entry = entries.get(f"{folder}data/{key}")
            if entry is None or entry.compress_type != zipfile.ZIP_STORED:
                raise Refused(f"the numbers of storage {key} are missing or compressed")
            stream.seek(entry.header_offset)
            head = stream.read(30)
            if len(head) < 30:
                raise Refused("a file that ends too early")
            name, extra = struct.unpack("<HH", head[26:30])
            storage.at = entry.header_offset + 30 + name + extra
            storage.bytes = entry.file_size
    return value


class Writer:
    """A value as nodes of JSON, with a count that an explosion of repeated parts cannot pass."""

    def __init__(self) -> None:
        self.count = 0

    def node(self, value: Any, depth: int = 0) -> list[Any]:
        """One node. Raises Refused for too many or too deep ones."""
        self.count += 1
        if self.count > MOST_NODES or depth > DEEPEST:
            raise Refused("too many objects, or objects within each other without end")
        if isinstance(value, bool | int | float | str | None):
            return ["v", value]
        if isinstance(value, Tensor):
            return ["t", _place(value)]
        if isinstance(value, dict):
            pairs = [[str(k), self.node(v, depth + 1)] for k, v in value.items()]
            return ["d", pairs]
        if isinstance(value, list | tuple) and not isinstance(value, Name | Bytes):
            return ["l", [self.node(v, depth + 1) for v in value]]
        if isinstance(value, Thing):
            inside = {"given": value.given, "state": value.state, **value.items}
            inside |= {"members": value.members} if value.members else {}
            full = {k: v for k, v in inside.items() if v is not None}
            return ["o", value.name, self.node(full, depth + 1)]
        return ["o", _called(value), ["v", None]]


def _place(tensor: Tensor) -> dict[str, Any]:
    storage, size = tensor.storage, _SIZES[tensor.dtype]
    steps = zip(tensor.size, tensor.stride, strict=True)
    last = tensor.offset + sum((n - 1) * s for n, s in steps) + 1 if all(tensor.size) else 0
    if storage.at < 0 or last * size > storage.bytes:
        raise Refused("a tensor that reaches beyond its numbers")
    return {
        "dtype": tensor.dtype, "at": storage.at, "bytes": storage.bytes, "offset": tensor.offset, "size": tensor.size,
        "stride": tensor.stride,
    }  # fmt: skip


def answer(path: Path) -> dict[str, Any]:
    """What stands in a file. Raises Refused, and what damaged archives raise."""
    with path.open("rb") as stream:
        head = stream.read(512)
        stream.seek(0)
        if head.startswith(b"PK"):
            form, value = "torch file (zip)", zip_form(path)
        elif head[:1] == b"\x80" and MAGIC.to_bytes(10, "little") in head[:32]:
            form, value = "torch file (older form)", older_form(stream)
        elif head[:1] == b"\x80":
            machine = Machine()
            form, value = "pickle", machine.walk(stream)
            if machine.storages:
                raise Refused("a pickle of tensors whose numbers lie elsewhere")
        else:
            raise Refused("no file of torch and no pickle")
    return {"form": form, "tree": Writer().node(value)}


def main() -> None:
    """Set the limits, read, answer on the standard output."""
    for kind, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_FSIZE, 0),
    ):  # fmt: skip
        _, hard = resource.getrlimit(kind)
        limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (limit, limit))
    sys.setrecursionlimit(10 * DEEPEST)
    try:
        found = answer(Path(sys.argv[1]))
    except Refused as error:
        found = {"refused": str(error)}
    except MemoryError:
        found = {"refused": "more memory than a file of weights needs"}
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        found = {"refused": f"a damaged file ({error})"}
    sys.stdout.write(json.dumps(found))  # at once: many times faster than piece by piece


if __name__ == "__main__":
    main()
