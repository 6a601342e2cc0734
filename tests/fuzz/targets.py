"""Every reader of files from outside, a sound file for it and the mutators that know its form. Used by `runner`."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import h5py
import nibabel
import numpy as np
import pydicom
import tifffile
import torch
import typer
from fuzz import raw_data, scanners
from fuzz.mutators import (
    csv_cells,
    damaged_bytes,
    damaged_head,
    dicom_elements,
    hdf5_objects,
    inside_gzip,
    json_tree,
    number_table,
    numpy_header,
    png_chunks,
    safetensors_header,
    safetensors_record,
    text_fields,
    yaml_lines,
)
from fuzz.planted import Target
from pydicom.uid import EnhancedMRImageStorage

from restore.bench import results
from restore.bench.method import parse_methods
from restore.bench.record import read_records
from restore.bench.tuning import read_tuned
from restore.cli import app
from restore.cli.replay import read_record
from restore.datasets.ct.beam_scan import BeamScan
from restore.datasets.ct.files.beam_measurement import write_beam_measurement
from restore.datasets.ct.files.measurement import write_ct_measurement
from restore.datasets.fetch_table import TABLES, entries
from restore.datasets.open import open_scan, read, read_image, write
from restore.datasets.picture.images import write_image
from restore.datasets.picture.kernel_files import read_kernel
from restore.datasets.plain_yaml import read_plain_yaml
from restore.datasets.simulate.ct import simulate_ct
from restore.datasets.simulate.phantom import ct_phantom
from restore.datasets.stack import LazyStack
from restore.datasets.volume.volume import Volume
from restore.errors import ConfigError
from restore.operators.base import LinearOperator
from restore.operators.ct.beams import ConeBeam
from restore.operators.ct.geometry import equispaced
from restore.operators.ct.grid import VoxelGrid
from restore.operators.image.kernels import given_kernel
from restore.priors.checkpoints.content import StoredTensor, leaves
from restore.priors.checkpoints.reading import read_checkpoint
from restore.priors.edm import build_unet_denoiser, new_unet
from restore.priors.store import load_model, save_prior
from restore.priors.unet import UNetConfig
from restore.training.checkpoint import load_state, save_state

TINY = UNetConfig(1, (4, 4), (1, 1), unshuffle=1, embedding=8)


def _volume() -> Volume:
    data = np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32)
    return Volume(data, np.diag([1.0, 2, 3, 1]), "MR")


def _nrrd(folder: Path) -> Path:
    fields = (
        "NRRD0004", "type: short", "dimension: 3", "space: left-posterior-superior", "sizes: 4 3 2",
        "space directions: (1,0,0) (0,2,0) (0,0,3)", "kinds: domain domain domain", "endian: little", "encoding: raw",
        "byte skip: 0", "space origin: (1,2,3)",
    )  # fmt: skip
    head = "".join(f"{line}\n" for line in fields) + "\n"
    (folder / "a.nrrd").write_bytes(head.encode() + np.arange(24, dtype="<i2").tobytes())
    return folder / "a.nrrd"


def _metaimage(folder: Path) -> Path:
    fields = (
        "ObjectType = Image", "NDims = 3", "BinaryData = True", "CompressedData = False",
        "TransformMatrix = 1 0 0 0 1 0 0 0 1", "Offset = 1 2 3", "ElementSpacing = 1 2 3", "DimSize = 4 3 2",
        "HeaderSize = 0", "ElementType = MET_SHORT", "ElementDataFile = LOCAL",
    )  # fmt: skip
    head = "".join(f"{line}\n" for line in fields)
    (folder / "a.mha").write_bytes(head.encode() + np.arange(24, dtype="<i2").tobytes())
    return folder / "a.mha"


def _pair(folder: Path) -> Path:
    image = nibabel.Nifti1Pair(np.arange(24, dtype=np.int16).reshape(4, 3, 2), np.eye(4))
    nibabel.save(image, folder / "a.img")
    return folder / "a.hdr"


def _frames(folder: Path) -> Path:
    """Two multi-frame files of two times each."""
    plain = _series(folder)
    for number in range(2):
        image = pydicom.dcmread(plain)
        frames = []
        for k in range(4):
            place, content = pydicom.Dataset(), pydicom.Dataset()
            place.ImagePositionPatient = [0, 0, 2 * number + k // 2]
            content.TemporalPositionIndex = k % 2 + 1
            groups = pydicom.Dataset()
            groups.PlanePositionSequence, groups.FrameContentSequence = [place], [content]
            frames.append(groups)
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
        image.SeriesInstanceUID, image.SOPInstanceUID = "1.2.3", f"1.2.3.{number}"
        image.NumberOfFrames, image.PerFrameFunctionalGroupsSequence = 4, frames
        image.PixelData = image.PixelData * 4
        (folder / "frames").mkdir(exist_ok=True)
        image.save_as(folder / "frames" / f"{number}.dcm")
    return folder / "frames" / "0.dcm"


def _series(folder: Path) -> Path:
    return sorted(write(_volume(), folder / "series").iterdir())[1]


def _ct(folder: Path) -> Path:
    volume = Volume(ct_phantom((2, 16, 16)).data, np.diag([8.0, 8, 8, 1]), "CT")
    write_ct_measurement(simulate_ct(volume, views=8), folder / "a.h5")
    return folder / "a.h5"


def _projections(folder: Path) -> Path:
    values = np.random.default_rng(0).normal(1, 0.1, (4, 3, 8)).astype(np.float32)
    scan = BeamScan(
        path=folder, projections=LazyStack(values.shape, lambda i: values[i]),
        geometry=ConeBeam(equispaced(4, 360), (3, 8), 2.0, 40.0, 60.0), grid=VoxelGrid((2, 6, 6), 2.0),
        mu_water=0.02, noise_std=0.01, slice_indices=(0, 1),
    )  # fmt: skip
    write_beam_measurement(scan, folder / "a.h5")
    return folder / "a.h5"


def _array(folder: Path) -> Path:
    parts = np.random.default_rng(0).normal(size=(2, 2, 2, 8, 8))
    np.save(folder / "a.npy", (parts[0] + 1j * parts[1]).astype(np.complex64))
    return folder / "a.npy"


def _picture(name: str, bits: int = 8) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_image(np.random.default_rng(0).random((3, 12, 10)), folder / name, bits=bits)
        return folder / name

    return make


def _float_tiff(folder: Path) -> Path:
    image = np.random.default_rng(0).random((12, 10)).astype(np.float32)
    tifffile.imwrite(folder / "a.tif", image, photometric="minisblack")
    return folder / "a.tif"


def _lodopab(folder: Path) -> Path:
    for name, shape in (("observation", (2, 12, 17)), ("ground_truth", (2, 11, 11))):
        with h5py.File(folder / f"{name}_test_000.hdf5", "w") as file:
            file["data"] = np.random.default_rng(0).random(shape).astype(np.float32)
    return folder / "observation_test_000.hdf5"


def _kernel(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        kernel = np.outer([1.0, 2, 1], [1, 2, 1]) / 16
        np.save(folder / name, kernel) if name.endswith(".npy") else np.savetxt(
            folder / name, kernel
        )
        return folder / name

    return make


def _table(folder: Path) -> Path:
    lines = (
        "data:", "  phantoms:", "    what: weekly phantom scans", "    licence: internal", "    files:",
        "      - name: phantom.nii.gz", "        url: http://127.0.0.1:8000/phantom.nii.gz",
        f'        sha256: "{"0a" * 32}"', "        bytes: 1234", "priors: null",
    )  # fmt: skip
    (folder / "a.yaml").write_text("\n".join(lines))
    return folder / "a.yaml"


def _entries(path: Path) -> None:
    os.environ[TABLES] = str(path)
    entries("data"), entries("priors")


def _tuned(folder: Path) -> Path:
    chosen = {
        "setting": "denoise",
        "method": "tv",
        "name": "weight",
        "value": "0.1",
        "psnr": 30.0,
        "tried": [["0.1", 30.0]],
    }
    record = {
        "format": 1,
        "kind": "tuned settings",
        "protocol": "images",
        "volumes": ["a"],
        "chosen": [chosen],
    }
    (folder / "tuned.json").write_text(json.dumps(record))
    return folder / "tuned.json"


def _methods(path: Path) -> None:
    values, _ = read_tuned(path, "images")
    for method in parse_methods("tv", preset="tuned", prior="auto", assignments=(), tuned=values):
        method.sampler_for("denoise", LinearOperator, check=False)


def _run_record(folder: Path) -> Path:
    record = {
        "format": 1, "protocol": "images", "average_over": "volume", "headline": ["psnr"], "settings": ["denoise"],
        "environment": {"Device": "cpu"}, "calls": [{"methods": [{"name": "tv"}], "options": {}, "seed": 0}],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder / "run.json"


def _beside_a_scan(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def both(folder: Path) -> Path:
        raw_data.mri_file(folder)
        return make(folder)

    return both


def _dry(path: Path) -> None:
    """What `restore recon --config FILE --dry-run` does with it."""
    command = typer.main.get_command(app).commands["recon"]  # type: ignore[attr-defined]
    words = ["a.h5", "-o", "b.nii", "--config", path.name, "--dry-run"]
    try:
        with contextlib.chdir(path.parent), contextlib.redirect_stdout(io.StringIO()):
            command.main(words, standalone_mode=False)
    except click.ClickException as error:
        raise ConfigError(str(error)) from error


def _record(folder: Path) -> Path:
    record = {
        "IntendedUse": "Research use only", "status": "done", "fingerprint": "ab" * 32, "outputs": ["a.nii.gz"],
        "run": {"verb": "recon", "sampler": "dds", "set": {"n_steps": 3, "eta": 0.5}, "seed": 0, "maps": None},
        "sources": [{"Option": "scan", "File": "a.h5", "SHA256": "cd" * 32}],
    }  # fmt: skip
    (folder / "a.json").write_text(json.dumps(record))
    return folder / "a.json"


def _run_file(folder: Path) -> Path:
    lines = (
        "verb: recon",
        "sampler: dds",
        "seed: 3",
        "set:",
        "  n_steps: 5",
        "  eta: 0.5",
        "samples: 2",
    )
    (folder / "a.yaml").write_text("\n".join(lines))
    return folder / "a.yaml"


def _prior(folder: Path) -> Path:
    return save_prior(folder / "a.safetensors", build_unet_denoiser(TINY, name="a"), {"data": []})


def _checkpoint(zipped: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        content = {
            "state_dict": {"a.w": torch.ones(3, 4), "b": torch.arange(5)},
            "step": 3,
            "lr": np.float64(1),
        }
        torch.save(content, folder / "a.pt", _use_new_zipfile_serialization=zipped)
        return folder / "a.pt"

    return make


def _tensors(path: Path) -> None:
    for _, value in leaves(read_checkpoint(path).tree):
        if isinstance(value, StoredTensor):
            value.read()


def _card(folder: Path) -> Path:
    return _prior(folder).with_suffix(".json")


def _load_weights(path: Path) -> None:
    """The card vouches for the damaged weights, so that what lies behind the checksum is tried."""
    card = json.loads(path.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(card))
    load_model(path)


def _training(folder: Path) -> tuple[torch.nn.Module, dict[str, Any], torch.optim.Optimizer]:
    network = new_unet(TINY, 0)
    optimiser = torch.optim.Adam(network.parameters())
    sum(p.sum() for p in network.parameters()).backward()
    optimiser.step()
    return network, {k: v.clone() for k, v in network.state_dict().items()}, optimiser


def _state(folder: Path) -> Path:
    record = {"identity": {"data": "x", "seed": 0}, "progress": {"step": 3, "seconds": 1.5}}
    save_state(folder / "a.state.safetensors", *_training(folder), record)
    return folder / "a.state.safetensors"


def _load_state(path: Path) -> None:
    load_state(path, *_training(path.parent), {"data": "x", "seed": 0})


def _rows(folder: Path) -> Path:
    for number in range(2):
        row = results.Row(
            f"k{number}", "ct", "v", "s", "tv", "done", psnr=30.5, seed=1, settings={"lam": 0.1}, curve=[[1.0, 2.0]],
            per_slice={"psnr": [1.0, 2.0]}, seconds=1.5, evaluations=3,
        )  # fmt: skip
        results.append(folder / "results.csv", row)
    return folder / "results.csv"


def _scan(path: Path, **options: Any) -> None:
    scan = open_scan(path, **options)
    scan.setup()
    for stack in (
        getattr(scan, name, None)
        for name in ("kspace", "sinogram", "projections", "maps", "reference")
    ):
        if stack is not None:
            stack[0], stack[len(stack) // 2]


def _scan_of_yaml(path: Path) -> None:
    """Of a file that belongs to a stack of frames."""
    _scan(path.with_name("a.yaml"))


TARGETS = (
    Target("nifti", lambda f: write(_volume(), f / "a.nii"), read, (damaged_head, damaged_bytes)),
    Target(
        "nifti-gz", lambda f: write(_volume(), f / "a.nii.gz"), read,
        (damaged_bytes, inside_gzip(damaged_head), inside_gzip(damaged_bytes)),
    ),
    Target("nifti-pair", _pair, read, (damaged_head, damaged_bytes)),
    Target("nrrd", _nrrd, read, (text_fields, damaged_bytes)),
    Target("metaimage", _metaimage, read, (text_fields, damaged_bytes)),
    Target("dicom-file", _series, read, (dicom_elements, damaged_bytes)),
    Target("dicom-frames", _frames, lambda p: read(p.parent, index=1), (dicom_elements, damaged_bytes)),
    Target("dicom-folder", _series, lambda p: read(p.parent), (dicom_elements, damaged_bytes)),
    Target("ismrmrd", raw_data.ismrmrd_file, _scan, (hdf5_objects, damaged_bytes)),
    Target("bart-header", raw_data.bart("hdr"), raw_data.bart_with_maps, (number_table, damaged_bytes)),
    Target("bart-values", raw_data.bart("cfl"), raw_data.bart_with_maps, (damaged_bytes, damaged_head)),
    Target("bart-maps", raw_data.bart_maps, raw_data.bart_with_maps, (number_table, damaged_bytes)),
    Target("npz", raw_data.named("npz"), _scan, (damaged_bytes, damaged_head)),
    Target("mat-7.3", raw_data.named("7.3"), _scan, (hdf5_objects, damaged_bytes)),
    Target("mat-5", raw_data.named("5"), _scan, (damaged_bytes, damaged_head)),
    Target("twix-vb", raw_data.twix(False), _scan, (damaged_bytes, damaged_head)),
    Target("twix-vd", raw_data.twix(True), _scan, (damaged_bytes, damaged_head)),
    Target("mri-trajectory", raw_data.trajectory_file, _scan, (hdf5_objects, hdf5_objects, damaged_bytes)),
    Target("mri-hdf5", raw_data.mri_file, _scan, (hdf5_objects, hdf5_objects, damaged_bytes)),
    Target("ct-projections", _projections, _scan, (hdf5_objects, hdf5_objects, damaged_bytes)),
    Target("dxchange", scanners.dxchange, _scan, (hdf5_objects, hdf5_objects, damaged_bytes)),
    Target("projection-stack", scanners.stack, _scan, (yaml_lines, yaml_lines, damaged_bytes)),
    Target("projection-frame", scanners.in_stack("view_0001.tif"), _scan_of_yaml, (damaged_head, damaged_bytes)),
    Target("angle-table", scanners.in_stack("angles.txt"), _scan_of_yaml, (number_table, damaged_bytes)),
    Target("skyscan", scanners.skyscan, _scan, (text_fields, text_fields, damaged_bytes)),
    Target("nikon", scanners.nikon, _scan, (text_fields, text_fields, damaged_bytes)),
    Target("rtk", scanners.rtk, lambda p: _scan(p, projections=p.with_suffix(".mha")), (damaged_head, damaged_bytes)),
    Target("ct-pd", scanners.ct_pd, lambda p: _scan(p.parent), (dicom_elements, damaged_bytes)),
    Target("ct-hdf5", _ct, _scan, (hdf5_objects, hdf5_objects, damaged_bytes)),
    Target("npy", _array, _scan, (numpy_header, damaged_bytes)),
    Target("png", _picture("a.png"), read_image, (png_chunks, damaged_bytes)),
    Target("png16", _picture("a.png", 16), read_image, (png_chunks, damaged_bytes)),
    Target("jpeg", _picture("a.jpg"), read_image, (damaged_head, damaged_bytes)),
    Target("tiff", _picture("a.tif"), read_image, (damaged_head, damaged_bytes)),
    Target("tiff16", _picture("a.tif", 16), read_image, (damaged_head, damaged_bytes)),
    Target("tiff-float", _float_tiff, read_image, (damaged_head, damaged_bytes)),
    Target("lodopab", _lodopab, _scan, (hdf5_objects, hdf5_objects, damaged_bytes)),
    Target("kernel-npy", _kernel("a.npy"), lambda p: given_kernel(read_kernel(p)), (numpy_header, damaged_bytes)),
    Target("kernel-txt", _kernel("a.txt"), lambda p: given_kernel(read_kernel(p)), (number_table, damaged_bytes)),
    Target("kernel-png", _picture("a.png", 16), lambda p: given_kernel(read_kernel(p)), (png_chunks, damaged_bytes)),
    Target("fetch-table", _table, _entries, (yaml_lines, yaml_lines, damaged_bytes)),
    Target("tuned", _tuned, _methods, (json_tree, damaged_bytes)),
    Target("run-record", _run_record, lambda p: read_records(p.parent), (json_tree, damaged_bytes)),
    Target("record", _record, read_record, (json_tree, damaged_bytes)),
    Target("run-file", _run_file, lambda p: read_plain_yaml(p, 4), (yaml_lines, damaged_bytes)),
    Target("config-yaml", _beside_a_scan(_run_file), _dry, (yaml_lines, yaml_lines, damaged_bytes)),
    Target("config-json", _beside_a_scan(_record), _dry, (json_tree, json_tree, damaged_bytes)),
    Target("weights", _prior, _load_weights, (safetensors_header, damaged_bytes)),
    Target("torch-zip", _checkpoint(True), _tensors, (damaged_bytes, damaged_head)),
    Target("torch-older", _checkpoint(False), _tensors, (damaged_bytes, damaged_head)),
    Target("card", _card, lambda p: load_model(p.with_suffix(".safetensors")), (json_tree, damaged_bytes)),
    Target("training-state", _state, _load_state, (safetensors_header, safetensors_record, damaged_bytes)),
    Target("results", _rows, lambda p: results.load(p.parent), (csv_cells, damaged_bytes)),
)  # fmt: skip
