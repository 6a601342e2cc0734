"""Seeded damage to files: to bytes and words of any file, and to the parts of known forms so that the rest stays whole.

A mutator takes the content of a sound file and a generator and returns other content. Used by `targets`.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydicom

Mutator = Callable[[bytes, np.random.Generator], bytes]

WORDS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 62,
    (1 << 64) - 1,
)
FLOATS = (0.0, -0.0, -1.0, 1e-40, 1e30, 3e38, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "", " ", "\0", "x" * 5000, "-1", "1e400", "nan", "9" * 400, 
    "\ud800".encode(errors="surrogatepass").decode("latin-1"),
    "../../etc/passwd", "=1+1", "%s%n", "a\\b\\c\\d", "1\\2", "é漢\u202e",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 1 << 40, -(1 << 70), 1e300, -1e-300, "", "x", "nan", [], {}, [[]], {"a": {}}, [1, "2", None],
    *TEXTS,
)  # fmt: skip


def damaged_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four of: a bit, a byte or a word changed, a piece taken out, doubled, zeroed or moved, the end cut off."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not changed:
            return b""
        at, length = int(rng.integers(len(changed))), int(rng.integers(1, 65))
        kind = int(rng.integers(8))
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[at] = int(rng.integers(256))
        elif kind == 2:
            _set_word(changed, at, rng)
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        elif kind == 5:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 6:
            to = int(rng.integers(len(changed)))
            changed[to : to + length] = changed[at : at + length]
        elif rng.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def damaged_head(content: bytes, rng: np.random.Generator) -> bytes:
    """Words of the first 400 bytes changed: where headers of fixed form stand."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        _set_word(changed, int(rng.integers(min(400, len(changed)))) & ~1, rng)
    return bytes(changed)


def inside_gzip(mutate: Mutator) -> Mutator:
    """What is packed changed, the packing sound."""
    return lambda content, rng: gzip.compress(mutate(gzip.decompress(content), rng), 1, mtime=0)


