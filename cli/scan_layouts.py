"""The kinds of scans that are simulated, and of files that they become. Used by `restore simulate` only."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
    from restore.datasets.mri.noncartesian import NonCartesianScan
    from restore.datasets.mri.scan import MRIScan


class Layout(StrEnum):
    """What kind of file a simulated MRI scan becomes."""

    scan = "scan"
    fastmri = "fastmri"
    ismrmrd = "ismrmrd"
    cfl = "cfl"


class CTLayout(StrEnum):
    """What kind of file a simulated CT scan becomes."""

    scan = "scan"
    dxchange = "dxchange"
    rtk = "rtk"


class Geometry(StrEnum):
    """How the rays of a simulated CT scan run."""

    parallel = "parallel"
    fan = "fan"
    cone = "cone"
    helical = "helical"


class Encoding(StrEnum):
    """Along how many axes a simulated MRI scan is encoded."""

    two = "2d"
    three = "3d"


def check_suffix(out: Path, layout: Layout) -> None:
    """Refuse a name of BART for other files, and other names for BART's."""
    if (layout is Layout.cfl) != (out.suffix == ".cfl"):
        raise typer.BadParameter(f"{out}: BART's files are -o NAME.cfl with --as cfl")


def check_beams(out: Path, layout: CTLayout, geometry: str) -> None:
    """Refuse layouts that cannot say a geometry, and other names for RTK's."""
    if layout is CTLayout.dxchange and geometry != "parallel":
        raise typer.BadParameter(f"--as {layout} is for parallel rays; leave --geometry out")
    if layout is CTLayout.rtk and geometry != "cone":
        raise typer.BadParameter(f"--as {layout} is for --geometry cone")
    if layout is CTLayout.rtk and out.suffix.lower() != ".xml":
        raise typer.BadParameter(
            f"{out}: a geometry of RTK is -o NAME.xml, its projections NAME.mha"
        )


def beams_written_as(layout: CTLayout) -> dict[str, Any]:
    """How `Simulation.written` writes projections, as `written_as` says it of k-space."""
    if layout is CTLayout.rtk:
        from restore.datasets.ct.files.rtk_write import rtk_files, write_rtk

        return {"write": write_rtk, "files": rtk_files, "layout": "rtk"}
    from restore.datasets.ct.files.beam_measurement import write_beam_measurement

    return {"write": write_beam_measurement}


def written_as(
    layout: Layout, scan: MRIScan | NonCartesianScan | CartesianVolumeScan
) -> dict[str, Any]:
    """How `Simulation.written` writes k-space: `write`, `files` where these are several, `layout` for the mark."""
    from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
    from restore.datasets.mri.noncartesian import NonCartesianScan

    if layout is Layout.cfl:
        from restore.datasets.mri.files.bart_write import scan_files, write_scan

        return {"write": write_scan, "files": partial(scan_files, scan), "layout": "cfl"}
    if layout is Layout.ismrmrd:
        from restore.datasets.mri.mrd.mrd_write import write_acquisitions

        return {"write": write_acquisitions, "layout": "ismrmrd"}
    if isinstance(scan, NonCartesianScan):
        from restore.datasets.mri.files.trajectory_file import write_trajectory_file

        return {"write": write_trajectory_file, "layout": "trajectory"}
    return {"write": write_fastmri, "layout": "scan"}
