"""ISMRMRD files: one that the format's own tools wrote, its records changed, and radial ones made of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from restore.datasets.mri.cartesian_volume import CartesianVolumeScan
from restore.datasets.mri.noncartesian import NonCartesianScan
from restore.datasets.mri.scan import MRIScan
from restore.datasets.open import open_scan
from restore.errors import ConfigError, InputError
from restore.operators.mri.trajectories import Trajectory, radial

GENERATED = Path(__file__).parents[3] / "data" / "ismrmrd_shepp_logan.h5"
"""24 x 24, readouts oversampled twice, two coils, two repetitions, a noise measurement of 0.01."""

N = 24


def rewritten(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray | None], xml: Any = None
) -> Path:
    """The file with other records."""
    path = tmp_path / "a.h5"
    shutil.copy(GENERATED, path)
    with h5py.File(path, "r+") as file:
        stored = file["dataset/data"]
        kind, records = stored.dtype, stored[()]
        found = change(records)
        records = records if found is None else found
        del file["dataset/data"]
        file["dataset"].create_dataset("data", data=records.astype(kind), dtype=kind)
        if xml is not None:
            text = file["dataset/xml"][0].decode()
            del file["dataset/xml"]
            file["dataset/xml"] = np.array([xml(text)], dtype=h5py.string_dtype())
    return path


def image(scan: Any) -> np.ndarray:
    problem = scan.setup().problem(range(scan.n_slices), torch.device("cpu"))
    return problem.operator.pinv(problem.y).abs().numpy()


def phantom() -> np.ndarray:
    with h5py.File(GENERATED) as file:
        values = file["dataset/phantom"][0]
    return np.hypot(values["real"], values["imag"])


def test_what_the_formats_own_tools_wrote():
    scan = open_scan(GENERATED)
    assert isinstance(scan, MRIScan)
    assert (scan.shape, scan.recon_shape) == ((1, 2, N, N), (N, N))
    assert scan.mask.all()
    assert scan.noise_std == pytest.approx(0.01, rel=0.2)  # of 96 complex samples: 5 %
    assert scan.noise_scan is not None
    notes = " ".join(scan.notes)
    assert "2 of the counter 'repetition': the first is read; --select repetition=N" in notes
    assert "readout oversampling removed: 48 to 24 samples" in notes
    # Rows run along the readout, x, which lies along the phantom's columns.
    assert np.corrcoef(image(scan).ravel(), phantom().T.ravel())[0, 1] > 0.97
    np.testing.assert_allclose(np.diag(scan.affine), [12.5, 12.5, 6, 1])


def test_repetitions_are_chosen_and_averages_averaged(tmp_path: Path):
    one, two = (open_scan(GENERATED, select=f"repetition={i}") for i in (0, 1))
    assert not np.array_equal(one.kspace[0], two.kspace[0])
    assert not any("repetition" in note for note in one.notes)

    def as_averages(records: np.ndarray) -> None:
        idx = records["head"]["idx"]
        idx["average"], idx["repetition"] = idx["repetition"], 0

    scan = open_scan(rewritten(tmp_path, as_averages))
    np.testing.assert_allclose(scan.kspace[0], (one.kspace[0] + two.kspace[0]) / 2, atol=1e-5)
    assert "2 averages: averaged" in scan.notes
    assert scan.noise_std == pytest.approx(one.noise_std / 2**0.5)
    with pytest.raises(InputError, match="holds no repetition 5"):
        open_scan(GENERATED, select="repetition=5")
    with pytest.raises(ConfigError, match="expected NAME=NUMBER"):
        open_scan(GENERATED, select="repeat=1")


def test_slices_and_places(tmp_path: Path):
    """Two slices 8 mm apart, seen from the side: directions and positions, turned from LPS to RAS."""

    def placed(records: np.ndarray) -> np.ndarray:
        head = records["head"]
        head["idx"]["slice"], head["idx"]["repetition"] = head["idx"]["repetition"], 0
        for name, axis in (("read_dir", 1), ("phase_dir", 2), ("slice_dir", 0)):
            head[name] = np.eye(3)[axis]
        head["position"] = 0
        head["position"][:, 0] = 10 + 8 * head["idx"]["slice"]
        return records

    scan = open_scan(rewritten(tmp_path, placed))
    assert scan.shape[0] == 2
    centre = scan.affine @ [N // 2, N // 2, 1, 1]
    np.testing.assert_allclose(centre[:3], [-18, 0, 0], atol=1e-4)
    np.testing.assert_allclose(scan.affine[:3, :3], [[0, 0, -8], [0, -12.5, 0], [12.5, 0, 0]], atol=1e-4)  # fmt: skip


def test_lacking_lines_leave_the_mask(tmp_path: Path):
    def half(records: np.ndarray) -> np.ndarray:
        line = records["head"]["idx"]["kspace_encode_step_1"]
        return records[(line % 2 == 0) | (abs(line.astype(int) - N // 2) < 3)]

    scan = open_scan(rewritten(tmp_path, half))
    assert scan.mask.sum() == 14
    assert "10 of 24 lines were not measured" in scan.notes


@pytest.mark.parametrize(("times_us", "dwell_s"), [((4, 4), 8e-6), ((4, 5), None), ((0, 0), None)])
def test_the_time_between_samples_is_that_of_the_images(tmp_path: Path, times_us, dwell_s):
    """Oversampling removed: twice that of the readout; None where it is not told, or differs."""

    def told(records: np.ndarray) -> None:
        first = np.arange(len(records)) < len(records) // 2
        records["head"]["sample_time_us"] = np.where(first, *times_us)

    found = open_scan(rewritten(tmp_path, told, None)).dwell_s
    assert found == (None if dwell_s is None else pytest.approx(dwell_s))


DEPTH = 8


def volume_records(
    records: np.ndarray, keep: Callable[[int, int], bool] = lambda z, line: True
) -> np.ndarray:
    """The image in slice 4 of eight and half of it in slice 5: partitions along kz, by the sum that they are."""
    lines = records[
        (records["head"]["flags"] & (1 << 18) == 0) & (records["head"]["idx"]["repetition"] == 0)
    ]
    noise = records[records["head"]["flags"] & (1 << 18) != 0]
    found = [noise]
    for z in range(DEPTH):
        part = np.array(
            [r for r in lines if keep(z, int(r["head"]["idx"]["kspace_encode_step_1"]))],
            lines.dtype,
        )
        part["head"]["idx"]["kspace_encode_step_2"] = z
        frequency = (z - DEPTH // 2) / DEPTH
        weight = (1 + 0.5 * np.exp(-2j * np.pi * frequency)) / DEPTH**0.5
        for record in part:
            record["data"] = (
                (record["data"].view(np.complex64) * weight).astype(np.complex64).view(np.float32)
            )
        found.append(part)
    return np.concatenate(found)


def deep(text: str) -> str:
    return text.replace("<z>1</z>", f"<z>{DEPTH}</z>").replace(
        "<z>6.000000</z>", f"<z>{6 * DEPTH}</z>"
    )


def test_partitions_of_a_volume(tmp_path: Path):
    flat = open_scan(GENERATED, select="repetition=0")
    scan = open_scan(rewritten(tmp_path, volume_records, deep))
    assert isinstance(scan, MRIScan)
    for z, factor in ((3, 0), (4, 1), (5, 0.5)):
        np.testing.assert_allclose(scan.kspace[z], factor * flat.kspace[0], atol=1e-4)
    middle = [N // 2, N // 2, DEPTH // 2, 1], [N // 2, N // 2, 0, 1]
    np.testing.assert_allclose(scan.affine @ middle[0], flat.affine @ middle[1], atol=1e-4)
    np.testing.assert_allclose(np.diag(scan.affine), np.diag(flat.affine))

    def keep(z: int, line: int) -> bool:
        return (z + line) % 2 == 0 or (abs(line - N // 2) < 5 and 2 <= z < 6)

    def undersampled(records: np.ndarray) -> np.ndarray:
        return volume_records(records, keep)

    volume = open_scan(rewritten(tmp_path, undersampled, deep))
    assert isinstance(volume, CartesianVolumeScan)
    assert (volume.shape, volume.n_slices) == ((1, 2, DEPTH, N, N), DEPTH)
    expected = [[keep(z, line) for line in range(N)] for z in range(DEPTH)]
    np.testing.assert_array_equal(volume.sampled[:, 0], expected)
    assert volume.noise_std == pytest.approx(flat.noise_std)
    np.testing.assert_array_equal(volume.affine, scan.affine)
    problem = volume.setup().problem(range(DEPTH), torch.device("cpu"))
    shown = np.abs(problem.operator.pinv(problem.y).numpy())
    assert np.corrcoef(shown[4].ravel(), phantom().T.ravel())[0, 1] > 0.8


def two_slabs(records: np.ndarray) -> np.ndarray:
    records = volume_records(records)
    records["head"]["idx"]["slice"] = records["head"]["idx"]["kspace_encode_step_1"] % 2
    return records


@pytest.mark.parametrize(
    ("change", "xml", "match"),
    [
        (two_slabs, deep, "2 slabs of 8 partitions"),
        (volume_records, lambda t: deep(t).replace("<z>8</z>", "<z>2</z>"), r"of partition 2, and the encoded matrix"),
    ],
)  # fmt: skip
def test_counters_of_partitions_that_contradict_the_header(
    tmp_path: Path, change: Any, xml: Any, match: str
):
    with pytest.raises(InputError, match=match):
        open_scan(rewritten(tmp_path, change, xml))


def radial_records(records: np.ndarray) -> np.ndarray:
    """Spokes through the phantom's image in cycles per pixel, in the place of lines."""
    pytest.importorskip("finufft")
    from restore.operators.mri.nonuniform import nufft

    points = radial(36, 96, (2 * N, N), full=True)
    seen = np.zeros((2 * N, N), np.complex64)
    seen[N // 2 : N // 2 + N] = phantom().T
    samples = nufft(torch.from_numpy(seen)[None].repeat(2, 1, 1), Trajectory(points), 2).numpy()
    found = records[np.flatnonzero(records["head"]["flags"] & (1 << 18) == 0)[:36]]
    for i, record in enumerate(found):
        head = record["head"]
        head["number_of_samples"], head["trajectory_dimensions"] = 96, 2
        record["data"] = np.ascontiguousarray(samples[:, i]).view(np.float32).ravel()
        record["traj"] = (points[i] / [2 * N, N]).astype(np.float32).ravel()
        head["idx"]["repetition"] = 0
    return found


def test_spokes(tmp_path: Path):
    path = rewritten(tmp_path, radial_records, lambda t: t.replace(">cartesian<", ">radial<"))
    scan = open_scan(path)
    assert isinstance(scan, NonCartesianScan)
    assert (scan.shape, scan.matrix, scan.image_shape) == ((1, 2, 36, 96), (2 * N, N), (N, N))
    assert any("half a cycle per pixel" in note for note in scan.notes)
    shown = scan.in_source_units(torch.from_numpy(image(scan)))
    assert np.corrcoef(shown.ravel(), phantom().T.ravel())[0, 1] > 0.95


def head_field(name: str, value: object) -> Callable[[np.ndarray], None]:
    def change(records: np.ndarray) -> None:
        records["head"][name][5] = value

    return change


def far_line(records: np.ndarray) -> None:
    records["head"]["idx"]["kspace_encode_step_1"][5] = 200


def partition(records: np.ndarray) -> None:
    records["head"]["idx"]["kspace_encode_step_2"][5] = 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (head_field("number_of_samples", 47), "holds 192 numbers and 0 coordinates, its header says 2 channels of 47"),
        (head_field("flags", 1 << 21), r"run backwards \(EPI\)"),
        (head_field("encoding_space_ref", 1), "several encoding spaces"),
        (far_line, "in line 200, and the encoded matrix is 48 x 24"),
        (partition, "count partitions up to 1, and its header tells of one"),
        (lambda records: records[:1], "holds no acquisitions of an image"),
    ],
)  # fmt: skip
def test_odd_records_are_named(tmp_path: Path, change: Any, found: str):
    with pytest.raises(InputError, match=found):
        open_scan(rewritten(tmp_path, change))