def png_chunks(content: bytes, rng: np.random.Generator) -> bytes:
    """One chunk's data damaged, left out or doubled, its checksum right."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4])
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    chosen, kind = int(rng.integers(len(chunks))), int(rng.integers(4))
    name, data = chunks[chosen]
    chunks[chosen] = (name, damaged_bytes(data, rng))
    if kind == 0:
        chunks[chosen : chosen + 1] = []
    elif kind == 1:
        chunks.insert(chosen, (name, data))
    return content[:8] + b"".join(_png_chunk(n, d) for n, d in chunks)


def numpy_header(content: bytes, rng: np.random.Generator) -> bytes:
    """The text in the header of a .npy file damaged, its length right."""
    length = int.from_bytes(content[8:10], "little")
    text = damaged_bytes(content[10 : 10 + length], rng)[:60000]
    return content[:8] + len(text).to_bytes(2, "little") + text + content[10 + length :]


def json_tree(content: bytes, rng: np.random.Generator) -> bytes:
    """One value of a JSON file replaced by a hostile one, taken out, or buried deeply."""
    tree = json.loads(content)
    holder = tree
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = keys[int(rng.integers(len(keys)))]
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.8:
            holder = inner
            continue
        break
    kind = int(rng.integers(8))
    if kind == 0:
        del holder[key]
    elif kind == 1:
        buried = json.dumps(tree).replace(json.dumps(holder[key]), "[" * 3000 + "]" * 3000, 1)
        return buried.encode()
    else:
        holder[key] = VALUES[int(rng.integers(len(VALUES)))]
    return json.dumps(tree).encode()


def text_fields(content: bytes, rng: np.random.Generator) -> bytes:
    """A line of a text header with another value, number or name, left out or doubled; what follows it stays."""
    ends = [i for i, byte in enumerate(content) if byte == 10]
    at = int(rng.integers(1, 10))
    start, end = ends[at - 1] + 1, ends[at]
    line = content[start:end]
    mark = b"=" if b"=" in line else b":"
    key, _, value = line.partition(mark)
    numbers = (
        b"-1",
        b"nan",
        b"1e400",
        b"99999999999",
        b"1.5",
        b"",
        b"0",
        b"4 3",
        b"(1,2",
        b"none none none",
    )
    kind = int(rng.integers(5))
    if kind == 0:
        line = key + mark + b" " + numbers[int(rng.integers(len(numbers)))]
    elif kind == 1:
        line = (
            key + mark + b" " + TEXTS[int(rng.integers(len(TEXTS)))].encode(errors="surrogatepass")
        )
    elif kind == 2:
        words = value.split() or [b""]
        words[int(rng.integers(len(words)))] = numbers[int(rng.integers(len(numbers)))]
        line = key + mark + b" " + b" ".join(words)
    elif kind == 3:
        line = line + b"\n" + line
    else:
        line = b""
    return content[:start] + line + content[end:]


def yaml_lines(content: bytes, rng: np.random.Generator) -> bytes:
    """The value of a line replaced, a line doubled, indented or mixed with marks that YAML knows."""
    lines = content.decode().splitlines()
    at, kind = int(rng.integers(len(lines))), int(rng.integers(4))
    text = TEXTS[int(rng.integers(len(TEXTS)))]
    marks = (
        "&a [*a]",
        "!!python/object:os.system x",
        "*none",
        "{" * 200,
        "[" * 5000,
        "<<: *b",
        "? x",
        "|",
        "%TAG",
    )
    if kind == 0:
        lines[at] = f"{lines[at].partition(':')[0]}: {text}"
    elif kind == 1:
        lines.insert(at, lines[at])
    elif kind == 2:
        lines[at] = f"{lines[at].partition(':')[0]}: {marks[int(rng.integers(len(marks)))]}"
    else:
        lines[at] = " " * int(rng.integers(1, 9)) + lines[at]
    return "\n".join(lines).encode(errors="surrogatepass")


def csv_cells(content: bytes, rng: np.random.Generator) -> bytes:
    """One cell of a table replaced, or a column left out."""
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    row, column = int(rng.integers(len(rows))), int(rng.integers(len(rows[0])))
    if rng.random() < 0.1:
        rows = [r[:column] + r[column + 1 :] for r in rows]
    else:
        every = (*TEXTS, *(json.dumps(v) for v in VALUES))
        rows[row][column] = every[int(rng.integers(len(every)))]
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode(errors="surrogatepass")


def safetensors_header(content: bytes, rng: np.random.Generator) -> bytes:
    """The header of a weight file changed as a JSON tree, its length right."""
    length = int.from_bytes(content[:8], "little")
    header = json_tree(content[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def safetensors_record(content: bytes, rng: np.random.Generator) -> bytes:
    """The JSON text that a weight file's header holds as `record` changed as a tree, all lengths right."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    record = header["__metadata__"]["record"]
    header["__metadata__"]["record"] = json_tree(record.encode(), rng).decode()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def number_table(content: bytes, rng: np.random.Generator) -> bytes:
    """One number of a text table replaced, a line cut, or other bytes put in."""
    lines = content.decode().splitlines()
    at, kind = int(rng.integers(len(lines))), int(rng.integers(4))
    words = lines[at].split()
    if kind == 0:
        words[int(rng.integers(len(words)))] = TEXTS[int(rng.integers(len(TEXTS)))]
    elif kind == 1:
        words = words[:-1]
    elif kind == 2:
        words = [str(VALUES[int(rng.integers(len(VALUES)))]) for _ in words]
    else:
        words = ["1"] * int(rng.integers(1, 100_000))
    lines[at] = " ".join(words)
    return "\n".join(lines).encode(errors="surrogatepass")


