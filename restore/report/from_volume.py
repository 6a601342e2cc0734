"""One restored volume as a study of a single page: result, input, record.

Called by `restore volume --report` after the result is written; reads both back from their files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from restore.datasets.open import read
from restore.datasets.volume.volume import GeometryError, Volume, align_to
from restore.report.from_recon import chunks_table, misfit_charts, report_path, spread_of
from restore.report.study import (
    Cell,
    Column,
    Images,
    Layer,
    Page,
    Section,
    Study,
    Table,
    number,
    record_tables,
)

if TYPE_CHECKING:
    from restore.pipelines.volume.job import VolumeJob

__all__ = ["report_path", "study_of_volume"]


def study_of_volume(job: VolumeJob, record: Mapping[str, Any]) -> Study:
    """The study of a finished job. record: the sidecar's. Raises what reading the result or the input raises."""
    source = read(job.inputs[0], modality=job.modality, repair=job.repair, **job.which)
    image = read(job.out, modality=source.modality)
    layers, notes = [], ["There is no reference, and there are no figures of quality."]
    try:
        layers.append(Layer("input", "input", _plain(align_to(image, source)), job.inputs[0].name))
    except GeometryError as error:
        notes.append(f"The input lies on another grid and is not shown: {error.why}.")
    spread = spread_of(job.out, record, image)
    layers.append(Layer(job.task.name, "method", _plain(image), "", **spread))
    indices = tuple(range(image.n_slices))
    images = Images(tuple(layers), indices, image.affine, image.modality, image.units, tuple(notes))
    name = str(record.get("sampler", {}).get("name", "result"))
    facts = (("task", job.task.name), ("sampler", name))
    page = Page(
        job.inputs[0].name,
        job.out.name,
        lambda: images,
        facts=facts,
        charts=misfit_charts(name, record),
    )
    shown = {key: value for key, value in record.items() if key not in ("curve", "chunks")}
    return Study(
        title=job.out.name,
        subtitle=f"{job.inputs[0].name}: {image.n_slices} slices, {job.task.name} by {name}",
        sections=(Section("Result", (_table(record),)),), pages=(page,),
        provenance=(*record_tables(shown), chunks_table(record)),
        notes=tuple(map(str, record.get("notes", ()))), single=True,
    )  # fmt: skip


def _plain(volume: Volume) -> Any:
    return np.asarray(volume.data, np.float32)


def _table(record: Mapping[str, Any]) -> Table:
    names = ("largest misfit", "evaluations", "seconds", "peak MB")
    chunks = record.get("chunks", [])
    cells = [
        number(max((float(chunk["misfit"]) for chunk in chunks), default=None), 3),
        number(int(chunks[0].get("evaluations", 0)) if chunks else None, 6),
        number(record.get("seconds")), number(record.get("peak_memory_mb"), 5),
    ]  # fmt: skip
    task = Cell(str(record.get("task", "")))
    return Table("Figures", (Column("Task"), *(Column(n, True) for n in names)), ((task, *cells),))
