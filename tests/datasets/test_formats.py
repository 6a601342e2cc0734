"""Formats are found by the files that declare them; whatever is opened goes through the same list."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from restore.datasets import formats
from restore.datasets.content import look_at
from restore.datasets.formats import Format, described, known_formats
from restore.datasets.open import format_of, open_scan, read, read_image, write, writer_for
from restore.datasets.scan import Scan, Setup, SetupOptions
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError, InputError, NotFoundError
from restore.operators.image.inpainting import Inpainting
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.scan_to_volume import reconstruct
from restore.problem import Problem
from restore.registry import load_sampler
from restore.scaling import Scaling

ROOMS = Path(formats.__file__).parent


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MoonScan(Scan):
    """Every third column of pictures is missing."""

    kind = "image"
    abilities = frozenset({"linear", "selects"})
    modality: ClassVar[str] = "MR"
    holds: ClassVar[str] = "the moon"
    takes: ClassVar[tuple[str, ...]] = ()
    first_look: ClassVar[str] = "zerofilled"
    units: ClassVar[str] = "lux"
    sampling: ClassVar[str] = "two of three columns"

    pixels: np.ndarray

    @property
    def shape(self):
        return self.pixels.shape

    @property
    def image_shape(self):
        return self.pixels.shape[1:]

    @property
    def values_per_slice(self):
        return self.pixels[0].size

    def image_of(self, index):
        return self.pixels[index]

    def in_source_units(self, samples):
        return samples[..., 0, :, :].numpy()

    def _setup(self, options):
        return MoonSetup(scaling=Scaling(2.0, "toy"), noise=None, record={}, scan=self)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MoonSetup(Setup):
    scan: MoonScan

    def problem(self, which, device):
        y = torch.from_numpy(self.scan.pixels[which.start : which.stop, None]).to(device)
        mask = torch.ones(y.shape[-2:])
        mask[:, ::3] = 0
        operator = Inpainting(mask, tuple(y.shape[1:]))
        return Problem(y * mask, operator, None, self.scaling, self.scan.ids(which))


def open_moon(path: Path) -> MoonScan:
    values = np.frombuffer(path.read_bytes()[4:], np.float32).reshape(-1, 12, 9)
    return MoonScan(path=path, pixels=values.copy(), slice_indices=tuple(range(len(values))))


MOON = Format(
    name="MOON",
    holds="scan",
    files=".moon",
    ways="pictures of the moon in",
    claims=lambda content: content.head.startswith(b"MOON"),
    open=open_moon,
    called="a picture of the moon",
)


@pytest.fixture
def moon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file of a format that another package adds."""

    class Entry:
        name, value = "moon", "space:MOON"

        def load(self):
            return MOON

    monkeypatch.setattr(formats.metadata, "entry_points", lambda group: [Entry()])
    known_formats.cache_clear()
    path = tmp_path / "x.moon"
    pixels = np.random.default_rng(0).random((2, 12, 9)).astype(np.float32)
    path.write_bytes(b"MOON" + pixels.tobytes())
    yield path
    monkeypatch.undo()
    known_formats.cache_clear()


def test_a_format_is_one_object(moon):
    """Opened, reconstructed and refused where it is no volume, though no line of the package knows it."""
    scan = open_scan(moon)
    assert isinstance(scan, MoonScan)
    sampler = load_sampler("tv").configured("tuned", scan, {"n_steps": 2})
    result = reconstruct(scan, sampler, None, ReconOptions(), device=torch.device("cpu"))
    assert result.volume.data.shape == (2, 12, 9)
    assert result.volume.units == "lux"
    assert result.record["noise_known"] is False
    with pytest.raises(InputError, match=r"a picture of the moon, not a volume .*restore recon"):
        read(moon)
    with pytest.raises(ConfigError, match=r"repair is for .*, this is MOON"):
        open_scan(moon, repair="zero")
    with pytest.raises(ConfigError, match="echos is no option, this is MOON"):
        open_scan(moon, echos=3)
    with pytest.raises(ConfigError, match="repairs is no option, did you mean 'repair'"):
        open_scan(moon, repairs="zero")
    assert described()[-1]["name"] == "moon"