def hdf5_objects(content: bytes, rng: np.random.Generator) -> bytes:
    """One data set or attribute replaced by another of odd type or shape, by a link, or left out; the file is whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.h5"
        path.write_bytes(content)
        with h5py.File(path, "r+") as file:
            names, holders = [], [file]
            file.visititems(lambda name, item: (names.append(name), holders.append(item)) and None)
            if rng.random() < 0.4:
                _change_attribute(holders[int(rng.integers(len(holders)))], rng)
            else:
                _change_object(file, names[int(rng.integers(len(names)))], rng)
        return path.read_bytes()


def dicom_elements(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three elements of a DICOM file emptied, left out or given a text or number that does not belong there."""
    try:
        return _changed_elements(content, rng)
    except (
        Exception
    ):  # what pydicom refuses to hold or to write is no such mutant: damage of bytes instead
        return damaged_bytes(content, rng)


def _changed_elements(content: bytes, rng: np.random.Generator) -> bytes:
    data = pydicom.dcmread(io.BytesIO(content), force=True)
    for _ in range(int(rng.integers(1, 4))):
        elements = [e for e in data if e.VR not in ("SQ",)]
        chosen = elements[int(rng.integers(len(elements)))]
        kind = int(rng.integers(4))
        if kind == 0:
            del data[chosen.tag]
        elif chosen.VR in ("US", "SS", "UL", "SL"):
            chosen._value = int(rng.choice([0, 1, 7, 255, 32767, 65535]))
        elif chosen.VR in ("OB", "OW"):
            chosen._value = bytes(chosen.value)[: int(rng.integers(1, len(chosen.value)))]
        else:
            text = TEXTS[int(rng.integers(len(TEXTS)))].encode(errors="replace")
            plain = pydicom.dataelem.RawDataElement(
                chosen.tag, chosen.VR, len(text), text, 0, False, True
            )
            data._dict[chosen.tag] = plain
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=False)
    return stream.getvalue()


def _set_word(changed: bytearray, at: int, rng: np.random.Generator) -> None:
    form = "<>"[int(rng.integers(2))] + "BHIQfd"[int(rng.integers(6))]
    size = struct.calcsize(form)
    if form[1] in "fd":
        with np.errstate(over="ignore"):
            value: Any = np.float32(FLOATS[int(rng.integers(len(FLOATS)))])
    else:
        value = WORDS[int(rng.integers(len(WORDS)))] & ((1 << 8 * size) - 1)
    packed = struct.pack(form, value)
    changed[at : at + size] = packed[: len(changed[at : at + size])]


def _png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _odd_array(rng: np.random.Generator) -> Any:
    arrays = (
        np.zeros(0), np.zeros((0, 3)), np.full((2, 2), np.nan), np.zeros((1,) * 8), np.array(b"text"), "text", np.inf,
        np.array([b"a", b"bc"]), np.zeros((2, 3), "i1"), np.ones(16, bool), np.full((2, 16, 16), 3e38), -1, 1 << 60,
        np.zeros(3, [("a", "f4"), ("b", "i2")]), np.ones((2, 2, 16, 16), "c16"), "<a><b/>" * 300, "{" * 3000,
        np.full((2, 2, 16, 16), 1j * np.inf, "c8"),
    )  # fmt: skip
    return arrays[int(rng.integers(len(arrays)))]


def _change_attribute(item: Any, rng: np.random.Generator) -> None:
    names = list(item.attrs) or ["max"]
    name = names[int(rng.integers(len(names)))]
    if name in item.attrs:
        del item.attrs[name]
    if rng.random() < 0.8:
        item.attrs[name] = _odd_array(rng)


def _change_object(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    kind = int(rng.integers(8))
    del file[name]
    if kind == 0:
        return
    if kind == 1:
        file[name] = h5py.SoftLink("/" + name)
    elif kind == 2:
        file[name] = h5py.ExternalLink("/dev/zero", "/x")
    elif kind == 3:
        file.create_group(name)
    elif kind == 4:
        file.create_dataset(name, (1 << 20, 1 << 10, 16, 16), "c8", chunks=(1, 1, 16, 16))
    elif kind == 5:
        file[name] = file["/"]
    else:
        file[name] = _odd_array(rng)
