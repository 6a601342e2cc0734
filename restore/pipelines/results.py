"""The volumes that a job leaves: OUT, of several samples OUT_std and OUT_interval, its maps, and others it names.

Used by the jobs of `restore recon` and `restore volume`: where the results go, what is checked there before the work,
and how they are written into the job's hidden folder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from restore.datasets.atomic import check_name, check_writable, name_suffix
from restore.datasets.content_hash import sha256_of
from restore.datasets.open import is_filled, refuse_source, write, writer_for, written_files
from restore.datasets.sidecar import check_record
from restore.datasets.volume.dicom_write import refuse_foreign
from restore.datasets.volume.volume import Volume
from restore.errors import OutputError
from restore.pipelines.pieces import MAPS
from restore.pipelines.work_folder import outdated, unmoved


@dataclasses.dataclass(frozen=True)
class Results:
    """out: the main result. spread: whether deviation and interval are written. beside: other files of the job's own;
    never: files that a job of this kind may leave and this one does not. maps: names of `pieces.MAPS` that are
    written, as OUT_NAME."""

    out: Path
    spread: bool
    beside: tuple[Path, ...] = ()
    never: tuple[Path, ...] = ()
    maps: tuple[str, ...] = ()

    @property
    def volumes(self) -> list[Path]:
        """OUT, and deviation, interval and maps where they are written."""
        spread = [std_path(self.out), interval_path(self.out)] if self.spread else []
        return [self.out, *spread, *(map_path(self.out, name) for name in self.maps)]

    @property
    def files(self) -> list[Path]:
        """All files or folders that are made; some formats are two files."""
        return [*(file for volume in self.volumes for file in written_files(volume)), *self.beside]

    def check(
        self,
        fingerprint: str,
        image_bytes: int,
        samples: int,
        overwrite: bool,
        *sources: Path | None,
    ) -> None:
        """Refuse, before the work, results that cannot be put in their places (OutputError).

        image_bytes: of one volume. sources: files and folders that are no place for a result.
        """
        for path in self.files:
            check_name(path)
        for path in self.volumes:
            if path.is_symlink() and path.is_dir():
                raise OutputError(f"{path}: is a link; name the folder itself, {path.resolve()}")
            if overwrite and "" in writer_for(path).suffixes:
                refuse_foreign(path)
            for source in sources:
                refuse_source(path, source)
        check_writable(self.out.parent, image_bytes * (samples + len(self.files)))
        check_record(self.out)
        if overwrite:
            return
        ready = unmoved(self.out, fingerprint)
        for path in self.files:
            if is_filled(path) and (path not in ready or ready[path] != sha256_of(path)):
                raise OutputError(
                    f"{path}: exists and is not the result of this job; choose another name or add --overwrite"
                )

    def outdated(self, overwrite: bool) -> tuple[list[Path], list[str]]:
        """What an earlier job left beside OUT that this one makes none of, and notes: see `work_folder.outdated`."""
        maps = (map_path(self.out, name) for name in MAPS)
        volumes = (std_path(self.out), interval_path(self.out), *maps)
        mine = (*(file for volume in volumes for file in written_files(volume)), *self.never)
        made = self.files
        return outdated(self.out, [path for path in mine if path not in made], overwrite)


def write_volumes(results: Mapping[Path, tuple[str, Volume]], folder: Path) -> dict[Path, Path]:
    """Write volumes into the job's own folder: by their targets where their files lie.

    results: by target a few words for the file's own description, and the volume. Raises OutputError.
    """
    written: dict[Path, Path] = {}
    for target, (words, volume) in results.items():
        lying = folder / f"result-{len(written)}{name_suffix(target)}"
        write(volume, lying, description=words, overwrite=True)
        written |= zip(written_files(target), written_files(lying), strict=True)
    return written


def std_path(out: Path) -> Path:
    """OUT_std.nii.gz beside OUT.nii.gz, or the folder OUT_std."""
    return _beside(out, "std")


def interval_path(out: Path) -> Path:
    """OUT_interval.nii.gz beside OUT.nii.gz, or the folder OUT_interval: half-widths around the mean in OUT."""
    return _beside(out, "interval")


def map_path(out: Path, name: str) -> Path:
    """OUT_NAME.nii.gz beside OUT.nii.gz, or the folder OUT_NAME, for a name of `pieces.MAPS`: trajectory, how far the
    last estimates moved; structured, the structured noise as it looks by itself."""
    return _beside(out, name)


def _beside(out: Path, what: str) -> Path:
    suffix = name_suffix(out)
    return out.with_name(f"{out.name.removesuffix(suffix)}_{what}{suffix}")