def test_a_format_is_one_file(monkeypatch, tmp_path):
    """A new file in a room is found, in its rank, and described without being imported."""
    room = tmp_path / "room"
    room.mkdir()
    declaration = 'FORMAT = Format(\n    name="A", holds="scan", files=".a", ways="in", rank=3)\n'
    (room / "a.py").write_text("import not_there\n\n" + declaration)
    (room / "b.py").write_text("NOT_A = 1\n")
    monkeypatch.setattr(formats, "__file__", str(tmp_path / "formats.py"))
    assert list(formats._modules()) == ["restore.datasets.room.a"]
    assert described() == [{"name": "A", "holds": "scan", "files": ".a", "ways": "in"}]


def test_what_other_packages_add_must_be_a_format(monkeypatch):
    class Entry:
        name, value = "bad", "bad:THING"

        def load(self):
            return object()

    monkeypatch.setattr(formats.metadata, "entry_points", lambda group: [Entry()])
    known_formats.cache_clear()
    with pytest.raises(ConfigError, match=r"is no Format: bad:THING"):
        known_formats()
    monkeypatch.undo()
    known_formats.cache_clear()


def test_what_is_told_is_what_is_there():
    told = {f["name"]: f for f in described()}
    assert len(told) == len(described()) == len(known_formats())
    for form in known_formats():
        assert told[form.name] == {
            "name": form.name, "holds": form.holds, "files": form.files, "ways": form.ways
        }  # fmt: skip
        assert ("out" in form.ways) or not form.suffixes


def test_describing_imports_no_reader():
    work = "import sys; from restore.datasets.formats import described; described(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    heavy = {"numpy", "torch", "nibabel", "pydicom", "h5py", "PIL"}
    assert not heavy & set(done.stdout.split())


def test_opening_a_volume_needs_no_torch(tmp_path):
    path = write(Volume(np.zeros((2, 3, 4), np.float32), np.eye(4)), tmp_path / "x.nii")
    work = f"import sys, restore; restore.read({str(path)!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True, check=True)
    assert "nibabel" in done.stdout.split()
    assert "torch" not in done.stdout.split()


def test_every_file_has_at_most_one_owner_of_a_kind(tmp_path):
    """So that ranks decide only between what is general and what is special."""
    volume = Volume(np.zeros((2, 3, 4), np.float32), np.eye(4))
    for name in ("x.nii", "x.nii.gz", "series"):
        content = look_at(write(volume, tmp_path / name))
        assert len([f for f in known_formats() if f.claims(content)]) == 1
    assert format_of(tmp_path / "series").name == "DICOM series"
    assert format_of(tmp_path / "x.nii.gz").name == "NIfTI"
    (tmp_path / "empty").mkdir()
    assert format_of(tmp_path / "empty") is None
    with pytest.raises(NotFoundError):
        format_of(tmp_path / "none")


def test_each_reader_says_where_the_others_files_go(tmp_path):
    volume = write(Volume(np.ones((2, 3, 4), np.float32), np.eye(4)), tmp_path / "x.nii")
    series = write(read(volume, modality="MR"), tmp_path / "series")
    array = tmp_path / "k.npy"
    np.save(array, np.ones((1, 8, 8), np.complex64))
    for path, kind in ((volume, "a NIfTI volume"), (series, "a DICOM series")):
        with pytest.raises(InputError, match=f"{kind}, not a scan .*restore simulate mri"):
            open_scan(path)
        with pytest.raises(InputError, match=f"{kind}, not a picture .*restore.read"):
            read_image(path)
    with pytest.raises(InputError, match=r"a NumPy array, not a volume .*restore recon"):
        read(array)


def test_names_choose_the_writer(tmp_path):
    assert writer_for(tmp_path / "x.NII.GZ").name == "NIfTI"
    assert writer_for(tmp_path / "x").name == "DICOM series"
    (tmp_path / "v1.2").mkdir()
    assert writer_for(tmp_path / "v1.2").name == "DICOM series"
    with pytest.raises(
        ConfigError,
        match=r"written as \.nii, \.nii\.gz, \.cfl, \.mrd, \.tif, \.tiff, or DICOM series into",
    ):
        writer_for(tmp_path / "x.mgz")


def test_options_that_mean_nothing_for_a_kind_of_scan(moon):
    scan = open_scan(moon)
    with pytest.raises(ConfigError, match="maps='espirit' means nothing"):
        scan.setup(SetupOptions(maps="espirit"))
    problem = scan.problem(range(1, 2), torch.device("cpu"))
    assert problem.ids == ("slice 1",)
    assert problem.scaling.scale == 2
