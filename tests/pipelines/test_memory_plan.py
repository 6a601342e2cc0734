"""What volumes will hold is said before the work, and refused where it does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from restore.cli import app
from restore.datasets.ct.files.beam_measurement import write_beam_measurement
from restore.datasets.mri.fastmri_files.fastmri import write_fastmri
from restore.datasets.open import open_scan
from restore.datasets.scan import Scan
from restore.datasets.simulate.ct_beams import BeamSettings, simulate_beams
from restore.datasets.simulate.mri import simulate_mri
from restore.datasets.simulate.mri_volume import simulate_mri_volume
from restore.datasets.simulate.phantom import ct_phantom, head_phantom
from restore.errors import OutOfMemory
from restore.pipelines.memory_plan import MemoryPlan, planned_memory
from restore.pipelines.meter import measured
from restore.pipelines.scan_to_volume import ReconOptions, reconstruct
from restore.priors.store import load_prior
from restore.registry import load_sampler

SHAPE = 8, 12, 10
BYTES = 8 * 8 * 12 * 10
COILS = 3
CPU = torch.device("cpu")
NEAR = 0.3  # of the peak: the plan's factors are those of measured runs, what allocators keep is not in it


def planned(scan: Scan, sampler: str, samples: int = 1, precision: str = "float32") -> MemoryPlan:
    found = planned_memory(scan, load_sampler(sampler)(), samples, precision, CPU)
    assert found is not None
    return found


def test_the_parts_of_a_volume_are_its_arrays() -> None:
    scan = simulate_mri_volume(head_phantom(SHAPE), coils=COILS)
    alone = planned(scan, "cgsense")
    assert alone.kept["coil maps"] == COILS * BYTES
    assert alone.kept["samples of 3 coils, as measured and as the prior's"] == 2 * COILS * BYTES
    assert alone.kept["12 images of the volume"] == 12 * BYTES
    assert alone.work == (3 * COILS + 12 + 5 * COILS) * BYTES
    drawn = planned(scan, "dds", 3)
    assert drawn.kept["3 samples"] == 6 * BYTES
    prior = f"the prior, {BYTES // 4} pixels at once"
    assert drawn.passing[prior] == 2 * planned(scan, "dds", 3, "float16").passing[prior]
    assert len(drawn.lines()) == 1 + 1 + len(drawn.kept) + len(drawn.passing)


def test_slices_go_one_by_one_and_have_no_plan() -> None:
    scan = simulate_mri(head_phantom(SHAPE), coils=COILS)
    assert planned_memory(scan, load_sampler("dds")(), 1, "auto", CPU) is None


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
        OutOfMemory, match=r"needs about .* GB of memory.* most of it is transforms of the coils"
    ) as found:
        plan.check("it")
    assert found.value.exit_code == 7


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mri", "cone"])
def test_the_peak_of_a_run_is_near_the_plan(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    if kind == "mri":
        volume = head_phantom((24, 128, 112))
        write_fastmri(simulate_mri_volume(volume, coils=16, mask="caipi:2x2"), path)
    else:
        beam = BeamSettings("cone", views=40, arc=360, detector="96x96@6")
        write_beam_measurement(simulate_beams(ct_phantom((64, 64, 64)), beam), path)
    scan, sampler = open_scan(path), load_sampler("dds")(n_steps=1)
    plan = planned_memory(scan, sampler, 1, "float32", CPU)
    assert plan is not None
    options = ReconOptions(precision="float32")
    with measured(CPU) as cost:
        reconstruct(scan, sampler, load_prior("medical"), options, device=CPU)
    peak = cost.peak_memory_mb * 2**20
    assert plan.program + plan.work == pytest.approx(peak, rel=NEAR)
