"""An alarm for reconstructions that do not explain their data: something about the scan is not what its file says.

Called by `scan_to_volume` and `volume.restoring` after each chunk and at the end. A misfit alone is no fault: filtered
backprojection of few views, or of nearly noiseless ones, lies above the noise as well. What is said rests on two
numbers together.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

from restore.problem import Problem, Reconstruction

MISFIT = 3.0
"""In noise deviations, from which a reconstruction does not explain its data; 1 is a perfect fit."""

LEFT_BY_FITTING = 0.05
"""Of the measurement's norm, that a sampler which fits the data leaves at most of sound data beyond their noise: dps
leaves 3.5 % of 12 views with 100,000 photons."""

LEFT_BY_DIRECT = 0.1
"""The same for a direct reconstruction, which is not fitted to the data."""

LEFT_UNKNOWN = 0.5
"""Where the noise is unknown, a noisy scan may leave much; half of the norm is no noise of a usable one."""


def unexplained(problem: Problem, result: Reconstruction) -> dict[str, Any]:
    """For the log of a chunk: "residual", the share of the measurement's norm that is left, and "noise_known".

    Nothing where the misfit is that of noise.
    """
    misfit = max(float(end["misfit"]) for end in result.ends)
    known = problem.noise is not None and problem.precision is not None
    if known and misfit <= MISFIT:
        return {}
    with torch.no_grad():
        left = problem.residual(problem.scaling.to_unit(result.image))
        norm = torch.linalg.vector_norm(problem.unit_y).clamp(min=1e-30)
        return {"residual": float(torch.linalg.vector_norm(left) / norm), "noise_known": known}


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
    loud = [c for c in chunks if _is_loud(c, direct)]
    if not loud:
        return []
    worst = max(loud, key=lambda c: float(c["residual"]))
    share = f"{100 * worst['residual']:.0f} % of the measurement is left over"
    if worst["noise_known"]:
        share = f"the misfit is {worst['misfit']:.3g} times the noise (1 is a perfect fit), {share}"
    first = worst["slices"][0]
    return [
        f"the reconstruction does not explain its data: {share} (from {first}). Likely causes: {scan.suspects}"
    ]


def _is_loud(chunk: dict[str, Any], direct: bool) -> bool:
    residual = chunk.get("residual")
    if residual is None:
        return False
    if not chunk["noise_known"]:
        return bool(residual > LEFT_UNKNOWN)
    return bool(residual > (LEFT_BY_DIRECT if direct else LEFT_BY_FITTING))
