"""What a job will hold in memory, part by part, before any work, and how many slices it may take at once for that.

Called by `run_recon` (to say it and to refuse) and `scan_to_volume` (for its chunks); reads the sizes of the scan and
the sampler's declarations, no values. The factors were measured (benchmarks/PERFORMANCE.md, docs/memory.md).
"""

from __future__ import annotations

import dataclasses
import math
import resource
from pathlib import Path

import torch

from restore.datasets.budget import SHARE_OF_WORK, check_work, memory_limit
from restore.datasets.scan import Scan
from restore.pipelines.recon_options import ReconOptions
from restore.precision import resolve
from restore.priors.image_prior import PIXELS_PER_CALL
from restore.samplers.base import Sampler

IMAGES = 12
"""Images of a piece that solvers and samplers hold: iterates, directions, starts, noise, transforms of one."""
SEPARATED = 8
"""Of the measurement's form: a second unknown, what is drawn for it, the vectors of its conjugate gradients."""

NETWORK_NUMBERS, WITH_GRADIENTS = 250, 1400
"""Per pixel that goes through a network at once, in its precision."""

SLICES_AT_ONCE = 4
"""A scan of more slices goes slice by slice on a CPU, where an interruption costs one, but for small slices of CT."""

CT_AT_ONCE, VALUES_AT_ONCE, LEAST_COST = 8, 2**23, 30
"""Slices of CT that go together on a CPU at most, since weights of rays that are read once serve them all; values that
they send through a network, about 20 s of a core; evaluations that a sampler is taken to make at least, for those
whose time goes into steps of their own."""

_STATUS = Path("/proc/self/status")


@dataclasses.dataclass(frozen=True)
class MemoryPlan:
    """Bytes by what they hold. program: what the process has before. kept: all the time; passing: one after the other,
    so that the largest counts.

    slices: how many of `total` go together; usual: how many would, were there more memory.
    """

    program: int
    kept: dict[str, int]
    passing: dict[str, int]
    slices: int = 1
    total: int = 1
    usual: int = 1

    @property
    def work(self) -> int:
        """Bytes besides the program's."""
        return sum(self.kept.values()) + max(self.passing.values(), default=0)

    def chunks(self) -> list[range]:
        """The slices that go together, from the first to the last."""
        starts = range(0, self.total, self.slices)
        return [range(i, min(i + self.slices, self.total)) for i in starts]

    def check(self, what: str, device: torch.device) -> None:
        """Refuse what does not fit into the memory that is free. what: the work in words. Raises OutOfMemory."""
        largest = max((self.kept | self.passing).items(), key=lambda part: part[1])
        check_work(
            self.work, f"{what}, {self._going()},",
            f"most of it is {largest[0]} ({largest[1] / 1e9:.3g} GB): take fewer coils (--coils-virtual), a coarser "
            "grid, fewer samples",
            free_for_work(device),
        )  # fmt: skip

    def lines(self) -> list[str]:
        """The sum and its parts, in words."""
        parts = {"the program": self.program, **self.kept}
        return [
            f"memory: about {(self.program + self.work) / 1e9:.3g} GB at once, {self._going()}",
            *(f"  {size / 1e9:.3f} GB  {what}" for what, size in parts.items()),
            *(f"  {size / 1e9:.3f} GB  for a while: {what}" for what, size in self.passing.items()),
        ]

    def _going(self) -> str:
        if self.slices >= self.total:
            return "all in one piece"
        size = f"{self.slices} of {self.total} slices a piece"
        less = f", for want of memory not {self.usual}" if self.slices < self.usual else ""
        return size + less


def planned_memory(
    scan: Scan, sampler: Sampler, options: ReconOptions, device: torch.device
) -> MemoryPlan:
    """Of a scan, in pieces of as many slices as fit; of one where none do, which `check` refuses.

    Raises ConfigError for a precision that the device does not have.
    """
    total, usual = scan.n_slices, _usual(scan, sampler, options.samples, device)
    coupled = usual == total and (sampler.couples_slices or scan.whole)
    size = usual
    while True:
        kept, passing = _held(scan, sampler, options, device, size)
        found = MemoryPlan(resident(), kept, passing, size, total, usual)
        if coupled or size == 1 or found.work <= free_for_work(device):
            return found
        size = math.ceil(size / 2)


def free_for_work(device: torch.device) -> int:
    """Bytes that a job may take: of a GPU 90 % of what is free there, else by the budget. Raises ConfigError."""
    if device.type == "cuda":
        return int(SHARE_OF_WORK * torch.cuda.mem_get_info(device)[0])
    return memory_limit(SHARE_OF_WORK)


def network_bytes(pixels: int, sampler: Sampler, precision: str, device: torch.device) -> int:
    """What a bundled network holds while so many pixels go through it, at most `PIXELS_PER_CALL` at once."""
    numbers = WITH_GRADIENTS if sampler.differentiates else NETWORK_NUMBERS
    return numbers * resolve(precision, device).itemsize * min(pixels, PIXELS_PER_CALL)


def _usual(scan: Scan, sampler: Sampler, samples: int, device: torch.device) -> int:
    """Slices that go through the network together: as many as fill a call, few on a CPU where there are many."""
    if sampler.couples_slices or scan.whole:
        return scan.n_slices
    if device.type == "cpu" and scan.n_slices > SLICES_AT_ONCE:
        work = scan.values_per_slice * samples * max(LEAST_COST, sampler.cost())
        return max(1, min(CT_AT_ONCE, VALUES_AT_ONCE // work)) if scan.kind == "ct" else 1
    return min(scan.n_slices, max(1, PIXELS_PER_CALL // 2 // scan.values_per_slice))


def _held(
    scan: Scan, sampler: Sampler, options: ReconOptions, device: torch.device, size: int
) -> tuple[dict[str, int], dict[str, int]]:
    """All the time and for a while, with `size` slices in a piece."""
    kept, passing = scan.held(size, options)
    samples, item = options.samples, 4 * scan.values_per_slice * size
    several = samples > 1
    what = "the volume" if scan.whole else "a piece"
    images = (IMAGES + sampler.remembered) * sampler.states
    kept = kept | {f"{images} images of {what}": images * item}
    if several:
        kept[f"{samples} samples of {what}"] = 2 * samples * item
    if options.trajectory_map:
        kept[f"mean and variance of the estimates of {what}"] = 2 * samples * item
    if sampler.separates:
        measured = max(kept.values())  # the samples, or the maps, which are as many
        kept["structured noise, in the form of the measurement"] = SEPARATED * measured
    rows, columns = scan.image_shape
    result = "the result, its deviation and interval" if several else "the result"
    volumes = (3 if several else 1) + options.trajectory_map + sampler.separates
    kept[result] = volumes * 4 * scan.n_slices * rows * columns
    if sampler.prior_kinds:
        pixels = min(sampler.states * item // 4, PIXELS_PER_CALL)
        prior = f"the prior, {pixels} pixels at once"
        passing = passing | {prior: network_bytes(pixels, sampler, options.precision, device)}
    return kept, passing


def resident() -> int:
    """Bytes that this process holds now."""
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