def test_odd_headers_are_named(tmp_path: Path):
    def keep(records: np.ndarray) -> None:
        return None

    spiral = rewritten(tmp_path, keep, lambda t: t.replace(">cartesian<", ">spiral<"))
    with pytest.raises(
        InputError, match="its trajectory is 'spiral', and its acquisitions have no coordinates"
    ):
        open_scan(spiral)
    vast = rewritten(
        tmp_path,
        keep,
        lambda t: t.replace("<x>48</x>", "<x>900000</x>").replace("<y>24</y>", "<y>900000</y>"),
    )
    with pytest.raises(InputError, match="of memory"):
        open_scan(vast)
    bad = rewritten(tmp_path, keep, lambda t: t.replace("<x>48</x>", "<x>none</x>"))
    with pytest.raises(InputError, match="its header cannot be used"):
        open_scan(bad)


def test_calibration_lines_of_another_scan_are_left_out(tmp_path: Path):
    def apart(records: np.ndarray) -> None:
        line = records["head"]["idx"]["kspace_encode_step_1"]
        records["head"]["flags"][line >= N - 4] |= 1 << 19

    def mode(word: str) -> Callable[[str], str]:
        told = (
            "<parallelImaging><accelerationFactor><kspace_encoding_step_1>1</kspace_encoding_step_1>"
            "<kspace_encoding_step_2>1</kspace_encoding_step_2></accelerationFactor>"
            f"<calibrationMode>{word}</calibrationMode></parallelImaging></encoding>"
        )
        return lambda text: text.replace("</encoding>", told)

    scan = open_scan(rewritten(tmp_path, apart, mode("separate")))
    assert scan.mask.sum() == N - 4
    assert any("of a separate calibration scan are not used" in note for note in scan.notes)
    assert open_scan(rewritten(tmp_path, apart, mode("embedded"))).mask.all()


