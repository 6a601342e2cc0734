"""Any file in, any volume out: `read`, `open_scan`, `read_image` and `write`.

May be called by everybody above. The content of a file decides, not its name: the formats are asked in turn, the first
that claims the file opens it. A file that holds something else, or that no format claims, is named for what it is.
"""

from __future__ import annotations

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from restore.config import did_you_mean
from restore.datasets.atomic import name_suffix
from restore.datasets.content import DOWNLOAD_AGAIN, HDF5, Content, look_at, spelled_out
from restore.datasets.foreign import CONVERT_VOLUME, FOREIGN, raw_kind, volume_kind
from restore.datasets.formats import Format, Holds, known_formats
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, OutputError

if TYPE_CHECKING:
    from restore.datasets.picture.images import Picture
    from restore.datasets.scan import Scan

INSTEAD: dict[Holds, str] = {
    "volume": "volumes are read by `restore.read`; `restore simulate mri` and `restore simulate ct` make scans of them",
    "scan": "k-space and sinograms are read by `restore recon` and datasets.open.open_scan",
    "picture": "pictures are read by `restore image` and datasets.open.read_image",
}
"""Where a file belongs that was given to the wrong reader."""

FRAMES = "projections as TIFF or raw files need a YAML that says where their rays run (docs/scan-files.md)"
"""What to do with frames of a detector that are given for a scan."""

REPAIRS = ("", "zero")

MOST_NAMES = 30
"""Of the parts of a file in a message."""

HINTS = (
    ("archive", "unpack it first"),
    ("camera's raw", "develop it, and save it as TIFF or PNG"),
    ("picture", "convert it to PNG or TIFF"),
    ("SVG", "a drawing has no pixels yet: export it as PNG"),
    ("document", "export the page as PNG or TIFF"),
    ("a video", "export one frame as PNG or TIFF"),
    ("a folder", "give one file, or the folder of a DICOM series"),
    ("text file", DOWNLOAD_AGAIN),
    ("web page", DOWNLOAD_AGAIN),
    ("git-lfs", DOWNLOAD_AGAIN),
    ("unknown kind", DOWNLOAD_AGAIN),
)
"""What to do about a file that no format claims, by a word of what it is."""


def read(
    path: str | Path,
    *,
    index: int | None = None,
    echo: int | None = None,
    series: str = "",
    modality: str = "",
    repair: str = "",
    **options: Any,
) -> Volume:
    """Read a volume: NIfTI, NRRD, MetaImage, a DICOM file or a folder with a DICOM series.

    index: which volume where a file or series holds several; echo: which echo of a DICOM series, from 1, of which
    `index` counts the volumes; series: which DICOM series of a folder (number, UID or its end); modality: "MR" or "CT"
    of a NIfTI file, which does not say; repair: "zero" puts 0 for NIfTI voxels that are not finite. options: whatever
    else a format takes. Raises NotFoundError, InputError,
    ConfigError (an option that the file's format does not take).
    """
    whole = {"index": index, "echo": echo}
    options |= {name: _whole(path, name, number) for name, number in whole.items()}
    options |= {"series": series and str(series), "modality": modality, "repair": repair}
    volume: Volume = _open(path, "volume", options)
    return volume


def _whole(path: str | Path, name: str, number: Any) -> int | None:
    """A whole number of any type, or None. Raises ConfigError."""
    if number is None:
        return None
    try:
        if isinstance(number, bool):
            raise TypeError
        return operator.index(number)
    except TypeError as cause:
        raise ConfigError(f"{path}: {name}={number!r}, expected a whole number") from cause


def open_scan(
    path: str | Path,
    repair: str = "",
    *,
    frames: int | None = None,
    frame_s: float | None = None,
    **options: Any,
) -> Scan:
    """The scan in a file, its slices read when they are asked for.

    repair="zero" replaces NaN and infinite samples by zero and says so in `notes`; by default they are an error when
    their slice is read. frames: cut its readouts or views into so many frames over time, of frame_s seconds each
    (`over_time`); by default as the file says. options: whatever else a format takes. Raises NotFoundError,
    InputError, ConfigError (unknown repair, an option that the file's format does not take).
    """
    if repair not in REPAIRS:
        raise ConfigError(f"unknown repair {repair!r}; known: 'zero'")
    from restore.datasets.over_time import in_frames

    scan: Scan = _open(path, "scan", {"repair": repair} | options)
    return in_frames(scan, frames, frame_s)


def read_image(path: str | Path) -> Picture:
    """Read a PNG, JPEG or TIFF picture. Raises NotFoundError, InputError."""
    picture: Picture = _open(path, "picture", {})
    return picture


def format_of(path: str | Path) -> Format | None:
    """The format that claims a file or folder, whatever it holds. Raises NotFoundError, InputError."""
    return _claiming(look_at(path), known_formats())


def write(
    volume: Volume, path: str | Path, *, description: str = "", overwrite: bool = False
) -> Path:
    """Write `X.nii` or `X.nii.gz` (float32), `X.cfl` with `X.hdr` (BART), `X.mrd` (ISMRMRD images), or a derived DICOM
    series into a folder `X`.

    description: what was done, a few words for the file's own description. The source is never
    written over, and what exists is only with `overwrite`. Raises ConfigError (name), OutputError.
    """
    target = Path(path)
    form = writer_for(target)
    check_over_time(form, target, volume.frames)
    refuse_source(target, volume.source)
    for file in written_files(target):
        if is_filled(file) and not overwrite:
            raise OutputError(f"{file}: exists already; choose another name or say overwrite")
    return form.save(volume, target, description=description)


