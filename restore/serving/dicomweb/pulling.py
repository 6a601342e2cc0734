"""A study or a series out of an archive into a folder that appears when all of it has come.

Used by `restore pull`. Until then images lie in a hidden folder beside it, each whole, so that the same command goes on
with those that are missing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from pydicom import dcmwrite

from restore.datasets.atomic import PREFIX, atomic_file, check_name, flush, make_folder, sweep
from restore.datasets.locks import one_at_a_time
from restore.datasets.open import is_filled
from restore.errors import InputError, OutputError
from restore.serving.dicomweb.archive import Archive, Instance


def pull(
    archive: Archive, uid: str, out: Path, on_image: Callable[[int, int], None]
) -> tuple[int, int]:
    """Fetch the images of a study or a series; the number of images, and of those that had to be fetched.

    uid: of the study, whose series get a folder each, or of the series. out: the folder to make; one that holds just
    these images is done already. on_image: told after each image how many of how many are there. Raises OutputError (a
    folder with anything else in it), NotFoundError, InputError, ConfigError.
    """
    check_name(out)
    images = archive.find(uid)
    names = {_name(image, uid): image for image in images}
    if out.exists() and (not out.is_dir() or is_filled(out)):
        _check_done(out, names)
        return len(names), 0
    with one_at_a_time(out):
        work = _work_folder(out, uid)
        make_folder(work)
        fetched = 0
        for number, (name, image) in enumerate(names.items(), 1):
            if not (work / name).is_file():
                _keep(archive, image, work / name)
                fetched += 1
            on_image(number, len(names))
        _publish(work, out, set(names))
    return len(names), fetched


def _name(image: Instance, uid: str) -> str:
    """The file of an image below the folder."""
    return f"{image.uid}.dcm" if image.series == uid else f"{image.series}/{image.uid}.dcm"


def _work_folder(out: Path, uid: str) -> Path:
    mark = hashlib.sha256(f"{out.name}/{uid}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return out.with_name(f"{PREFIX}pull-{mark}")


def _check_done(out: Path, names: dict[str, Instance]) -> None:
    """Refuse a folder that holds anything but just these images (OutputError)."""
    there = (
        {f.relative_to(out).as_posix() for f in out.rglob("*") if f.is_file()}
        if out.is_dir()
        else set()
    )
    if there != set(names):
        raise OutputError(
            f"{out}: exists and holds other files than the {len(names)} images; choose a new folder"
        )


def _keep(archive: Archive, image: Instance, target: Path) -> None:
    """Fetch an image into its file, at once and whole."""
    found = archive.fetch(image)
    buffer = BytesIO()
    try:
        dcmwrite(buffer, found, enforce_file_format=True)
    except Exception as cause:  # whatever pydicom raises for values that are none
        raise InputError(
            archive.url,
            f"an image of it cannot be written ({type(cause).__name__})",
            "export it in another way",
        ) from cause
    make_folder(target.parent)
    with atomic_file(target, buffer.tell()) as partial:
        partial.write_bytes(buffer.getvalue())


def _publish(work: Path, out: Path, names: set[str]) -> None:
    """Give the complete folder its name; images that the archive has not any more go."""
    for folder in (work, *(f for f in work.rglob("*") if f.is_dir())):
        sweep(folder)
    for file in [f for f in work.rglob("*") if f.is_file()]:
        if file.relative_to(work).as_posix() not in names:
            file.unlink()
    try:
        if out.is_dir():
            out.rmdir()  # it is empty
        work.replace(out)
        flush(out.parent)
    except OSError as cause:
        raise OutputError(
            f"{out}: could not be made ({cause.strerror or cause}); all images lie in {work}"
        ) from cause