def test_readouts_that_lack_samples(tmp_path: Path):
    """An asymmetric echo: the first quarter was not measured, which is no measurement of zeros."""

    def later(records: np.ndarray) -> None:
        head = records["head"]
        head["discard_pre"][head["flags"] & (1 << 18) == 0] = N // 2

    scan = open_scan(rewritten(tmp_path, later))
    assert (scan.shape, scan.image_shape) == ((1, 2, 2 * N, N), (N, N))
    np.testing.assert_array_equal(scan.mask[:, 0], np.arange(2 * N) >= N // 2)
    assert any("readouts lack samples (12 of 48 in all of them)" in note for note in scan.notes)


def test_a_field_of_view_that_cuts_the_object_is_noted(tmp_path: Path):
    def half(text: str) -> str:
        before, word, after = text.partition("<reconSpace>")
        return before + word + re.sub(r"<x>300[.0]*</x>", "<x>100</x>", after, count=1)

    scan = open_scan(rewritten(tmp_path, lambda records: None, half))
    assert scan.image_shape[0] == 8
    assert any("is the header's field of view right?" in note for note in scan.notes)


def test_slices_in_several_directions(tmp_path: Path):
    def localiser(records: np.ndarray) -> None:
        head = records["head"]
        head["idx"]["slice"], head["idx"]["repetition"] = head["idx"]["repetition"], 0
        for k, name in enumerate(("read_dir", "phase_dir", "slice_dir")):
            for n in range(2):
                head[name][head["idx"]["slice"] == n] = np.roll(np.eye(3), n, axis=0)[k]

    path = rewritten(tmp_path, localiser)
    with pytest.raises(InputError, match="2 slices lie in 2 directions, as those of a localiser"):
        open_scan(path)
    assert open_scan(path, select="slice=1").shape[0] == 1


@pytest.mark.parametrize("counter", ["contrast", "phase", "set", "slice", "average", "repetition"])
def test_every_counter_is_chosen_by(tmp_path: Path, counter: str):
    """The two repetitions of the file as two of something else."""

    def counted(records: np.ndarray) -> None:
        idx = records["head"]["idx"]
        turn = idx["repetition"].copy()
        idx["repetition"] = 0
        idx[counter] = turn

    path = rewritten(tmp_path, counted)
    for number in (0, 1):
        expected = open_scan(GENERATED, select=f"repetition={number}").kspace[0]
        chosen = open_scan(path, select=f"{counter}={number}")
        np.testing.assert_array_equal(chosen.kspace[0], expected)
        assert chosen.shape[0] == 1
    with pytest.raises(InputError, match=rf"holds no {counter} 2.*there are 0, 1"):
        open_scan(path, select=f"{counter}=2")