def writer_for(path: Path) -> Format:
    """The format that a volume is written in under a name, by its suffix. Raises ConfigError."""
    suffix = "" if path.is_dir() else name_suffix(path).lower()
    writers = _writers()
    for form in writers:
        if suffix in form.suffixes:
            return form
    known = ", ".join(s for f in writers for s in f.suffixes if s)
    folder = next((f.name for f in writers if "" in f.suffixes), "")
    raise ConfigError(
        f"{path}: volumes are written as {known}, or {folder} into a folder whose name has no suffix"
    )


def check_over_time(form: Format, path: Path, frames: int) -> None:
    """Raise ConfigError where a format does not hold so many frames."""
    if frames > 1 and not form.over_time:
        known = ", ".join(s for f in _writers() if f.over_time for s in f.suffixes)
        raise ConfigError(
            f"{path}: {form.name} is written of one volume here, and there are {frames} frames; write {known}"
        )


def written_files(path: Path) -> tuple[Path, ...]:
    """All files that a volume of this name is: one, or a pair; a name of no format is itself alone. Touches no disk."""
    suffix = name_suffix(path).lower()
    beside = next((form.beside for form in _writers() if suffix in form.suffixes), ())
    return (path, *(path.with_suffix(other) for other in beside))


def _writers() -> list[Format]:
    return [f for f in known_formats() if f.holds != "picture" and f.suffixes]


def is_filled(path: Path) -> bool:
    """Whether there is a file, or a folder with something in it."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def refuse_source(target: Path, source: Path | None) -> None:
    """Refuse a result that would replace its source or become part of it (OutputError)."""
    if source is None or not source.exists():
        return
    here, there = target.resolve(), source.resolve()
    same = target.exists() and target.samefile(source)
    inside = source.is_dir() and there in here.parents and not name_suffix(target)
    around = target.is_dir() and here in there.parents
    if same or here == there or inside or around:
        what = "is the source" if same or here == there else "lies within or around the source"
        raise OutputError(f"{target}: {what}; write elsewhere")


def _open(path: str | Path, holds: Holds, options: dict[str, Any]) -> Any:
    """Open a file by the first format of what is wanted that claims it. options: names to values, falsy if not given.

    Raises NotFoundError, InputError, ConfigError.
    """
    content = look_at(spelled_out(path) if holds == "scan" else path)
    wanted = tuple(f for f in known_formats() if f.holds == holds)
    form = _claiming(content, wanted)
    if form is None:
        raise _refusal(content, holds, wanted)
    given = {name: value for name, value in options.items() if value not in (None, "")}
    for name in given:
        if name not in form.options:
            takers = " and ".join(f.name for f in wanted if name in f.options)
            known = {option for f in wanted for option in f.options}
            what = f"is for {takers}" if takers else f"is no option{did_you_mean(name, known)}"
            raise ConfigError(f"{path}: {name} {what}, this is {form.name}")
    return form.open(content.path, **given)


def _claiming(content: Content, asked: tuple[Format, ...]) -> Format | None:
    try:
        return next((f for f in asked if f.claims(content)), None)
    except OSError as cause:
        why = f"cannot be read ({cause.strerror or cause})"
        raise InputError(content.path, why) from cause


def _refusal(content: Content, holds: Holds, wanted: tuple[Format, ...]) -> InputError:
    """What a file is that cannot be opened as what it was given for, and what to do."""
    other = _claiming(content, tuple(f for f in known_formats() if f.holds != holds))
    if other is not None:
        if other.holds == "volume":
            other.open(
                content.path
            )  # one that is damaged as well says so: it would not help to go on with it
        why = f"{other.called or content.kind}, not a {holds}"
        frames = holds == "scan" and "TIFF" in content.kind
        return InputError(content.path, why, FRAMES if frames else INSTEAD[other.holds])
    names = ", ".join(f.name for f in wanted)
    foreign = {"scan": raw_kind, "volume": volume_kind}.get(holds, lambda _: None)(content)
    kind = foreign or content.kind
    if content.is_folder:
        kind += _held(content.path)
    hint = (
        CONVERT_VOLUME
        if foreign and holds == "volume"
        else next((todo for word, todo in FOREIGN + HINTS if word in kind), "")
    )
    if holds == "scan" and kind == HDF5:
        hint = "k-space is looked for in the data set 'kspace', a sinogram in 'sinogram' (docs/scan-files.md)"
    if holds == "scan" and content.is_folder:
        hint = FRAMES
    expected = f"expected {names}; {hint or '`restore list datasets` says more of them'}"
    return InputError(
        content.path,
        f"{kind if kind != HDF5 else _told(content)}, not a {holds} that is read here",
        expected,
    )


def _held(folder: Path) -> str:
    """The first file of a folder, by name and kind, in words."""
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    if not files:
        return " without files"
    try:
        kind = look_at(files[0]).kind
    except InputError as cause:
        kind = cause.why
    return f" of {len(files)} file(s), such as {files[0].name} ({kind})"


def _told(content: Content) -> str:
    """What a file is, an HDF5 file with the names in it."""
    if content.kind != HDF5:
        return content.kind
    from restore.datasets.hdf5_guard import root_names

    found = ", ".join(sorted(root_names(content))[:MOST_NAMES])
    return f"{HDF5} that holds {found or 'nothing'}"
