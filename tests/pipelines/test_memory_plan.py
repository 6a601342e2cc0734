"""What a job will hold is said before the work, made smaller where there is less, and refused where nothing fits."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from live_tensors import LiveTensors
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.ct.files.beam_measurement import write_beam_measurement
from restore.datasets.ct.files.measurement import write_ct_measurement
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import open_scan
from restore.datasets.scan import Scan
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.ct_beams import BeamSettings, simulate_beams
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.datasets.stack import LazyStack
from restore.errors import OutOfMemory
from restore.front_door import solve_problem
from restore.pipelines import memory_plan
from restore.pipelines.memory_plan import MemoryPlan, network_bytes, planned_memory
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.priors import FromDenoiser
from restore.priors.image_prior import PIXELS_PER_CALL
from restore.registry import load_sampler

SHAPE = 8, 12, 10
BYTES = 8 * 8 * 12 * 10
COILS = 3
CPU = torch.device("cpu")
FACTOR = 1.6
"""The peak lies within this factor of the plan, in both directions: the plan's parts are those of the samplers that
hold most, and what is held for a moment inside a product of the operator depends on sizes of blocks."""
NEAR = 1.4
"""The same of a whole process, of which the program is most: what allocators keep is not in the plan."""
LONG, SIDE = 400, 512


def planned(scan: Scan, sampler: str, **options: object) -> MemoryPlan:
    return planned_memory(scan, load_sampler(sampler)(), ReconOptions(**options), CPU)


def test_the_parts_of_a_volume_are_its_arrays() -> None:
    scan = simulate_mri_volume(head_phantom(SHAPE), coils=COILS)
    alone = planned(scan, "cgsense")
    assert alone.kept["coil maps"] == COILS * BYTES
    assert alone.kept["samples of 3 coils, as measured and as the prior's"] == 2 * COILS * BYTES
    assert alone.kept["12 images of the volume"] == 12 * BYTES
    assert alone.kept["the result"] == BYTES // 2
    assert alone.work == (3 * COILS + 12 + 3 * COILS) * BYTES + BYTES // 2
    assert alone.chunks() == [range(8)]
    drawn = planned(scan, "dds", samples=3, precision="float32")
    assert drawn.kept["3 samples of the volume"] == 6 * BYTES
    prior = f"the prior, {BYTES // 4} pixels at once"
    half = planned(scan, "dds", samples=3, precision="float16")
    assert drawn.passing[prior] == 2 * half.passing[prior]
    assert len(drawn.lines()) == 1 + 1 + len(drawn.kept) + len(drawn.passing)
    several = planned(scan, "particles", precision="float32")
    assert several.kept["96 images of the volume"] == 96 * BYTES
    fewer = planned(scan, "cgsense", coils_virtual="1")
    assert fewer.kept["coil maps"] == BYTES


def test_slices_are_planned_a_piece_at_a_time() -> None:
    scan = simulate_mri(head_phantom(SHAPE), coils=COILS)
    one = planned(scan, "dds")
    assert (one.slices, one.total, one.usual) == (1, 8, 1)
    assert one.kept["coil maps"] == COILS * BYTES // 8
    assert one.kept["the result"] == BYTES // 2
    assert one.chunks() == [range(i, i + 1) for i in range(8)]
    assert "1 of 8 slices a piece" in one.lines()[0]


def test_small_slices_of_ct_go_together() -> None:
    """As many as are quick: an interruption costs a piece. Nine of 128 x 128, whose samples and evaluations count."""
    nine = simulate_ct(ct_phantom((9, 128, 128)), views=12)
    assert planned(nine, "dds").chunks() == [range(8), range(8, 9)]
    assert planned(nine, "dds", samples=3).slices == 8 * 2**20 // (3 * 30 * 128**2)
    assert planned(nine, "tv").slices == 8
    assert planned(nine, "stsl").slices < planned(nine, "dds").slices
    large = simulate_ct(ct_phantom((5, 512, 512)), views=12)
    assert planned(large, "dds").slices == 1


def test_pieces_become_smaller_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = simulate_ct(ct_phantom((4, 16, 16)), views=12)
    whole = planned(scan, "fbp")
    assert whole.chunks() == [range(4)]
    room = whole.work - 1

    monkeypatch.setattr(memory_plan, "free_for_work", lambda device: room)
    half = planned(scan, "fbp")
    assert half.chunks() == [range(2), range(2, 4)]
    assert "for want of memory not 4" in half.lines()[0]
    pieces = reconstruct(scan, load_sampler("fbp")(), None, ReconOptions(), device=CPU)
    monkeypatch.setattr(memory_plan, "free_for_work", lambda device: 10**9)
    together = reconstruct(scan, load_sampler("fbp")(), None, ReconOptions(), device=CPU)
    assert len(pieces.record["chunks"]) == 2
    np.testing.assert_array_equal(pieces.volume.data, together.volume.data)
    room = 1
    monkeypatch.setattr(memory_plan, "free_for_work", lambda device: room)
    least = planned(scan, "fbp")
    assert least.slices == 1
    with pytest.raises(OutOfMemory, match="1 of 4 slices a piece, for want of memory not 4"):
        least.check(str(scan), CPU)


def test_what_does_not_fit_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scan.h5"
    write_fastmri(simulate_mri_volume(head_phantom(SHAPE), coils=COILS), path)
    words = ["recon", str(path), "-o", str(tmp_path / "a.nii.gz"), "--sampler", "cgsense"]
    said = CliRunner().invoke(app, [*words, "--dry-run"])
    assert said.exit_code == 0
    assert "memory: about" in said.stderr
    assert "coil maps" in said.stderr
    plan = planned(open_scan(path), "cgsense")
    monkeypatch.setenv("RESTORE_MAX_MEMORY_GB", str(plan.work / 2e9))
    with pytest.raises(
        OutOfMemory, match=r"needs about .* GB of memory.* most of it is 12 images of the volume"
    ) as found:
        plan.check("it", CPU)
    assert found.value.exit_code == 7
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 7
    assert [p.name for p in tmp_path.iterdir()] == ["scan.h5"]


def every_kind(kind: str, n: int) -> Scan:
    """Scans of the kinds whose operators differ, of n^3 or n^2 voxels, held in memory as files would give them."""
    if kind == "slices":
        return held(simulate_mri(head_phantom((2, n, n)), coils=4))
    if kind == "volume":
        return held(simulate_mri_volume(head_phantom((n, n, n)), coils=4, mask="caipi:2x2"))
    if kind == "parallel":
        return held(simulate_ct(ct_phantom((2, n, n)), views=n))
    beam = BeamSettings("cone", views=n, arc=360, detector=f"{n + n // 2}x{n + n // 2}@6")
    return held(simulate_beams(ct_phantom((n, n, n)), beam))


def held(scan: Scan) -> Scan:
    """The scan with what is simulated when it is asked for computed now: that is no work of a reconstruction."""
    lazy = {
        f.name: getattr(scan, f.name)
        for f in dataclasses.fields(scan)
        if f.init and isinstance(getattr(scan, f.name), LazyStack)
    }
    there = {name: np.asarray(stack) for name, stack in lazy.items()}
    return dataclasses.replace(
        scan, **{name: LazyStack(a.shape, a.__getitem__) for name, a in there.items()}
    )


@pytest.mark.parametrize("kind", ["slices", "volume", "parallel", "cone"])
def test_what_tensors_hold_is_near_the_plan(kind: str) -> None:
    scan, sampler = every_kind(kind, 16), load_sampler("dds")(n_steps=2)
    options = ReconOptions(precision="float32")
    plan = planned_memory(scan, sampler, options, CPU)
    # A network would hide all else at this size; the blocks of ESPIRiT are of a size of their own.
    passing = {k: v for k, v in plan.passing.items() if "prior" not in k and "ESPIRiT" not in k}
    told = dataclasses.replace(plan, passing=passing)
    with LiveTensors() as seen:
        reconstruct(scan, sampler, FromDenoiser(lambda x, s: 0.9 * x), options, device=CPU)
    assert told.work / FACTOR < seen.peak < told.work * FACTOR


@pytest.mark.parametrize(("kind", "measurements", "seen"), [("volume", 1, 12.1), ("cone", 3, 13.6)])
def test_what_a_volume_holds_is_a_small_number_of_volumes(
    kind: str, measurements: int, seen: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of products as small as they are beside a volume of real size. Before copies were left out: 20, 21."""
    for place in ("mri.multicoil._BLOCK_BYTES", "ct.feldkamp._FILTERED_AT_ONCE", "ct.truncation._AT_ONCE"):  # fmt: skip
        monkeypatch.setattr(f"restore.operators.{place}", 1)
    monkeypatch.setattr("restore.problem._AT_ONCE", 1)
    scan, sampler = every_kind(kind, 12), load_sampler("dds")(n_steps=2)
    problem = scan.problem(range(scan.n_slices), CPU)
    with LiveTensors() as alive:
        solve_problem(problem, prior=FromDenoiser(lambda x, s: 0.9 * x), sampler=sampler)
    volume = problem.y.element_size() * scan.n_slices * math.prod(scan.image_shape)
    besides = alive.peak - measurements * problem.y.nbytes
    assert besides < 1.1 * seen * volume


