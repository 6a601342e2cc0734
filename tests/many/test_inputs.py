"""What folders, globs, BIDS trees and DICOM exports hold, and how results of it are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from restore.errors import ConfigError, InputError, NotFoundError, OutputError
from restore.many.bids import Wanted
from restore.many.inputs import NothingFoundError, list_inputs
from restore.many.names import check_root, result_names

ALL = Wanted()
DICOM = Path(__file__).resolve().parents[1] / "data" / "dicom_mr"


def volume(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 3, 2), np.float32), np.eye(4)), path)
    return path


def found(
    *words: Path, holds="volume", wanted: Wanted = ALL, avoid: Path | None = None
) -> list[str]:
    listing = list_inputs(words, holds, wanted=wanted, avoid=avoid)
    return [entry.name.as_posix() for entry in listing.inputs]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """b.nii, sub/a.nii.gz, a damaged c.nii, an empty d.nii.gz, notes, a hidden volume."""
    root = tmp_path / "in"
    for name in ("b.nii", "sub/a.nii.gz", ".hidden/x.nii", ".y.nii"):
        volume(root / name)
    (root / "c.nii").write_bytes(b"\0\1nonsense" * 50)
    (root / "d.nii.gz").touch()
    (root / "notes.txt").write_text("none of these")
    return root


def test_a_folder_by_content_and_damaged_files_are_inputs_too(tree):
    listing = list_inputs([tree], "volume", wanted=ALL)
    assert [str(e.name) for e in listing.inputs] == ["b.nii", "c.nii", "d.nii.gz", "sub/a.nii.gz"]
    assert listing.notes == ("left out: 1 of 5 files, which hold no volume (.txt)",)


def test_globs_several_names_and_what_is_given_twice(tree):
    assert found(tree / "*.nii*") == ["b.nii", "c.nii", "d.nii.gz"]
    assert found(tree / "**" / "*.nii.gz") == ["d.nii.gz", "sub/a.nii.gz"]
    assert found(tree / "s*") == ["sub/a.nii.gz"]
    assert found(tree / "b.nii", tree / "sub", tree / "b.nii") == ["b.nii", "sub/a.nii.gz"]
    odd = volume(tree / "e[1].nii")  # a file of this name is no glob
    assert found(odd) == ["e[1].nii"]


def test_nothing_there(tree, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingFoundError, match=r"holds no volume \(0 files\)"):
        found(tmp_path / "empty")
    with pytest.raises(NotFoundError, match="nothing there matches"):
        found(tree / "*.mha")
    with pytest.raises(NotFoundError, match="no such file"):
        found(tree / "z.nii")
    with pytest.raises(InputError, match=r"holds no picture \(5 files, such as .gz, .nii, .txt\)"):
        found(tree, holds="picture")


def test_results_inside_the_inputs_are_none(tree):
    volume(tree / "out" / "b.nii")
    assert "out/b.nii" not in found(tree, avoid=tree / "out")
    with pytest.raises(OutputError, match="among their sources"):
        check_root(tree, tree)
    with pytest.raises(OutputError, match="is a file"):
        check_root(tree / "b.nii", tree)
    with pytest.raises(OutputError, match="make it first"):
        check_root(tree / "x" / "y", tree)


def test_names_mirror_the_inputs_or_follow_a_template(tree):
    listing = list_inputs([tree / "b.nii", tree / "sub"], "volume", wanted=ALL)
    out = Path("o")
    assert result_names(listing, out, ".h5") == [out / "b.h5", out / "sub" / "a.h5"]
    assert result_names(listing, out, "") == [out / "b.nii", out / "sub" / "a.nii.gz"]
    template = out / "{folder}" / "{number}-{name}.tif"
    assert result_names(listing, template, "") == [out / "001-b.tif", out / "sub" / "002-a.tif"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{run}_{name}.nii", "b.nii has no 'run'; it has folder"),
        ("{name!r}.nii", "plain names"),
        ("{name}{name.upper}.nii", "has no 'name.upper'"),
        ("{folder}.nii", "one name would serve all"),
        ("{name.nii", "no template"),
    ],
)
def test_templates_that_do_not_serve(tree, template, words):
    with pytest.raises(ConfigError, match=words):
        result_names(list_inputs([tree / "b.nii"], "volume", wanted=ALL), Path(template), "")


def test_two_results_of_one_name_and_a_result_that_is_a_source(tree):
    volume(tree / "b.nii.gz")
    listing = list_inputs([tree], "volume", wanted=ALL)
    with pytest.raises(OutputError, match=r"o/b.h5: would be the result of b.nii and b.nii.gz"):
        result_names(listing, Path("o"), ".h5")
    with pytest.raises(OutputError, match="is one of the inputs"):
        result_names(listing, tree / "{folder}" / "{file}", "")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    root = tmp_path / "bids"
    for sub in ("01", "02"):
        for ses in ("1", "2"):
            for rest in ("anat/{}_run-1_T1w.nii.gz", "func/{}_task-rest_bold.nii.gz"):
                volume(root / f"sub-{sub}/ses-{ses}" / rest.format(f"sub-{sub}_ses-{ses}"))
    volume(root / "derivatives" / "sub-01_T1w.nii.gz")
    (root / "dataset_description.json").write_text("{}")
    return root


def test_a_bids_tree_by_participant_session_and_entities(dataset):
    assert len(found(dataset)) == 8
    assert len(found(dataset, wanted=Wanted.parse(["sub-01,02"], [], []))) == 8
    assert found(dataset, wanted=Wanted.parse(["02"], ["ses-2"], ["suffix=T1w"])) == [
        "sub-02/ses-2/anat/sub-02_ses-2_run-1_T1w.nii.gz"
    ]
    assert len(found(dataset, wanted=Wanted.parse([], [], ["datatype=func,anat,run=1"]))) == 4
    with pytest.raises(
        NothingFoundError, match="without a volume for participant 03, suffix T1w or T2w"
    ):
        found(dataset, wanted=Wanted.parse(["03"], [], ["suffix=T1w,T2w"]))
    with pytest.raises(ConfigError, match="NAME=LABEL"):
        Wanted.parse([], [], ["T1w"])
    with pytest.raises(InputError, match="no BIDS tree"):
        found(dataset / "sub-01" / "ses-1", wanted=Wanted.parse(["01"], [], []))
    template = Path("o") / "{sub}" / "{ses}-{suffix}.nii"
    listing = list_inputs([dataset], "volume", wanted=Wanted.parse(["01"], ["1"], ["suffix=T1w"]))
    with pytest.raises(ConfigError, match=r"needs \{name\}"):
        result_names(listing, template, "")
    named = Path("o") / "{sub}" / "{name}.nii"
    assert result_names(listing, named, "") == [Path("o/01/sub-01_ses-1_run-1_T1w.nii")]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A patient's folder with two series in one folder and one in another, a localizer and a text."""
    root = tmp_path / "DOE^JANE"
    several, alone = root / "ST1", root / "ST2" / "SE1"
    for folder in (several, alone):
        folder.mkdir(parents=True)
    for folder, number, told, kind in (
        (several, 3, "T1 MPRAGE/sag", ["ORIGINAL"]), (several, 4, "", ["ORIGINAL"]),
        (several, 1, "scout", ["ORIGINAL", "PRIMARY", "LOCALIZER"]), (alone, 5, "FLAIR", ["ORIGINAL"]),
    ):  # fmt: skip
        for file in sorted(DICOM.glob("*.dcm"))[:2]:
            image = pydicom.dcmread(file)
            image.SeriesNumber, image.SeriesDescription, image.ImageType = number, told, kind
            image.SeriesInstanceUID = f"1.2.3.{number}"
            image.SOPInstanceUID = f"1.2.3.{number}.{int(file.stem)}"
            image.PatientName = "DOE^JANE"
            image.save_as(folder / f"{number}-{file.name}")
    (root / "notes.txt").write_text("x")
    return root


def test_each_series_is_an_input_called_by_what_it_is_not_by_whom(export):
    listing = list_inputs([export], "volume", wanted=ALL)
    assert [(str(e.name), e.series) for e in listing.inputs] == [
        ("ST1/003_T1_MPRAGE_sag", "1.2.3.3"), ("ST1/004_MR", "1.2.3.4"), ("ST2/SE1", "")
    ]  # fmt: skip
    assert any("left out series 1 of 2 image(s): a localizer" in note for note in listing.notes)
    assert found(export / "ST1" / "3-*.dcm") == ["3-00.dcm", "3-01.dcm"]  # named one by one


def test_damaged_dicom_alone_in_a_folder_is_told(export):
    broken = export / "ST3"
    broken.mkdir()
    whole = (export / "ST1" / "3-00.dcm").read_bytes()
    (broken / "a.dcm").write_bytes(whole[:400])
    names = found(export)
    assert "ST3/a.dcm" in names
    shutil.rmtree(broken)
