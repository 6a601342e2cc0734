"""What one reconstruction is told: its files and options, the names of its results, and what tells it from others.

Made by `restore recon` and `restore demo`, done by `run_recon`. Reads the files that are named for their hashes alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from restore.datasets.content import spelled_out
from restore.datasets.content_hash import sha256_of
from restore.datasets.mri.files.cfl import other_half
from restore.datasets.sidecar import source_record
from restore.pipelines.adapting import FIT, adapter_path, fingerprint_of
from restore.pipelines.interval import IntervalOptions
from restore.pipelines.pieces import MAPS
from restore.pipelines.quality import quality_record
from restore.pipelines.recon_options import ReconOptions
from restore.pipelines.replay_entries import replayable
from restore.pipelines.results import Results
from restore.priors.store import read_card
from restore.registry import load_sampler
from restore.samplers.base import Sampler
from restore.starts import DRAWN


@dataclasses.dataclass(frozen=True)
class ReconJob:
    """What to do.

    prior: a bundled name, a weight file, or "auto", the bundled denoiser for scans.
    preset, settings: the sampler's named settings and what replaces single ones. interval: around the mean of several
    samples. quality: of `quality.Quality`. like: folder of the DICOM series to take identity from; like_which:
    `series`, `index` and `echo` of `restore.read`, where that folder holds several. repair: "zero" blanks samples that
    are not finite. kspace_order: of `kspace_order.ORDERS`, "" to refuse k-space that is not centred.
    select: which image of raw data. axes: of k-space in named arrays. trajectory, pattern: files of BART that belong to
    the scan. maps: a file of coil maps in the place of the scan's. field_map: of frequencies in Hz, with readout_times,
    words or a file of seconds where the scan tells none.
    projections: of a geometry of RTK. detector_pixel: pitch in mm where a CT file does not tell it; grid: voxels,
    "SHAPE@MM", where it says none. units, mu_water: of `AttenuationScan.in_units`.
    frames, frame_s: over time, of `over_time.in_frames`.
    adapt: "fit" fits an adapter of the prior to the scan, a file holds one.
    """

    scan: Path
    out: Path
    sampler: str = "dds"
    preset: str = "tuned"
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    prior: str = "auto"
    adapt: str = ""
    options: ReconOptions = dataclasses.field(default_factory=ReconOptions)
    interval: IntervalOptions = dataclasses.field(default_factory=IntervalOptions)
    quality: str = "standard"
    repair: str = ""
    kspace_order: str = ""
    select: str = ""
    axes: str = ""
    trajectory: Path | None = None
    pattern: Path | None = None
    projections: Path | None = None
    detector_pixel: float | None = None
    grid: str = ""
    units: str = ""
    mu_water: float | None = None
    maps: Path | None = None
    field_map: Path | None = None
    readout_times: str = ""
    frames: int | None = None
    frame_s: float | None = None
    like: Path | None = None
    like_which: dict[str, Any] = dataclasses.field(default_factory=dict)
    overwrite: bool = False

    def spelled_out(self) -> ReconJob:
        """With the ends of BART's names, which may be left out."""
        named = ("scan", "trajectory", "pattern", "maps", "field_map")
        given: dict[str, Any] = {
            name: spelled_out(path) for name in named if (path := getattr(self, name)) is not None
        }
        return dataclasses.replace(self, **given)

    @property
    def times_file(self) -> Path | None:
        """The file that `readout_times` names, None for words."""
        path = spelled_out(self.readout_times)
        return path if self.readout_times and path.is_file() else None

    @property
    def tells_spread(self) -> bool:
        """Whether deviation and interval are results."""
        return self.options.samples > 1 and self.quality == "standard"

    @property
    def results(self) -> Results:
        """What it leaves, and where."""
        adapter, none = (adapter_path(self.out),), ()
        beside, never = (adapter, none) if self.adapt == FIT else (none, adapter)
        return Results(self.out, self.tells_spread, beside, never, self.maps_made)

    @property
    def maps_made(self) -> tuple[str, ...]:
        """The names of the maps beside the result."""
        separates = load_sampler(self.sampler).separates
        made = {"trajectory": self.options.trajectory_map, "structured": separates}
        return tuple(name for name in MAPS if made[name])

    @property
    def halves(self) -> list[Path]:
        """The other files of the BART pairs that are named."""
        named = (
            self.scan, self.trajectory, self.pattern, self.maps, self.field_map, self.times_file,
        )  # fmt: skip
        return [other for path in named if path for other in other_half(path)]

    def fingerprint(self, files: tuple[Path, ...] = ()) -> str:
        """Hash of everything that shapes the result, the input's content included; files: read beside the scan."""
        weights = read_card(self.prior)["sha256"] if load_sampler(self.sampler).prior_kinds else ""
        options = self.options.shaping()
        # As the records that know of no other; `_work` tells devices apart.
        later = ("coils_virtual", "outliers", "rings", "beam_hardening")
        for name, default in (
            ("precision", "auto"),
            ("maps_sets", 1),
            ("partial_fourier", "none"),
            *((name, "") for name in later),
        ):
            if options[name] == default:
                del options[name]
        record = {
            "scan": source_record(self.scan)["SHA256"], "sampler": self.sampler, "preset": self.preset,
            "settings": self.settings, "weights": weights, "options": options,
            "repair": self.repair, "kspace_order": self.kspace_order, "select": self.select,
            "like": source_record(self.like)["SHA256"] if self.like else "",
        }  # fmt: skip
        times = self.times_file
        beside = {
            "trajectory": self.trajectory, "pattern": self.pattern, "coil maps": self.maps,
            "field map": self.field_map, "readout times": times,
        }  # fmt: skip
        record |= {name: source_record(path)["SHA256"] for name, path in beside.items() if path}
        if halves := self.halves:
            record["halves"] = [sha256_of(other) for other in halves]
        if files:
            record["files"] = [sha256_of(path) for path in files]
        told = {
            "detector_pixel": self.detector_pixel, "grid": self.grid, "units": self.units, "mu_water": self.mu_water,
            "readout words": "" if times else self.readout_times, "frames": self.frames, "frame_s": self.frame_s,
        }  # fmt: skip
        record |= {name: value for name, value in told.items() if value not in (None, "")}
        second = Path(str(self.settings.get("second_prior", "")))
        if second.is_file():
            record["second weights"] = sha256_of(second)
        if self.axes:
            record["axes"] = self.axes
        if self.like_which:
            record["like_which"] = self.like_which
        if self.adapt:
            record["adapt"] = fingerprint_of(self.adapt)
        if self.tells_spread:
            record["interval"] = self.interval.mark()
        record |= quality_record(self.quality)
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()

    def beside_record(self, files: tuple[Path, ...]) -> dict[str, Any]:
        """How many files are read that no option names, and one hash of them all, in order. files: of the scan."""
        read = (*self.halves, *files)
        if not read:
            return {}
        each = "\n".join(sha256_of(path) for path in read)
        digest = hashlib.sha256(each.encode()).hexdigest()
        return {"beside": {"Files": len(read), "SHA256": digest}}

    def replay_record(
        self, sampler: Sampler, device: torch.device, precision: str | None, limited: bool
    ) -> dict[str, Any]:
        """The entries by which `restore recon --config` repeats the run; precision: that of the networks; limited:
        whether its time limit ended something."""
        options = self.options
        return replayable(
            "recon",
            {
                "scan": self.scan, "like": self.like, "trajectory": self.trajectory, "pattern": self.pattern,
                "projections": self.projections, "maps": self.maps,
                "field-map": self.field_map, "readout-times": self.times_file,
                "adapt": Path(self.adapt) if self.adapt not in ("", FIT) else None,
                "calibration": self.interval.calibration,
            },
            {
                "sampler": self.sampler, "preset": self.preset, "set": dataclasses.asdict(sampler),
                "samples": options.samples if self.quality == "standard" else 1, "quality": self.quality,
                "level": self.interval.level, "interval": self.interval.unit, "seed": options.seed,
                "time-limit": options.time_limit if limited else None,
                "trajectory-map": options.trajectory_map,
                "start": "" if options.start == DRAWN else options.start,
                "readout-times": "" if self.times_file else self.readout_times,
                "maps": "" if self.maps else options.maps, "maps-sets": options.maps_sets,
                "partial-fourier": options.partial_fourier,
                "coils-virtual": options.coils_virtual, "keep-phase": not options.remove_phase,
                "noise-std": options.noise_std, "repair": self.repair,
                "kspace-order": self.kspace_order, "select": self.select, "axes": self.axes,
                "projector": options.projector, "center": options.center, "outliers": options.outliers,
                "rings": options.rings,
                "beam-hardening": options.beam_hardening,
                "detector-pixel": self.detector_pixel, "grid": self.grid,
                "frames": self.frames, "frame-time": self.frame_s,
                "units": self.units, "mu-water": self.mu_water, "device": str(device), "precision": precision,
                **self.like_which, "adapt": FIT if self.adapt == FIT else "",
            },
            self.prior if sampler.prior_kinds else None,
        )  # fmt: skip
