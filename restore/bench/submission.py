"""Collect the images of one method in a run as a folder that the fastMRI leaderboard takes.

Called by `restore bench submission`. Reads the run, writes one file a volume into a new folder.
"""

from __future__ import annotations

from pathlib import Path

from restore.bench import results, store
from restore.datasets.atomic import atomic_folder
from restore.datasets.mri.fastmri_files.fastmri_submission import submission_name, write_submission
from restore.errors import ConfigError, InputError, OutputError


def write_folder(run: Path, method: str, folder: Path, knee_v2: bool = False) -> list[str]:
    """Write every volume that the method reconstructed, whatever its acceleration; returns the names.

    A test set holds volumes of several accelerations, each of which has one row. Raises NotFoundError, ConfigError (no
    such method), InputError (a volume under several settings, its image not kept, a failed row), OutputError.
    """
    rows = [row for row in results.load(run) if row.method == method]
    if not rows:
        known = dict.fromkeys(row.method for row in results.load(run))
        raise ConfigError(f"{run} has no method '{method}'; it has {', '.join(known)}")
    if any(not row.protocol.startswith("fastmri") for row in rows):
        raise ConfigError(
            f"{run}: a run of {rows[0].protocol}; the leaderboard takes fastmri-volume"
        )
    if folder.exists():
        raise OutputError(f"{folder}: exists already; choose another name")
    found: dict[str, Path] = {}
    for row in rows:
        path = store.image_path(run, row.setting, method, row.volume)
        if row.status != "done" or not path.is_file():
            raise InputError(
                path,
                f"{row.volume} under {row.setting} has no image",
                "run the benchmark to its end",
            )
        name = submission_name(row.volume, knee_v2)
        if name in found:
            raise InputError(
                path, f"{row.volume} stands under several settings", "submissions are of test files, which have one"
            )  # fmt: skip
        found[name] = path
    with atomic_folder(folder) as partial:
        for name, path in found.items():
            write_submission(partial / name, store.load(path).image)
    return list(found)
