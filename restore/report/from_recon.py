"""One reconstruction as a study of a single page: volume, input, reference where there is one, record.

Called by `restore recon --report` after the result is written; reads the result back from its files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from restore.bench.coverage import spread_bins
from restore.conformal import FOREGROUND
from restore.datasets.atomic import name_suffix
from restore.datasets.open import read, writer_for
from restore.datasets.scan import Scan
from restore.datasets.volume.volume import Unplaced, Volume, align_to
from restore.errors import ConfigError
from restore.pipelines.evaluate import Evaluation, evaluate_volume
from restore.pipelines.pieces import MAPS
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.results import interval_path, map_path, std_path
from restore.pipelines.scan_to_volume import reconstruct
from restore.registry import load_sampler
from restore.report.study import (
    NOTHING,
    Cell,
    Chart,
    Column,
    Images,
    Layer,
    Page,
    Section,
    Series,
    Study,
    Table,
    fixed,
    number,
    record_tables,
)
from restore.report.uncertainty import uncertainty_charts
from restore.time_limit import was_ended


def report_path(out: Path) -> Path:
    """The folder OUT_report beside a result, its suffix left out."""
    return out.with_name(out.name.removesuffix(name_suffix(out)) + "_report")


def study_of_recon(
    scan: Scan, out: Path, record: Mapping[str, Any], options: ReconOptions
) -> Study:
    """The study of a finished reconstruction. record: the sidecar's; options: it was made with.

    The input is made anew with a classical method on the CPU. Raises what reading the result raises.
    """
    grid = scan.empty_volume()
    image = read_back(out, grid)
    spread = spread_of(out, record, grid) | maps_of(out, record, grid)
    name = str(record.get("sampler", {}).get("name", "result"))
    stacks: dict[str, NDArray[Any]] = {}
    if name != scan.first_look:
        stacks[f"input: {scan.first_look}"] = _first_look(scan, options)
    stacks[name] = np.asarray(image.data, np.float32)
    truth = None if scan.reference is None else np.asarray(scan.reference[:], np.float32)
    figures, notes = _figures(stacks, truth, grid)
    layers = [
        Layer(label, "method" if label == name else "input", stack, _said(figures.get(label)),
              **(spread if label == name else {}))
        for label, stack in stacks.items()
    ]  # fmt: skip
    if truth is not None:
        layers.append(Layer("reference", "reference", truth, "carried by the scan"))
    known = scan.affine is not None
    images = Images(
        tuple(layers), scan.slice_indices, grid.affine if known else None, grid.modality, grid.units, tuple(notes)
    )  # fmt: skip
    facts = _facts(scan, record, figures)
    charts = misfit_charts(name, record)
    if truth is not None and "std" in spread:
        samples = int(record["options"]["samples"])
        charts = (*_calibration(name, stacks[name], spread["std"], truth, scan, samples), *charts)
    page = Page(scan.path.name, out.name, lambda: images, facts=facts, charts=charts)
    shown = {key: value for key, value in record.items() if key not in ("curve", "chunks")}
    return Study(
        title=out.name, subtitle=f"{scan.path.name}: {scan.n_slices} slices by {name}",
        sections=(Section("Result", (_table(stacks, figures, record, facts),)),), pages=(page,),
        provenance=(*record_tables(shown), chunks_table(record)),
        notes=tuple(map(str, record.get("notes", ()))), single=True,
    )  # fmt: skip


def read_back(path: Path, grid: Volume) -> Volume:
    """A result on the grid that it was reconstructed on, or on that of one beside it: by positions, or voxel by voxel
    where the scan told no place.

    A place that nobody told is made up anew by whoever reads the file, so that positions mean nothing there. Of a
    series over time voxel by voxel too: its frames lie in one place.
    """
    untold = "modality" in writer_for(path).options
    series = grid.frames > 1
    found = read(path, modality=grid.modality if untold else "", frames=series or None)
    if not isinstance(grid.header, Unplaced) and not series:
        return align_to(grid, found)
    return grid.with_data(found.data)


def spread_of(out: Path, record: Mapping[str, Any], grid: Volume) -> dict[str, Any]:
    """Deviation and interval of several samples, as a `Layer` takes them; nothing of one, or of a mean without them.

    record: the sidecar's; grid: that of the result. Raises what reading them raises.
    """
    told = record.get("interval")
    if not isinstance(told, Mapping):
        return {}
    std, width = (read_back(path, grid).data for path in (std_path(out), interval_path(out)))
    kind = "calibrated" if told.get("calibrated") else "nominal"
    words = f"{float(told.get('level', 0)):.3g} for {told.get('of', 'pixels')}, {kind}"
    return {"std": std, "interval": width, "interval_is": words}


def maps_of(out: Path, record: Mapping[str, Any], grid: Volume) -> dict[str, Any]:
    """Trajectory map and structured noise as a `Layer` takes them, where the job made them. Raises what reading them
    raises."""
    made = set(map(str, record.get("outputs", ())))
    paths = {name: map_path(out, name) for name in MAPS}
    return {n: read_back(path, grid).data for n, path in paths.items() if path.name in made}


def _calibration(
    name: str, image: NDArray[Any], std: NDArray[Any], truth: NDArray[Any], scan: Scan, samples: int
) -> tuple[Chart, ...]:
    """The spread of the samples against the truth that the scan carries, without the air of magnitudes."""
    if truth.shape != image.shape:
        return ()
    where = (
        truth > FOREGROUND * truth.max() if scan.modality == "MR" else np.ones(truth.shape, bool)
    )
    error = np.asarray(image, np.float64)[where] - truth[where]
    bins = spread_bins(error, np.asarray(std, np.float64)[where], samples)
    return uncertainty_charts({name: [bins]})


def _first_look(scan: Scan, options: ReconOptions) -> NDArray[Any]:
    sampler = load_sampler(scan.first_look).configured("tuned", scan, {})
    classical = dataclasses.replace(options, samples=1, trace=False)
    return reconstruct(scan, sampler, None, classical, device=torch.device("cpu")).volume.data


def _figures(
    stacks: Mapping[str, NDArray[Any]], truth: NDArray[Any] | None, grid: Volume
) -> tuple[dict[str, Evaluation], list[str]]:
    """Figures of each stack where the scan has a reference that can be compared with."""
    if truth is None:
        return {}, ["The scan carries no reference: there are no figures of quality."]
    target = Volume(truth, grid.affine, grid.modality, grid.units)
    try:
        found = {
            label: evaluate_volume(
                Volume(np.asarray(stack, np.float32), grid.affine, grid.modality, grid.units),
                target,
            )
            for label, stack in stacks.items()
        }
    except ConfigError as error:
        return {}, [f"There are no figures of quality: {error}."]
    return found, []


def _said(figures: Evaluation | None) -> str:
    return "" if figures is None else f"PSNR {figures.psnr:.2f} dB, SSIM {figures.ssim:.4f}"


def _facts(
    scan: Scan, record: Mapping[str, Any], figures: Mapping[str, Evaluation]
) -> tuple[tuple[str, str], ...]:
    """What the figures depend on."""
    facts = []
    if figures:
        one = next(iter(figures.values()))
        facts = [
            ("target", "the scan's reference"), ("data range", f"{one.data_range:.4g} ({one.data_range_rule})"),
            ("SSIM", one.ssim_variant),
        ]  # fmt: skip
    noise = record.get("noise_std", scan.noise_std)
    facts += [
        ("mask", scan.sampling), ("mask seed", str(scan.settings.get("seed", NOTHING))),
        ("noise std", NOTHING if noise is None else f"{noise:.4g} (units of the measurement)"),
        ("misfit", "||Ax-y|| / (std sqrt(m)) where the noise is known, else ||Ax-y|| / ||y||"),
    ]  # fmt: skip
    return tuple(facts)


def _table(
    stacks: Mapping[str, NDArray[Any]], figures: Mapping[str, Evaluation],
    record: Mapping[str, Any], facts: tuple[tuple[str, str], ...],
) -> Table:  # fmt: skip
    chunks = record.get("chunks", [])
    misfit = max((float(chunk["misfit"]) for chunk in chunks), default=None)
    calls = int(chunks[0].get("evaluations", 0)) if chunks else None
    names = ("PSNR dB", "SSIM", "NMSE", "largest misfit", "evaluations", "seconds", "peak MB")
    columns = (Column("Image"), *(Column(name, True) for name in names), Column("device"))
    lines = []
    for label in stacks:
        one = figures.get(label)
        psnr, ssim, nmse = (one.psnr, one.ssim, one.nmse) if one else (None, None, None)
        cells = [fixed(psnr, 2), fixed(ssim, 4), fixed(nmse, 5)]
        if label.startswith("input"):
            cost = [Cell(NOTHING)] * 5
        else:
            cost = [
                number(misfit, 3), number(calls, 6), number(record.get("seconds")),
                number(record.get("peak_memory_mb"), 5),
                Cell(str(record.get("environment", {}).get("Device", NOTHING))),
            ]  # fmt: skip
        lines.append((Cell(label), *cells, *cost))
    caption = "Conditions: " + "; ".join(f"{label}: {text}" for label, text in facts) + "."
    return Table("Figures", columns, tuple(lines), caption)


def misfit_charts(name: str, record: Mapping[str, Any]) -> tuple[Chart, ...]:
    """The misfit after every step of a method, where a record has it."""
    points = tuple((float(i), float(y)) for i, (_, y) in enumerate(record.get("curve", ()), 1))
    if len(points) < 2:
        return ()
    caption = "Mean over slices. ||Ax-y|| / (std sqrt(m)) where the noise is known, else ||Ax-y|| / ||y||."
    return (
        Chart(
            "Data misfit during the run", "step of the method", "data misfit",
            (Series(name, points, line=True),), caption, log_y=True,
        ),
    )  # fmt: skip


def chunks_table(record: Mapping[str, Any]) -> Table:
    """What a record says of every part that was restored by itself."""
    chunks = record.get("chunks", ())
    columns = [Column("Slices"), Column("evaluations", True), Column("misfit", True)]
    if was_ended(chunks):
        columns.append(Column("ended after step", True))
    lines = tuple(
        (
            Cell(", ".join(map(str, chunk.get("slices", ())))),
            number(chunk.get("evaluations"), 6), number(chunk.get("misfit"), 3),
            Cell(" of ".join(map(str, chunk.get("ended_after", ()))) or NOTHING),
        )[: len(columns)]
        for chunk in chunks
    )  # fmt: skip
    return Table("Data misfit of each part", tuple(columns), lines)
