"""What a volume that is reconstructed as a whole will hold in memory, part by part, before any work.

Called by `run_recon`; reads the sizes of the scan and the sampler's declarations, no values. The factors were measured
(benchmarks/PERFORMANCE.md): peaks of whole runs lie within 30 % of what they add up to.
"""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import torch

from restore.datasets.budget import check_work
from restore.datasets.scan import Scan
from restore.precision import resolve
from restore.priors.image_prior import PIXELS_PER_CALL
from restore.samplers.base import Sampler

VOLUMES = 12
"""Images of the volume that solvers and samplers hold: iterates, directions, starts, noise, transforms of one."""

NETWORK_NUMBERS, WITH_GRADIENTS = 250, 1400
"""Per pixel that goes through a network at once, in its precision."""

_STATUS = Path("/proc/self/status")


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they hold. program: what the process has before. kept: all the time; passing: one after the other,
    so that the largest counts."""

    program: int
    kept: dict[str, int]
    passing: dict[str, int]

    @property
    def work(self) -> int:
        """Bytes besides the program's."""
        return sum(self.kept.values()) + max(self.passing.values(), default=0)

    def check(self, what: str) -> None:
        """Refuse what does not fit into the memory that is free. what: the work in words. Raises OutOfMemory."""
        largest = max((self.kept | self.passing).items(), key=lambda part: part[1])
        check_work(
            self.work, what,
            f"most of it is {largest[0]} ({largest[1] / 1e9:.3g} GB): take fewer coils (--coils-virtual), a coarser "
            "grid, fewer samples",
        )  # fmt: skip

    def lines(self) -> list[str]:
        """The sum and its parts, in words."""
        parts = {"the program": self.program, **self.kept}
        return [
            f"memory: about {(self.program + self.work) / 1e9:.3g} GB at once",
            *(f"  {size / 1e9:.3f} GB  {what}" for what, size in parts.items()),
            *(f"  {size / 1e9:.3f} GB  for a while: {what}" for what, size in self.passing.items()),
        ]


def planned_memory(
    scan: Scan, sampler: Sampler, samples: int, precision: str, device: torch.device
) -> MemoryPlan | None:
    """Of a scan that is one volume; None where slices go one by one, which chunks keep small.

    samples: how many are drawn. precision: a word for the network's numbers on the device.
    """
    kept, passing = scan.held()
    if not kept:
        return None
    item = 4 * scan.values_per_slice * scan.n_slices
    kept = kept | {f"{VOLUMES} images of the volume": VOLUMES * item}
    if samples > 1:
        kept[f"{samples} samples"] = 2 * samples * item
    if sampler.prior_kinds:
        pixels = min(item // 4, PIXELS_PER_CALL)
        numbers = WITH_GRADIENTS if sampler.gradients else NETWORK_NUMBERS
        size = numbers * resolve(precision, device).itemsize
        passing = passing | {f"the prior, {pixels} pixels at once": size * pixels}
    return MemoryPlan(resident(), kept, passing)


def resident() -> int:
    """Bytes that this process holds now."""
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
