"""The plugin of napari: its manifest by npe2, what it reads, and the widget in a napari without a screen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest

import restore.napari_plugin
from restore.datasets.open import write
from restore.datasets.simulate.phantom import head_phantom
from restore.errors import ConfigError
from restore.napari_plugin.layers import layer_of, volume_of
from restore.napari_plugin.reader import get_reader
from restore.napari_plugin.widget import restored_layers
from restore.pipelines.results import std_path

MANIFEST = Path(restore.napari_plugin.__file__).with_name("napari.yaml")
IN_NAPARI = Path(__file__).with_name("in_napari.py")

ROUNDED = 1e-4
"""mm: affines of NIfTI are float32, here of numbers up to a few hundred."""


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A head in its place, with a deviation beside it."""
    path = tmp_path / "head.nii.gz"
    write(head_phantom((4, 20, 24)), path)
    write(head_phantom((4, 20, 24)), std_path(path))
    return path


def test_the_manifest_is_valid_and_what_it_names_is_there() -> None:
    manifest = PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    assert manifest.name == "restore"
    assert [widget.display_name for widget in manifest.contributions.widgets] == [
        "Restore a volume"
    ]


def test_napari_would_find_the_reader_by_its_names(head: Path) -> None:
    manager = PluginManager()
    manager.register(PluginManifest.from_file(MANIFEST))
    for path in (str(head), "IMG.DCM", str(head.parent)):
        assert [r.command for r in manager.iter_compatible_readers([path])] == ["restore.read"]
    assert not list(manager.iter_compatible_readers(["picture.png"]))


def test_a_volume_is_read_in_its_place_with_its_deviation(head: Path) -> None:
    read = get_reader(str(head))
    assert read is not None
    (data, settings, kind), (_, deviation, _) = read(str(head))
    volume = head_phantom((4, 20, 24))
    assert (kind, settings["name"], deviation["name"]) == (
        "image",
        "head.nii.gz",
        "head_std.nii.gz",
    )
    np.testing.assert_array_equal(data, volume.data)
    index = np.array([3, 7, 11])  # z, y, x
    world = (settings["affine"] @ [*index, 1])[:3]
    np.testing.assert_allclose(world[::-1], (volume.affine @ [*index[::-1], 1])[:3], atol=ROUNDED)


def test_a_layer_gives_back_its_volume() -> None:
    volume = head_phantom((4, 20, 24))
    data, settings, _ = layer_of(volume, "head")

    def to_world(index: object) -> np.ndarray:
        return (settings["affine"] @ [*index, 1])[:3]

    back = volume_of(data, to_world, settings["metadata"], "head")
    np.testing.assert_allclose(back.affine, volume.affine, atol=ROUNDED)
    assert back.modality == volume.modality
    with pytest.raises(ConfigError, match="2 dimensions"):
        volume_of(data[0], to_world, {}, "slice")


def test_a_volume_is_restored_in_its_place_and_options_of_other_tasks_are_refused() -> None:
    """What the widget's thread does."""
    volume = head_phantom((4, 20, 24))
    lost = np.zeros_like(volume.data)
    lost[1, 8:11, 8:11] = 1
    given = {"mask": volume.with_data(lost), "noise_level": 5.0, "psf": None}
    with pytest.warns(UserWarning, match="."):
        ((data, settings, kind),) = restored_layers(
            volume, "head", "inpaint", given, "biharmonic", 1, 0
        )
    assert (data.shape, settings["name"], kind) == (volume.data.shape, "head restored", "image")
    np.testing.assert_allclose(settings["affine"], layer_of(volume, "")[1]["affine"], atol=ROUNDED)
    with pytest.raises(ConfigError, match="mask is not for task denoise"):
        restored_layers(volume, "head", "denoise", given, "tv", 1, 0)


def test_what_is_no_volume_is_left_to_others(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"nothing")
    assert get_reader(str(tmp_path / "x.nii.gz")) is None
    assert get_reader(str(tmp_path / "absent.nii")) is None
    assert get_reader([str(tmp_path)]) is None


@pytest.mark.services
def test_reader_and_widget_work_in_napari(head: Path) -> None:
    """A window that nobody sees: a volume is opened, voxels lost, the result comes as a layer in its place."""
    missing = [name for name in ("napari", "qtpy", "PyQt6") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: pip install 'restore[services]'")
    screen = shutil.which("xvfb-run")
    if screen is None:
        pytest.skip("needs xvfb-run (Debian: apt install xvfb xauth)")
    done = subprocess.run(
        [screen, "-a", sys.executable, IN_NAPARI, head],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "restored in its place"
