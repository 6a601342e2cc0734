"""The widget: a layer through `restore volume`, and the results as layers. napari makes its panel of the signature.

Called by napari. Works in a folder of its own, which is gone afterwards, and in a thread, so that the window lives on.
Annotations are values here, and names of napari texts: so they are read.
"""

import dataclasses
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from restore.datasets.open import read, write
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.extras import load_extra
from restore.napari_plugin.layers import LayerData, layer_of, volume_of
from restore.pipelines.devices import choose_device
from restore.pipelines.recon_options import DrawOptions
from restore.pipelines.volume.job import VolumeJob, plan, run
from restore.pipelines.volume.known import TASKS, task_class

if TYPE_CHECKING:
    import napari.layers
    import napari.qt.threading
    import napari.types


def restore_layer(
    image: "napari.layers.Image",
    task: Annotated[str, {"choices": list(TASKS)}] = next(iter(TASKS)),
    mask: "napari.layers.Labels | None" = None,
    noise: Annotated[str, {"choices": ["auto", "gaussian", "rician", "correlated"]}] = "auto",
    noise_level: Annotated[float, {"min": 0.0, "max": 1e9, "tooltip": "0: estimated"}] = 0.0,
    spacing: Annotated[float, {"min": 0.0, "max": 1e3, "tooltip": "0: the pixels' size"}] = 0.0,
    psf: str = "",
    sampler: str = "auto",
    samples: Annotated[int, {"min": 1, "max": 64}] = 1,
    seed: Annotated[int, {"min": 0, "max": 2**31 - 1}] = 0,
) -> "napari.qt.threading.FunctionWorker[list[napari.types.LayerDataTuple]]":
    """Restore a volume; for research only, not for diagnosis.

    mask: of task inpaint, not zero where voxels are lost, on the image's voxels. noise: of denoise. noise_level: in the
    volume's units. spacing: of superres, mm between the new slices. psf: of deblur, full width at half maximum in mm,
    one number or three with commas. Raises ConfigError.
    """
    threading = load_extra("napari.qt.threading", "napari", "the widget")
    volume = volume_of(image.data, image.data_to_world, image.metadata, image.name)
    given: dict[str, Any] = {
        "noise": None if noise == "auto" else noise, "noise_level": noise_level or None, "spacing": spacing or None,
        "psf": psf or None,
    }  # fmt: skip
    if mask is not None:
        given["mask"] = volume_of(mask.data, mask.data_to_world, mask.metadata, mask.name)
    return threading.create_worker(
        restored_layers, volume, image.name, task, given, sampler, samples, seed, _start_thread=True
    )


def restored_layers(
    volume: Volume, name: str, task: str, given: dict[str, Any], sampler: str, samples: int, seed: int
) -> list[LayerData]:  # fmt: skip
    """What `restore volume` makes of a volume, as layers: the result, of several samples deviation and interval too.

    given: options of the task, None where they are not; volumes among them as such. Notes become warnings. Raises
    ConfigError for an option that is another task's, InputError, and what the job raises.
    """
    with tempfile.TemporaryDirectory(prefix="restore-napari-") as private:
        folder = Path(private)
        source = write(volume, folder / "volume.nii.gz")
        told = {}
        taken = {field.name for field in dataclasses.fields(task_class(task))}
        for option, value in given.items():
            if value is None:
                continue
            if option not in taken:
                raise ConfigError(
                    f"{option.replace('_', ' ')} is not for task {task}: leave it out"
                )
            is_volume = isinstance(value, Volume)
            told[option] = write(value, folder / f"{option}.nii.gz") if is_volume else value
        job = VolumeJob(
            (source,), folder / "restored.nii.gz", task_class(task)(**told), sampler,
            options=DrawOptions(samples=samples, seed=seed), modality=volume.modality,
        )  # fmt: skip
        record = run(plan(job), choose_device())
        for note in record["notes"]:
            warnings.warn(str(note), stacklevel=2)
        kinds = ("restored", "deviation", "interval")
        found = [read(path, modality=volume.modality) for path in job.results.volumes]
    beside = {"colormap": "magma", "visible": False}
    return [
        layer_of(volume, f"{name} {kind}", **(beside if kind != kinds[0] else {}))
        for volume, kind in zip(found, kinds, strict=False)
    ]
