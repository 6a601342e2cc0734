"""An alarm for reconstructions that do not explain their data: something about the scan is not what its file says.

Called by `scan_to_volume` and `volume.restoring` after each chunk and at the end. The rule is that of `restore.solve`
(`restore.unexplained`); of direct reconstructions, which are not fitted to the data, it is looser: filtered
backprojection of few views, or of nearly noiseless ones, lies above the noise as well.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from restore.problem import Problem, Reconstruction
from restore.unexplained import Unexplained, doubt_of_one_level, worst_unexplained

MISFIT = 3.0
"""In noise deviations, above which a direct reconstruction may be one that does not explain its data."""

LEFT_BY_DIRECT = 0.1
"""Of the measurement's norm, that it leaves at most of sound data beyond their noise: it is not fitted to them."""

LEFT_UNKNOWN = 0.5
"""Where the noise is unknown, a noisy scan may leave much; half of the norm is no noise of a usable one."""


def of_chunk(problem: Problem, result: Reconstruction, fits: bool) -> dict[str, Any]:
    """For the log of a chunk: nothing where its data are explained.

    fits: whether the sampler looks for an x that explains the measurement. "residual": the share of the measurement's
    norm that is left; "noise_known"; of known noise and a sampler that fits also "unexplained", a clause that tells
    more of "item", the one that is explained worst, and "causes", those of single rows that are not, or ""; or "doubt".
    """
    x0, aside = problem.scaling.to_unit(result.image), result.structured
    problem = problem.without(None if aside is None else problem.scaling.to_unit(aside))
    known = problem.noise is not None and problem.precision is not None
    with torch.no_grad():
        misfit = max(float(end["misfit"]) for end in result.ends)
        if known and fits:
            return _told(worst_unexplained(problem, x0)) or _doubted(problem, misfit)
        if known and misfit <= MISFIT:
            return {}
        left = problem.residual(x0)
        norm = torch.linalg.vector_norm(problem.unit_y).clamp(min=1e-30)
        return {"residual": float(torch.linalg.vector_norm(left) / norm), "noise_known": known}


def _told(found: Unexplained | None) -> dict[str, Any]:
    if found is None or found.by_edges:
        return {}
    return {
        "residual": found.share, "noise_known": True, "unexplained": str(found), "item": found.item,
        "causes": "" if found.rows is None else f"{found.rows.words}: {found.rows.causes}",
    }  # fmt: skip


def _doubted(problem: Problem, misfit: float) -> dict[str, Any]:
    doubt = doubt_of_one_level(problem, misfit)
    return {"doubt": doubt} if doubt else {}


class Measured(Protocol):
    """What a scan, or a volume made ready for its task, says of itself for this alarm; see `Scan`."""

    @property
    def first_look(self) -> str:
        """The direct reconstruction of such data."""

    @property
    def direct_explains(self) -> bool:
        """Whether that leaves little of sound data over."""

    @property
    def suspects(self) -> str:
        """What is usually wrong where data are not explained."""


def misfit_notes(scan: Measured, sampler: str, chunks: list[dict[str, Any]]) -> list[str]:
    """A warning with the likely causes where some chunk is not explained, else nothing."""
    direct = sampler == scan.first_look
    if direct and not scan.direct_explains:
        return []
    loud = [c for c in chunks if _is_loud(c)]
    if not loud:
        doubted = max((c for c in chunks if "doubt" in c), key=lambda c: c["misfit"], default=None)
        return [] if doubted is None else [doubted["doubt"]]
    worst = max(loud, key=lambda c: float(c["residual"]))
    item, causes = worst.get("item", worst["slices"][0]), worst.get("causes", "")
    loose = "" if direct else f"; or settings of {sampler} that follow the data too little"
    size = f"{100 * worst['residual']:.0f} % of the measurement is left over"
    if worst["noise_known"]:
        size = f"the misfit is {worst['misfit']:.3g} times the noise (1 is a perfect fit), {size}"
    return [
        f"the reconstruction does not explain its data (from {item}): {worst.get('unexplained', size)}. Likely causes: "
        f"{scan.suspects}{'; of those ' if causes else ''}{causes}{loose}"
    ]


def _is_loud(chunk: dict[str, Any]) -> bool:
    residual = chunk.get("residual")
    if residual is None or "unexplained" in chunk:
        return residual is not None
    return bool(residual > (LEFT_BY_DIRECT if chunk["noise_known"] else LEFT_UNKNOWN))