def test_four_times_the_slices_take_the_same_work() -> None:
    """And their planes: nothing of a finished slice stays but its place in the volume."""
    peaks, sampler = list[int](), load_sampler("fbp")()
    for slices in (8, 32):
        scan = held(simulate_ct(ct_phantom((slices, 24, 24)), views=24))
        reconstruct(scan, sampler, None, ReconOptions(), device=CPU)  # weights of the rays are made
        with LiveTensors() as alive:
            reconstruct(scan, sampler, None, ReconOptions(), device=CPU)
        peaks.append(alive.peak)
    assert peaks[1] < 1.05 * peaks[0]


PEAK = """
import sys
from pathlib import Path
from restore.cli import main
try:
    main()
finally:
    line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("VmHWM:"))
    print(int(line.split()[1]) * 1024)
"""
"""Not by getrusage: what the process that starts another one held counts there."""


def run_of(*words: object) -> tuple[int, str]:
    """Bytes that a process of its own held at most in a command, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1]), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["slices", "volume", "parallel", "cone"])
def test_the_peak_of_a_process_is_near_the_plan(kind: str, tmp_path: Path) -> None:
    path, scan = tmp_path / "scan.h5", every_kind(kind, 64)
    if kind in ("slices", "volume"):
        write_fastmri(scan, path)
    else:
        (write_ct_measurement if kind == "parallel" else write_beam_measurement)(scan, path)
    words = ["recon", path, "-o", tmp_path / "out.nii.gz", "--set", "n_steps=1"]
    words += ["--sampler", "dds", "--precision", "float32", "--device", "cpu"]
    _, said = run_of(*words, "--dry-run")
    told = 1e9 * float(said.partition("memory: about ")[2].split()[0])
    peak, _ = run_of(*words)
    assert told / NEAR < peak < told * NEAR


@pytest.mark.slow
def test_a_scan_of_400_slices_stays_below_4_gb(tmp_path: Path) -> None:
    path, side = tmp_path / "scan.h5", SIDE
    few = simulate_ct(ct_phantom((1, side, side)), views=60)
    sinogram = LazyStack((LONG, *few.sinogram.shape[1:]), lambda index: few.sinogram[0])
    many = dataclasses.replace(
        few, sinogram=sinogram, reference=None, slice_indices=tuple(range(LONG))
    )
    write_ct_measurement(many, path)
    peak, _ = run_of("recon", path, "-o", tmp_path / "out.nii.gz", "--sampler", "fbp")
    assert peak < 4e9


@pytest.mark.slow
def test_a_volume_of_400_slices_stays_below_4_gb(tmp_path: Path) -> None:
    """Without the network, which takes the same whatever the volume: its part of the plan is added."""
    plane = np.asarray(1000 * head_phantom((1, SIDE, SIDE)).data[0], np.float32)
    noise = np.random.default_rng(0).normal(0, 30, (8, SIDE, SIDE)).astype(np.float32)
    volume = nibabel.Nifti1Image(
        np.stack([plane + noise[k % 8] for k in range(LONG)]).astype(np.int16).T, np.eye(4)
    )
    nibabel.save(volume, tmp_path / "in.nii")
    del volume
    words = ["volume", tmp_path / "in.nii", "-o", tmp_path / "out.nii.gz", "--task", "denoise"]
    words += ["--modality", "MR", "--noise", "gaussian", "--sampler", "tv", "--set", "n_steps=1"]
    prior = network_bytes(PIXELS_PER_CALL, load_sampler("dds")(), "float32", CPU)
    peak, _ = run_of(*words)
    assert peak + prior < 4e9
