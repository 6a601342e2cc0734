"""A program that runs napari where nobody sees it: xvfb-run python in_napari.py VOLUME. Started by test_plugin."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("QT_API", "pyqt6")

import napari
import numpy as np
from napari._qt.qt_event_loop import get_qapp
from npe2 import PluginManager, PluginManifest

import restore.napari_plugin

PATIENCE_S = 400


def main(path: str) -> None:
    manifest = Path(restore.napari_plugin.__file__).with_name("napari.yaml")
    manager = PluginManager.instance()
    if "restore" not in manager:
        manager.register(PluginManifest.from_file(manifest))
    app = get_qapp()
    viewer = napari.Viewer(show=False)
    image = viewer.open(path, plugin="restore")[0]
    _, panel = viewer.window.add_plugin_dock_widget("restore", "Restore a volume")
    lost = np.zeros(image.data.shape, int)
    lost[1:3, 8:12, 8:12] = 1
    panel.mask.value = viewer.add_labels(lost, name="lost", affine=image.affine)
    panel.image.value, panel.task.value, panel.sampler.value = image, "inpaint", "biharmonic"
    before = len(viewer.layers)
    panel()
    end = time.monotonic() + PATIENCE_S
    while len(viewer.layers) == before and time.monotonic() < end:
        app.processEvents()
        time.sleep(0.02)
    restored = viewer.layers[-1]
    assert restored.name == f"{image.name} restored", restored.name
    assert restored.data.shape == image.data.shape
    assert np.isfinite(restored.data).all()
    np.testing.assert_allclose(
        restored.data_to_world((1, 2, 3)), image.data_to_world((1, 2, 3)), atol=1e-3
    )
    viewer.close()
    print("restored in its place")


main(sys.argv[1])
